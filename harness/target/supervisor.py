"""The harness's side of the supervisor process (``harness.target.reaper``): start it first, ask it for all.

Everything a run starts, services, the Toxiproxy engine and the load generator alike, is spawned through
one ``Supervisor``, so that nothing can be left behind however the harness dies.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.errors import EnvironmentBroken
from harness.spawn import allow_open_files
from harness.target import proctree
from harness.target.scratch import RUN_VARIABLE, scratch_folder

START_PATIENCE_S = 15.0
ANSWER_PATIENCE_S = 15.0
END_PATIENCE_S = 40.0

_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
_BOOT = "import sys; sys.path.insert(0, {root!r}); from harness.target.reaper import main; main()"

Message = dict[str, Any]


class SupervisedChild:
    """A service's main process and its whole tree. Satisfies ``harness.target.lives.Lived``."""

    def __init__(self, supervisor: Supervisor, number: int, pid: int) -> None:
        self._supervisor = supervisor
        self._number = number
        self._pid = pid
        self._ended = threading.Event()
        self._code: int | None = None
        self.ended_ns: int | None = None

    @property
    def pid(self) -> int:
        return self._pid

    def poll(self) -> int | None:
        """None until the main process *and everything below it* is gone."""
        return self._code if self._ended.is_set() else None

    def wait(self, timeout_s: float) -> int | None:
        return self._code if self._ended.wait(timeout_s) else None

    def signal(self, number: int) -> None:
        """To the main process only."""
        if not self._ended.is_set():
            self._supervisor.ask("signal", child=self._number, number=int(number))

    def kill_tree(self) -> None:
        """SIGKILL the main process and every descendant; returns when all are gone."""
        if self._ended.is_set():
            return
        self._supervisor.ask("kill", child=self._number)
        if not self._ended.wait(ANSWER_PATIENCE_S):
            raise EnvironmentBroken(f"process {self._pid} lives {ANSWER_PATIENCE_S:g} s after SIGKILL")

    def tree(self) -> list[proctree.Process]:
        """The main process and all its descendants that live now, orphaned ones too."""
        main = proctree.look(self._pid)
        if main is None or self._ended.is_set():
            return []
        return proctree.descendants(main.parent)  # its keeper, to which orphans come

    def pause_tree(self) -> None:
        """SIGSTOP all; returns when all stand still."""
        self._supervisor.ask("pause", child=self._number)

    def resume_tree(self) -> None:
        """SIGCONT all, children first."""
        self._supervisor.ask("resume", child=self._number)

    def end(self, code: int | None, at_ns: int) -> None:
        """The supervisor has seen its end. A keeper that was killed knows no code: it counts as SIGKILL."""
        self._code = -signal.SIGKILL if code is None else code
        self.ended_ns = at_ns
        self._ended.set()


class _Pending:
    """A question that waits for its answer."""

    def __init__(self) -> None:
        self.came = threading.Event()
        self.answer: Message = {}


