"""The language of expectations: one line of text -> typed data. No code is ever evaluated.

    <function>.<metric> <op> <value> [in <window>]       payments.p99 <= 500ms in recovered
    <function>.recovery <op> <duration>                  payments.recovery <= 35s
    <measure>.<metric> <op> <duration> [in <window>]     notifications.delay.p99 <= 10s in recovered
    invariants [<id or pattern> ...] hold                invariants PAY* LED1 hold

Without ``in`` the window is the whole run. Every error knows the column it stands at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import cast, get_args

from harness.experiment.model import Comparison, Expectation, InvariantsHold, Objective, Window
from harness.experiment.names import nearest, suggestion
from harness.experiment.target import TargetSpec
from harness.experiment.units import parse_duration, parse_rate

WINDOWS: tuple[str, ...] = get_args(Window)
COMPARISONS: tuple[str, ...] = get_args(Comparison)
LATENCIES = ("p50", "p90", "p95", "p99", "p999", "max", "mean")
FUNCTION_METRICS = ("success", "throughput", "recovery", *LATENCIES)
WINDOWS_OF_FAULTS = ("fault", "recovery")  # there are none where nothing is broken

_TOKEN = re.compile(r"[<>=!]+|[^\s<>=!]+")
_PATTERN = re.compile(r"[A-Za-z0-9_*?-]+")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?%")


class ExpectError(ValueError):
    """A line that cannot be understood. ``offset`` counts characters from the start of the text."""

    def __init__(self, message: str, offset: int, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.hint = hint


@dataclass(frozen=True)
class _Token:
    text: str
    offset: int

    @property
    def end(self) -> int:
        return self.offset + len(self.text)


def parse_expectation(text: str, spec: TargetSpec, *, has_faults: bool = True) -> Expectation:
    """Parse one expectation against what the target has. Raises ExpectError."""
    tokens = [_Token(match.group(), match.start()) for match in _TOKEN.finditer(text)]
    if not tokens:
        raise ExpectError("an empty expectation", 0, "payments.p99 <= 500ms in recovered")
    if "." not in tokens[0].text and _is_like(tokens[0].text, "invariants", spec):
        return _invariants(text, tokens, spec)
    return _objective(text, tokens, spec, has_faults)


def _is_like(word: str, keyword: str, spec: TargetSpec) -> bool:
    return word == keyword or (word not in spec.functions and nearest(word, [keyword]) is not None)


# --- invariants [patterns] hold ---------------------------------------------------------------------
def _invariants(text: str, tokens: list[_Token], spec: TargetSpec) -> InvariantsHold:
    first, *rest = tokens
    if first.text != "invariants":
        raise ExpectError(f"unknown word {first.text!r}", first.offset, "did you mean 'invariants'?")
    if not rest or rest[-1].text != "hold":
        where = rest[-1] if rest else first
        near = rest and nearest(where.text, ["hold"])
        offset = where.offset if near else where.end
        raise ExpectError(
            f"expected 'hold' at the end, after {where.text!r}",
            offset,
            "invariants hold, invariants PAY* hold",
        )
    patterns = tuple(_pattern(token, spec) for token in rest[:-1])
    return InvariantsHold(text=text, patterns=patterns or ("*",))


def _pattern(token: _Token, spec: TargetSpec) -> str:
    if not _PATTERN.fullmatch(token.text):
        raise ExpectError(
            f"{token.text!r} is no invariant id or pattern",
            token.offset,
            "ids by spaces: invariants PAY* LED1 hold",
        )
    if not any(fnmatchcase(id, token.text) for id in spec.invariants):
        raise ExpectError(
            f"no invariant of the target matches {token.text!r}",
            token.offset,
            suggestion(token.text, spec.invariants),
        )
    return token.text


# --- subject.metric op value [in window] ------------------------------------------------------------
def _objective(text: str, tokens: list[_Token], spec: TargetSpec, has_faults: bool) -> Objective:
    subject, metric = _subject(tokens[0], spec)
    op = _comparison(tokens, 1)
    value, rest = _value(tokens)
    limit = _limit(metric, value)
    window = _window(rest, value, metric, has_faults, tokens[0])
    return Objective(text=text, subject=subject, metric=metric, op=op, limit=limit, window=window)


def _subject(token: _Token, spec: TargetSpec) -> tuple[str, str]:
    """The function or measure, and its metric; the metric is what stands after the last dot."""
    subjects = [*spec.functions, *spec.measures]
    if token.text in subjects:
        metrics = FUNCTION_METRICS if token.text in spec.functions else LATENCIES
        raise ExpectError(
            f"which figure of {token.text!r}?",
            token.end,
            f"{token.text}.p99, or one of: {', '.join(metrics)}",
        )
    subject, dot, metric = token.text.rpartition(".")
    if not dot:
        raise ExpectError(
            f"unknown word {token.text!r}; expected <function>.<metric> or 'invariants'",
            token.offset,
            suggestion(token.text, [*subjects, "invariants"]),
        )
    if subject not in subjects:
        raise ExpectError(
            f"the target has no function or measure {subject!r}", token.offset, suggestion(subject, subjects)
        )
    metrics = FUNCTION_METRICS if subject in spec.functions else LATENCIES
    if metric not in metrics:
        raise ExpectError(
            f"unknown metric {metric!r} of {subject!r}",
            token.offset + len(subject) + 1,
            suggestion(metric, metrics),
        )
    return subject, metric


def _comparison(tokens: list[_Token], index: int) -> Comparison:
    known = "  ".join(COMPARISONS)
    if len(tokens) <= index:
        raise ExpectError("the line ends where a comparison should stand", tokens[-1].end, f"one of {known}")
    token = tokens[index]
    if token.text in COMPARISONS:
        return cast(Comparison, token.text)
    near = {"=": "==", "=<": "<=", "=>": ">=", "=>=": ">=", "!=": None}.get(token.text)
    hint = f"did you mean {near!r}?" if near else f"one of {known}"
    raise ExpectError(f"{token.text!r} is not a comparison", token.offset, hint)


def _value(tokens: list[_Token]) -> tuple[_Token, list[_Token]]:
    """The value, and what follows. A unit may stand apart (``99.9 %``, ``10 s``)."""
    if len(tokens) < 3:
        raise ExpectError(
            "the line ends where a value should stand", tokens[-1].end, "such as 500ms or 99.9%"
        )
    first, *rest = tokens[2:]
    if rest and first.text.replace(".", "", 1).isdigit() and rest[0].text != "in":
        return _Token(f"{first.text} {rest[0].text}", first.offset), rest[1:]
    return first, rest


def _limit(metric: str, token: _Token) -> float:
    """In the metric's base unit: %, ms, per second."""
    try:
        if metric == "success":
            return _percentage(token.text)
        if metric == "throughput":
            return parse_rate(token.text)
        return parse_duration(token.text) * 1000
    except ValueError as error:
        raise ExpectError(f"{metric}: {error}", token.offset) from None


