"""How the reports say things: verdict words and symbols, numbers, instants, the headline.

Colour never carries a meaning alone, so every verdict has a word and a symbol here. Nothing in this
module knows a format; escaping is the business of each format.
"""

from __future__ import annotations

from typing import Literal, TypeVar

from harness.check.verdict import Answer, ExpectationVerdict, InvariantVerdict, Verdict, worst
from harness.report.reading import Run

Judged = TypeVar("Judged", ExpectationVerdict, InvariantVerdict)
AnyAnswer = Literal["pass", "fail", "inconclusive", "not_applicable"]

SYMBOLS: dict[AnyAnswer, str] = {"pass": "✓", "fail": "✗", "inconclusive": "?", "not_applicable": "–"}
WORDS: dict[AnyAnswer, str] = {
    "pass": "Pass",
    "fail": "Fail",
    "inconclusive": "Inconclusive",
    "not_applicable": "Not applicable",
}
_SEVERITY: dict[str, int] = {"fail": 0, "inconclusive": 1, "pass": 2, "not_applicable": 3}


def answer_of(run: Run) -> Answer:
    """The answer a report shows: never better than any of the verdict's own parts.

    A run without a verdict, or one that was aborted, is inconclusive at best.
    """
    if run.verdict is None:
        return "inconclusive"
    answer = answer_of_verdict(run.verdict)
    aborted = run.timeline is not None and run.timeline.aborted is not None
    return worst([answer, "inconclusive"]) if aborted else answer


def answer_of_verdict(verdict: Verdict) -> Answer:
    """The verdict's answer; for a pass, the worst of its parts.

    The other way round nothing is changed: whether a failed part convicts is for the judge to say.
    """
    if verdict.verdict != "pass":
        return verdict.verdict
    parts: list[str] = ["pass", *(item.verdict for item in verdict.expectations)]
    parts += ["fail" for item in verdict.invariants if item.verdict == "fail"]
    parts += ["inconclusive" for fault in verdict.faults if not fault.proved or fault.heal_error]
    return worst(parts)


def reasons_of(run: Run) -> tuple[str, ...]:
    """Why the run is not a pass, worst first; empty for a pass."""
    aborted = (
        (f"the run was aborted: {run.timeline.aborted}",) if run.timeline and run.timeline.aborted else ()
    )
    if run.verdict is None:
        return aborted or ("verdict.json is missing or unreadable",)
    reasons = reasons_of_verdict(run.verdict)
    told = any("abort" in reason for reason in reasons)
    return reasons if told else reasons + aborted


def reasons_of_verdict(verdict: Verdict) -> tuple[str, ...]:
    """The verdict's reasons; and one more where a pass has a part that is none."""
    answer = answer_of_verdict(verdict)
    if answer == verdict.verdict:
        return verdict.reasons
    differs = f"verdict.json says {verdict.verdict}, but a part of it is {answer}; the worse one is shown"
    return (*verdict.reasons, differs)


def headline(run: Run) -> str:
    """The verdict in one sentence, without the verdict word itself."""
    if run.verdict is None:
        return f"There is no verdict: {_ended(reasons_of(run)[0])}"
    return _sentence(run.verdict, answer_of(run), reasons_of(run))


def headline_of_verdict(verdict: Verdict) -> str:
    """``headline`` where only the verdict is at hand."""
    return _sentence(verdict, answer_of_verdict(verdict), reasons_of_verdict(verdict))


def _sentence(verdict: Verdict, answer: Answer, reasons: tuple[str, ...]) -> str:
    if answer == "pass":
        return _pass_sentence(verdict)
    if answer == "fail":
        return _fail_sentence(verdict.expectations, verdict.invariants, reasons)
    violated = tuple(f"{item.id} " for item in verdict.invariants if item.verdict == "fail")
    doubts = [reason for reason in reasons if not (violated and reason.startswith(violated))]
    reason = next(iter(doubts), "the evidence does not suffice")
    return f"Nothing can be said about the system: {_ended(reason)}"