class Supervisor:
    """Starts processes and is answerable for their end. Satisfies ``harness.spawn.Spawner``.

    ``scratch`` (mode 0700) exists from ``start`` to ``close``. May be used from several threads.
    """

    def __init__(self, run_id: str, scratch: Path, process: subprocess.Popen[bytes], link: socket.socket):
        self.run_id = run_id
        self.scratch = scratch
        self._process = process
        self._link = link
        self._lock = threading.Lock()
        self._pending: dict[int, _Pending] = {}
        self._children: dict[int, SupervisedChild] = {}
        self._last_id = 0
        self._end_patience_s = END_PATIENCE_S
        self._gone = threading.Event()
        self._closed = False
        self._first = _Pending()
        self._reader = threading.Thread(target=self._read, name="supervisor", daemon=True)
        self._reader.start()

    @classmethod
    def start(cls, run_id: str) -> Supervisor:
        """Start the supervisor process; it makes the scratch folder. Raises EnvironmentBroken."""
        allow_open_files()
        scratch = scratch_folder(run_id)
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", "-c", _BOOT.format(root=_PACKAGE_ROOT)),
                    *(str(theirs.fileno()), run_id, str(scratch), str(os.getpid())),
                ],
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, RUN_VARIABLE: run_id},
            )
        supervisor = cls(run_id, scratch, process, ours)
        supervisor._await_first()
        return supervisor

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """False once the supervisor process has ended, with all it had started."""
        return not self._gone.is_set()

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
    ) -> SupervisedChild:
        """Start ``argv`` with exactly ``env`` (and the run's mark); output appends to ``log``.

        Raises EnvironmentBroken when the program cannot be started.
        """
        answer = self.ask(
            "spawn",
            name=name,
            argv=list(argv),
            env={**env, RUN_VARIABLE: self.run_id},
            cwd=str(cwd),
            log=str(log),
        )
        with self._lock:
            return self._child(answer["child"], answer["pid"])

    def bequeath(self, argv: Sequence[str], env: Mapping[str, str], patience_s: Mapping[str, float]) -> int:
        """Have a command run when the run is over, however it ends (see ``harness.target.reaper``).

        Say so before the first thing exists that only the command can remove. ``patience_s``: how long it
        may take when the harness ``ended``, and when it ``died``. Returns what ``revoke`` takes.
        """
        environment = {**env, RUN_VARIABLE: self.run_id}
        answer = self.ask("will", argv=list(argv), env=environment, patience_s=dict(patience_s))
        self._end_patience_s += patience_s["ended"]
        return int(answer["id"])

    def revoke(self, will: int) -> None:
        """Nothing that it would remove is left."""
        self.ask("revoke", will=will)

    def ask(self, op: str, **arguments: Any) -> Message:
        """One request and its answer. Raises EnvironmentBroken when it fails or nobody answers."""
        pending = _Pending()
        with self._lock:
            self._last_id += 1
            number = self._last_id
            self._pending[number] = pending
            if not self._gone.is_set():
                self._write({"id": number, "op": op, **arguments})
            else:
                pending.came.set()
        patience_s = self._end_patience_s if op == "end" else ANSWER_PATIENCE_S
        if not pending.came.wait(patience_s):
            raise EnvironmentBroken(f"the supervisor did not answer {op!r} within {patience_s:g} s")
        if not pending.answer:
            raise EnvironmentBroken("the supervisor process is gone, and all processes of the run with it")
        if "error" in pending.answer:
            subject = arguments.get("name", f"child {arguments.get('child')}")
            raise EnvironmentBroken(f"cannot {op} {subject}: {pending.answer['error']}")
        return pending.answer

    def close(self) -> None:
        """End every process, remove the scratch folder. Idempotent.

        Raises EnvironmentBroken naming what could not be removed.
        """
        if self._closed:
            return
        self._closed = True
        left: list[str] = []
        if self.alive:
            left = self.ask("end").get("left", [])
        self._link.close()
        self._process.wait(self._end_patience_s)
        self._reader.join(1)
        if self.scratch.exists() and not left:
            left = [str(self.scratch)]
        if left:
            raise EnvironmentBroken(f"left behind: {', '.join(left)}", hint="ledgerquake cleanup")

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _await_first(self) -> None:
        self._first.came.wait(START_PATIENCE_S)
        if self._first.answer.get("event") == "ready":
            return
        self._closed = True
        self._link.close()
        self._process.kill()
        self._process.wait()
        reason = self._first.answer.get("error", "it ended, or said nothing")
        raise EnvironmentBroken(f"the supervisor process did not start: {reason}")

    def _write(self, message: Message) -> None:
        with suppress(OSError):  # the reader sees the end of the stream and answers everybody who waits
            self._link.sendall(json.dumps(message).encode() + b"\n")

    def _read(self) -> None:
        """The reader thread: hand answers and exits to whom they concern, until the stream ends."""
        try:
            with self._link.makefile("rb") as lines:
                for line in lines:
                    self._dispatch(json.loads(line))
        except (OSError, ValueError):
            pass  # the stream broke in the middle: the same as its end
        self._everything_is_gone()

    def _dispatch(self, message: Message) -> None:
        if message.get("event") == "exit":
            with self._lock:
                child = self._child(message["child"], None)
            child.end(message["code"], message["at_ns"])
        elif "event" in message:
            self._first.answer = message
            self._first.came.set()
        else:
            with self._lock:
                pending = self._pending.pop(message["id"])
                if "pid" in message:
                    self._child(message["child"], message["pid"])
            pending.answer = message
            pending.came.set()

    def _child(self, number: int, pid: int | None) -> SupervisedChild:
        if number not in self._children:
            assert pid is not None  # the answer to spawn always comes before the exit
            self._children[number] = SupervisedChild(self, number, pid)
        return self._children[number]

    def _everything_is_gone(self) -> None:
        self._gone.set()
        with self._lock:
            waiting, self._pending = list(self._pending.values()), {}
            children = list(self._children.values())
        for child in children:
            if child.poll() is None:
                child.end(None, time.time_ns())
        for pending in [*waiting, self._first]:
            pending.came.set()