def _percentage(text: str) -> float:
    match = _PERCENT.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a percentage; write 99.9%")
    if float(match[1]) > 100:
        raise ValueError(f"{text!r} is above 100%")
    return float(match[1])


def _window(rest: list[_Token], value: _Token, metric: str, has_faults: bool, start: _Token) -> Window:
    if metric == "recovery" and not has_faults:
        raise ExpectError("there is no fault to recover from", start.offset, "add a fault, or drop this line")
    if not rest:
        return "recovery" if metric == "recovery" else "run"
    if rest[0].text != "in":
        raise ExpectError(
            f"expected 'in <window>' after {value.text!r}, not {rest[0].text!r}",
            rest[0].offset,
            f"windows: {', '.join(WINDOWS)}",
        )
    if metric == "recovery":
        raise ExpectError("recovery has no window: it counts from the last healing", rest[0].offset, None)
    if len(rest) == 1:
        raise ExpectError(
            "the line ends where a window should stand", rest[0].end, f"one of {', '.join(WINDOWS)}"
        )
    window = rest[1]
    if window.text not in WINDOWS:
        raise ExpectError(f"unknown window {window.text!r}", window.offset, suggestion(window.text, WINDOWS))
    if window.text in WINDOWS_OF_FAULTS and not has_faults:
        raise ExpectError(
            f"without faults there is no window {window.text!r}", window.offset, "steady, recovered or run"
        )
    if len(rest) > 2:
        raise ExpectError(f"nothing may follow the window, but {rest[2].text!r} does", rest[2].offset)
    return cast(Window, window.text)
