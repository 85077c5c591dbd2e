"""What a person sees while an experiment runs.

On a terminal a small panel stays at the bottom, and events scroll past above it. Elsewhere, in CI logs
say, there are plain lines: one per event, and the load every five seconds. The console belongs to the
caller and writes to standard error; standard output stays free for ``--json``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.text import Text

from harness.report import words

LOAD_EVERY_S = 5
ENDED = frozenset({"healed", "ended", "skipped"})


@dataclass(frozen=True)
class Load:
    """Figures of one second. None: nothing was due or nothing completed in it."""

    second: int
    rate: float | None
    ok_percent: float | None
    p99_ms: float | None

    def __str__(self) -> str:
        rate = _figure(self.rate, "/s", 0)
        return f"load {rate}, ok {_figure(self.ok_percent, ' %', 1)}, p99 {_figure(self.p99_ms, ' ms', 0)}"


class Progress:
    """Live progress; a context manager. Safe to call from several threads.

    ``plain`` False needs a terminal behind ``console``. ``clock`` gives seconds, for the elapsed time.
    """

    def __init__(self, console: Console, plain: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._started = clock()
        self._lock = threading.Lock()
        self._phase = ("starting", "")
        self._load: Load | None = None
        self._told_load_s: int | None = None
        self._faults: dict[str, str] = {}
        self._live = (
            None
            if plain
            else Live(get_renderable=self._panel, console=console, refresh_per_second=4, transient=True)
        )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def phase(self, name: str, detail: str = "") -> None:
        """A phase begins: deploy, steady, fault, recovery ..."""
        with self._lock:
            self._phase = (words.one_line(name), words.one_line(detail))
            self._say(f"{self._phase[0]}: {self._phase[1]}" if detail else self._phase[0], "bold")

    def event(self, text: str) -> None:
        """Something happened that is worth a line."""
        with self._lock:
            self._say(text)

    def load(self, second: int, rate: float | None, ok_percent: float | None, p99_ms: float | None) -> None:
        """The figures of a ``second`` since the start of load; percentages 0-100."""
        with self._lock:
            self._load = Load(second, rate, ok_percent, p99_ms)
            due = self._told_load_s is None or second - self._told_load_s >= LOAD_EVERY_S
            if self._live is None and due:
                self._told_load_s = second
                self._say(f"{self._load} (second {second})")

    def fault(self, id: str, state: str) -> None:
        """A fault changed its state: ``injected``, ``proved``, ``healed`` ..."""
        with self._lock:
            self._faults = self._faults | {id: state}
            self._say(f"fault {id}: {state}", "yellow" if state not in ENDED else "")

    def _say(self, text: str, style: str = "") -> None:
        """One line above the panel, or just one line. Never markup: the text may be the system's."""
        line = Text.assemble((f"{self._elapsed():>7} ", "dim"), (words.one_line(text, 1_000), style))
        self._console.print(line, soft_wrap=True, highlight=False)

    def _elapsed(self) -> str:
        minutes, seconds = divmod(int(self._clock() - self._started), 60)
        return f"{minutes}:{seconds:02d}"

    def _panel(self) -> RenderableType:
        """Drawn by rich's own thread, which holds rich's lock: taking ours here could lock up both.

        So it only reads attributes that are replaced as a whole, never changed in place.
        """
        (name, detail), load, faults = self._phase, self._load, self._faults
        rows = [Text.assemble((f"{self._elapsed():>7} ", "dim"), (name, "bold"), f"  {detail}")]
        rows.append(Text(f"        {load or 'load: none yet'}"))
        for fault, state in faults.items():
            if state not in ENDED:
                told = f"        fault {words.one_line(fault)}: {words.one_line(state)}"
                rows.append(Text(told, style="yellow"))
        for row in rows:
            row.no_wrap, row.overflow = True, "ellipsis"
        return Group(Rule(style="dim"), *rows)


def _figure(value: float | None, unit: str, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}{unit}"
