"""``report.html``: one file that stands alone, for people who decide.

No network, no foreign script: the page's own script is allowed by its hash and nothing else is, so a
text from the system could not run even if it slipped through the escaping. What the page says is
decided here and in ``story``, ``words``; the template only lays it out.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from harness.check.verdict import Example, TimelineEntry
from harness.evidence.folder import write_text
from harness.report import words
from harness.report.chart import Chart, Span, draw
from harness.report.impact import UNSAID, function_table, groups
from harness.report.lanes import lanes
from harness.report.reading import Run
from harness.report.series import Series
from harness.report.story import fault_groups, fault_lines, job_lines, phases, recovered_at_s

NAME = "report.html"
MAX_EXAMPLES = 5
MAX_ENTRIES = 80
MAX_TEXT = 2_000
_FOLDER = Path(__file__).parent / "templates"


def write(run: Run) -> list[Path]:
    """Write the page into the run's folder."""
    file = run.path / NAME
    write_text(file, page(run))
    return [file]


def page(run: Run) -> str:
    """The whole page as text."""
    script = Markup((_FOLDER / "report.js").read_text("utf-8"))
    style = Markup((_FOLDER / "report.css").read_text("utf-8"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment(run)
        .get_template("report.html.j2")
        .render(
            run=run,
            answer=words.answer_of(run),
            headline=words.headline(run),
            reasons=words.reasons_of(run),
            started=_started(run),
            tiles=_tiles(run),
            lanes=lanes(run),
            charts=_charts(run),
            data=_data(run),
            expectations=words.worst_first(run.verdict.expectations) if run.verdict else [],
            invariants=words.worst_first(run.verdict.invariants) if run.verdict else [],
            faults=fault_lines(run),
            groups=fault_groups(run),
            functions=function_table(run.verdict) if run.verdict else None,
            impact=groups(run.verdict) if run.verdict else [],
            jobs=job_lines(run),
            max_examples=MAX_EXAMPLES,
            max_entries=MAX_ENTRIES,
            style=style,
            script=script,
            script_hash=digest,
        )
    )


def _environment(run: Run) -> jinja2.Environment:
    zero_ns = run.zero_ns
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(symbols=words.SYMBOLS, verdict_words=words.WORDS, unsaid=UNSAID)
    environment.filters.update(
        number=words.number,
        measured=words.measured,
        reason_of=words.reason_of,
        secs=lambda value: "–" if value is None else words.seconds(value),
        instant=lambda at_ns: _instant(at_ns, zero_ns),
        field=lambda value, key: _field(key, value, zero_ns),
        href=lambda relative: quote(relative),
        told=lambda example: _told(example, run),
    )
    return environment


def _finalize(value: Any) -> Any:
    """Every text from the system loses its control characters and its excessive length."""
    if isinstance(value, str) and not isinstance(value, Markup):
        text = words.plain(value)
        return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text) - MAX_TEXT:,} more)"
    return value


def _started(run: Run) -> str:
    if run.zero_ns is None:
        return ""
    return datetime.fromtimestamp(run.zero_ns / 1e9, UTC).strftime("%d %B %Y, %H:%M:%S UTC").lstrip("0")


def _tiles(run: Run) -> list[tuple[str, str, str]]:
    """The key figures: (label, figure, what stands under it)."""
    tiles: list[tuple[str, str, str]] = []
    if run.verdict:
        met = sum(item.verdict == "pass" for item in run.verdict.expectations)
        tiles.append(("Expectations met", f"{met} of {len(run.verdict.expectations)}", ""))
        held, violated, unsaid, silent = (
            sum(item.verdict == answer for item in run.verdict.invariants)
            for answer in ("pass", "fail", "inconclusive", "not_applicable")
        )
        judged = len(run.verdict.invariants) - silent
        under = f"{violated} violated, {unsaid} inconclusive, {silent} not applicable"
        tiles.append(("Invariants held", f"{held} of {judged}", under))
    lines = fault_lines(run)
    proved = sum(line.proved for line in lines)
    none = "unknown" if run.faults is None and run.verdict is None else "no faults"
    tiles.append(("Faults proved", f"{proved} of {len(lines)}" if lines else none, ""))
    if run.verdict:
        recovery = run.verdict.recovery_s
        under = "from the last healing" if recovery is not None else "no recovery was measured"
        tiles.append(("Recovery", "none" if recovery is None else words.seconds(recovery), under))
    if run.series:
        everything = next(iter(run.series.channels.values()))
        ok, fail, unknown = sum(everything.ok), sum(everything.fail), sum(everything.unknown)
        under = f"{ok:,} ok, {fail:,} failed, {unknown:,} unknown"
        tiles.append(("Operations", f"{ok + fail + unknown:,}", under))
    return tiles


def _spans(run: Run, series: Series) -> list[Span]:
    return [
        Span(line.tag, line.start_s, series.end_s if line.end_s is None else line.end_s)
        for line in fault_lines(run)
        if line.start_s is not None
    ]


def _charts(run: Run) -> list[Chart]:
    if run.series is None:
        return []
    spans, recovered = _spans(run, run.series), recovered_at_s(run)
    return [
        draw(name, channel, run.series, spans, recovered) for name, channel in run.series.channels.items()
    ]


def _data(run: Run) -> Mapping[str, Any]:
    """What the hover readout needs; bucket lists as in ``Channel``, latencies to 0.1 ms."""
    series = run.series
    if series is None:
        return {}
    return {
        "width": series.width_s,
        "phases": [[phase.name, phase.start_s, phase.end_s] for phase in phases(run)],
        "faults": [[span.tag, span.start_s, span.end_s] for span in _spans(run, series)],
        "channels": [
            {
                "ok": channel.ok,
                "fail": channel.fail,
                "unknown": channel.unknown,
                "p50": [None if value is None else round(value, 1) for value in channel.p50_ms],
                "p99": [None if value is None else round(value, 1) for value in channel.p99_ms],
            }
            for channel in series.channels.values()
        ],
    }


def _instant(at_ns: int, zero_ns: int | None) -> str:
    if zero_ns is None:
        return datetime.fromtimestamp(at_ns / 1e9, UTC).strftime("%H:%M:%S.%f")[:-3]
    return f"{(at_ns - zero_ns) / 1e9:+.3f} s"


def _field(key: str, value: Any, zero_ns: int | None) -> str:
    """A value of a violating row; instants as seconds from the start of load."""
    if value is None:
        return "null"
    if key.endswith("_ns") and isinstance(value, int) and value > 10**17:
        return _instant(value, zero_ns)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _told(example: Example, run: Run) -> list[TimelineEntry]:
    """The subject's timeline, with the faults among it when the checker did not put them there."""
    entries = list(example.timeline)
    if entries and not any(entry.source == "fault" for entry in entries):
        for record in run.faults or ():
            edges = ((record.injected_ns, "injected"), (record.healed_ns, "healed"))
            on = ", ".join(record.touches)
            entries += [
                TimelineEntry(at_ns=at, source="fault", text=f"{record.fault} on {on} {what}")
                for at, what in edges
                if at is not None
            ]
    return sorted(entries, key=lambda entry: entry.at_ns)