def _pass_sentence(verdict: Verdict) -> str:
    met, faults = len(verdict.expectations), len(verdict.faults)
    held = sum(item.verdict == "pass" for item in verdict.invariants)
    parts = [f"{met} of {_count(met, 'expectation')} met", f"{_count(held, 'invariant')} held"]
    if faults:
        parts.append(f"{faults} of {_count(faults, 'fault')} proved")
    if verdict.recovery_s is not None:
        parts.append(f"recovered {seconds(verdict.recovery_s)} after healing")
    return ", ".join(parts) + "."


def _fail_sentence(
    expectations: tuple[ExpectationVerdict, ...],
    invariants: tuple[InvariantVerdict, ...],
    reasons: tuple[str, ...],
) -> str:
    broken = sum(item.verdict == "fail" for item in expectations)
    violated = [item for item in invariants if item.verdict == "fail"]
    parts = []
    if violated:
        first = violated[0]
        also = f", and {', '.join(item.id for item in violated[1:])}" if violated[1:] else ""
        times = _count(first.violations, "violation")
        parts.append(f"invariant {first.id} is violated ({first.title}: {times}){also}")
    if broken:
        parts.append(f"{broken} of {_count(len(expectations), 'expectation')} are not met")
    sentence = "; ".join(parts) or next(iter(reasons), "see the reasons")
    return _ended(sentence[0].upper() + sentence[1:])


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def worst_first(items: tuple[Judged, ...]) -> list[Judged]:
    """Failures first, then inconclusive, pass and not applicable; the order is kept within each."""
    return sorted(items, key=lambda item: _SEVERITY[item.verdict])


def seconds(value: float) -> str:
    """``6.42`` -> ``6.4 s``; ``0.04`` -> ``0.04 s``."""
    return f"{value:.2f} s" if abs(value) < 1 and value else f"{value:.1f} s"


def number(value: float | None, unit: str = "", *, beside: float | None = None) -> str:
    """A figure for people. None is ``unknown``, never 0.

    ``beside``: the limit it will be compared with. Digits are added until rounding no longer hides on
    which side of the limit the figure lies: 99.897 is not shown as 99.9 beside a limit of 99.9.
    """
    if value is None:
        return "unknown"
    digits = 0 if float(value).is_integer() else 2
    while beside is not None and digits < 12 and _side(round(value, digits), beside) != _side(value, beside):
        digits += 1
    text = f"{value:,.{digits}f}"
    if "." in text and beside is None:
        text = text.rstrip("0").rstrip(".")
    return f"{text} {unit}".rstrip()


def measured(item: ExpectationVerdict) -> str:
    """What was measured for an expectation, as precisely as its limit demands."""
    if item.measured is None and item.limit is None:
        return "–"
    if item.measured is None:  # judged without a figure: it is infinite, which JSON cannot say
        return "not measured" if item.verdict == "inconclusive" else "never came"
    return number(item.measured, item.unit, beside=item.limit)


def settings_of(verdict: Verdict) -> list[str]:
    """The settings that the experiment gave the target: ``edge FAILURE_HANDLING=continue``."""
    given = verdict.settings.items()
    return [f"{service} {name}={value}" for service, values in given for name, value in values.items()]


def reason_of(item: InvariantVerdict) -> str:
    """Why an invariant is not a pass; and that nobody asked for it, where that is so."""
    if item.asked or item.verdict not in ("fail", "inconclusive"):
        return item.reason
    counts = "which counts all the same" if item.verdict == "fail" else "so it does not count"
    return "; ".join(part for part in (item.reason, f"no expectation names it, {counts}") if part)


def _side(value: float, limit: float) -> int:
    return (value > limit) - (value < limit)


def plain(text: str) -> str:
    """Text from the system without control characters (terminal escapes, characters XML forbids)."""
    return "".join(c if c in "\n\t" or _printable(ord(c)) else "\N{REPLACEMENT CHARACTER}" for c in text)


def _printable(code: int) -> bool:
    control = code < 0x20 or 0x7F <= code < 0xA0
    surrogate_or_noncharacter = 0xD800 <= code < 0xE000 or (code & 0xFFFE) == 0xFFFE
    return not (control or surrogate_or_noncharacter)


def one_line(text: str, limit: int = 400) -> str:
    """``plain``, on one line, cut at ``limit`` characters with an ellipsis."""
    line = " ".join(plain(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
