"""``junit.xml``: a suite per experiment; a case per expectation, invariant and fault proof.

A failure is ``failure``. What is inconclusive is ``error``, never a green case and never skipped: only
an invariant that does not apply is skipped. The case ``verdict`` carries the whole run, so that a run
which is not a pass for a reason outside its parts is not green either.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as Xml

from harness.check.verdict import ExpectationVerdict, InvariantVerdict
from harness.evidence.folder import write_text
from harness.report import words
from harness.report.reading import Run
from harness.report.story import FaultLine, fault_lines

NAME = "junit.xml"


@dataclass(frozen=True)
class Case:
    """One test case. ``message`` is one line; ``detail`` may be many."""

    group: str
    name: str
    answer: words.AnyAnswer
    message: str = ""
    detail: str = ""


def write(run: Run) -> list[Path]:
    """Write the JUnit file into the run's folder."""
    file = run.path / NAME
    write_text(file, junit(run))
    return [file]


def junit(run: Run) -> str:
    """The JUnit XML as text."""
    cases = list(_cases(run))
    counts = {
        "tests": len(cases),
        "failures": sum(case.answer == "fail" for case in cases),
        "errors": sum(case.answer == "inconclusive" for case in cases),
        "skipped": sum(case.answer == "not_applicable" for case in cases),
    }
    attributes = {name: str(count) for name, count in counts.items()} | {"time": f"{_duration_s(run):.3f}"}
    root = Xml.Element("testsuites", {"name": "ledgerquake", **attributes})
    suite = Xml.SubElement(root, "testsuite", {"name": words.plain(run.name), **attributes})
    if run.zero_ns is not None:
        moment = datetime.fromtimestamp(run.zero_ns / 1e9, UTC)
        suite.set("timestamp", moment.strftime("%Y-%m-%dT%H:%M:%S"))
    _properties(suite, run)
    for case in cases:
        _add(suite, run, case)
    if run.missing:
        Xml.SubElement(suite, "system-out").text = words.plain("\n".join(run.missing))
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _cases(run: Run) -> Iterable[Case]:
    reasons = "\n".join(words.reasons_of(run))
    yield Case("run", "verdict", words.answer_of(run), words.headline(run), reasons)
    if run.verdict:
        for item in run.verdict.expectations:
            yield Case("expectations", item.text, item.verdict, _figures(item), item.reason)
        for invariant in run.verdict.invariants:
            yield _invariant_case(invariant, convicts=words.answer_of(run) == "fail")
    for number, line in enumerate(fault_lines(run), 1):
        yield _fault_case(number, line)


def _invariant_case(item: InvariantVerdict, convicts: bool) -> Case:
    """What the verdict makes of it: inconclusive and not asked for, it counts for nothing; violated in
    a run whose evidence is in doubt, it convicts nobody."""
    answer: words.AnyAnswer = item.verdict
    message = f"{item.violations:,} violations in {item.checked:,} checked" if answer == "fail" else ""
    message = "; ".join(part for part in (message, words.reason_of(item)) if part)
    if answer == "fail" and not convicts:
        answer = "inconclusive"
        message = f"{message}; the run is inconclusive, so it convicts nobody"
    elif answer == "inconclusive" and not item.asked:
        answer, message = "not_applicable", f"inconclusive: {message}"
    return Case("invariants", f"{item.id} {item.title}", answer, message, _counter_examples(item))


def _figures(item: ExpectationVerdict) -> str:
    """``measured 612 ms, limit 500 ms``; without a limit, the reason."""
    if item.limit is None:
        return item.reason
    return f"measured: {words.measured(item)}, limit: {words.number(item.limit, item.unit)}"


def _counter_examples(invariant: InvariantVerdict) -> str:
    lines = []
    for example in invariant.examples:
        lines.append(f"{example.subject}: {example.row}")
        lines += [f"  {entry.at_ns} {entry.source}: {entry.text}" for entry in example.timeline]
    return "\n".join(lines)


def _fault_case(number: int, line: FaultLine) -> Case:
    detail = "\n".join(f"{key}: {value}" for key, value in line.observed.items())
    answer: words.AnyAnswer = "pass" if line.proved and not line.heal_error else "inconclusive"
    return Case("faults", f"{number}. {line.name} took effect", answer, line.told or "no proof", detail)


def _add(suite: Xml.Element, run: Run, case: Case) -> None:
    classname = words.plain(f"ledgerquake.{run.name}.{case.group}")
    node = Xml.SubElement(
        suite, "testcase", {"classname": classname, "name": words.plain(case.name), "time": "0"}
    )
    message = words.one_line(case.message)
    if case.answer == "fail":
        Xml.SubElement(node, "failure", message=message, type="fail").text = words.plain(case.detail)
    elif case.answer == "inconclusive":
        Xml.SubElement(node, "error", message=message, type="inconclusive").text = words.plain(case.detail)
    elif case.answer == "not_applicable":
        Xml.SubElement(node, "skipped", message=message or "does not apply to this experiment")


def _properties(suite: Xml.Element, run: Run) -> None:
    node = Xml.SubElement(suite, "properties")
    facts: dict[str, str] = {"verdict": words.answer_of(run)}
    if run.verdict:
        verdict = run.verdict
        facts |= {"seed": str(verdict.seed), "runtime": verdict.runtime, "toxiproxy": verdict.toxiproxy}
        facts |= {"mutant": verdict.mutant or "none", "replay": verdict.replay}
        if verdict.settings:
            facts["settings"] = "; ".join(words.settings_of(verdict))
    if run.environment:
        facts["run_id"] = run.environment.run_id
    for name, value in facts.items():
        Xml.SubElement(node, "property", name=name, value=words.plain(value))


def _duration_s(run: Run) -> float:
    """From the start of the deployment to the last instant on record."""
    times = run.timeline
    if times is None:
        return 0.0
    last = times.collected_ns or times.settled_ns or times.load_ended_ns or times.steady_ended_ns
    return (last - times.deploy_started_ns) / 1e9
