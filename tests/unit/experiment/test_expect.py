"""The language of expectations."""

from __future__ import annotations

import pytest

from harness.experiment.expect import ExpectError, parse_expectation
from harness.experiment.model import InvariantsHold, Objective
from tests.unit.experiment.words import make_spec

SPEC = make_spec()


@pytest.mark.parametrize(
    ("text", "subject", "metric", "op", "limit", "window"),
    [
        ("payments.success >= 99.9% in steady", "payments", "success", ">=", 99.9, "steady"),
        ("payments.success>=60% in fault", "payments", "success", ">=", 60.0, "fault"),
        ("payments.success >= 60 % in fault", "payments", "success", ">=", 60.0, "fault"),
        ("payments.p99 <= 500ms", "payments", "p99", "<=", 500.0, "run"),
        ("balance.p999 < 1.5 s in recovery", "balance", "p999", "<", 1500.0, "recovery"),
        ("balance.mean == 2m in run", "balance", "mean", "==", 120_000.0, "run"),
        ("payments.throughput > 90/min in recovered", "payments", "throughput", ">", 1.5, "recovered"),
        ("payments.recovery <= 35s", "payments", "recovery", "<=", 35_000.0, "recovery"),
        ("notifications.delay.max <= 10s in fault", "notifications.delay", "max", "<=", 10_000.0, "fault"),
    ],
)
def test_objectives(text: str, subject: str, metric: str, op: str, limit: float, window: str) -> None:
    assert parse_expectation(text, SPEC) == Objective(
        text=text,
        subject=subject,
        metric=metric,
        op=op,
        limit=limit,
        window=window,
    )


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        ("invariants hold", ("*",)),
        ("invariants PAY* LED1 hold", ("PAY*", "LED1")),
        ("  invariants   PAY?   hold ", ("PAY?",)),
    ],
)
def test_invariants(text: str, patterns: tuple[str, ...]) -> None:
    assert parse_expectation(text, SPEC) == InvariantsHold(text=text, patterns=patterns)


@pytest.mark.parametrize(
    ("text", "offset", "says", "hint"),
    [
        ("payment.p99 <= 5s", 0, "no function or measure 'payment'", "did you mean 'payments'?"),
        ("payments <= 5s", 8, "which figure of 'payments'?", "payments.p99"),
        ("notifications.delay <= 5s", 19, "which figure of", "notifications.delay.p99"),
        ("notifications.delay.success >= 5%", 20, "unknown metric 'success'", "known: max"),
        ("payments.p98 <= 5s", 9, "unknown metric 'p98'", "did you mean 'p9"),
        ("payments.p99 =< 5s", 13, "'=<' is not a comparison", "did you mean '<='?"),
        ("payments.p99 = 5s", 13, "'=' is not a comparison", "did you mean '=='?"),
        ("payments.p99 below 5s", 13, "'below' is not a comparison", "<="),
        ("payments.p99", 12, "the line ends where a comparison", ""),
        ("payments.p99 <=", 15, "the line ends where a value", ""),
        ("payments.p99 <= 500", 16, "has no unit; did you mean 500s?", ""),
        ("payments.p99 <= 99%", 16, "is not a duration", ""),
        ("payments.success >= 99.9", 20, "'99.9' is not a percentage; write 99.9%", ""),
        ("payments.success >= 101%", 20, "above 100%", ""),
        ("payments.success >= 99% in", 26, "where a window should stand", "steady"),
        ("payments.success >= 99% in faults", 27, "unknown window 'faults'", "did you mean 'fault'?"),
        ("payments.success >= 99% at fault", 24, "not 'at'", "windows: steady"),
        ("payments.success >= 99% in fault now", 33, "nothing may follow", ""),
        ("payments.recovery <= 5s in fault", 24, "recovery has no window", ""),
        ("invariant hold", 0, "unknown word 'invariant'", "did you mean 'invariants'?"),
        ("invariants PAY1", 15, "expected 'hold' at the end", ""),
        ("invariants holds", 11, "expected 'hold' at the end", ""),
        ("invariants", 10, "expected 'hold' at the end", ""),
        ("invariants PAY1, LED1 hold", 11, "'PAY1,' is no invariant id", "by spaces"),
        ("invariants PAI* hold", 11, "no invariant of the target matches 'PAI*'", ""),
        ("__import__('os') <= 1s", 0, "unknown word", ""),
        ("", 0, "an empty expectation", ""),
    ],
)
def test_a_mistake_has_its_column(text: str, offset: int, says: str, hint: str) -> None:
    with pytest.raises(ExpectError) as caught:
        parse_expectation(text, SPEC)
    assert says in caught.value.message
    assert hint in (caught.value.hint or "")
    assert caught.value.offset == offset


def test_what_needs_a_fault_is_refused_without_one() -> None:
    for text in ("payments.recovery <= 5s", "payments.p99 <= 5s in fault", "payments.p99 <= 5s in recovery"):
        parse_expectation(text, SPEC)
        with pytest.raises(ExpectError):
            parse_expectation(text, SPEC, has_faults=False)
    parse_expectation("payments.p99 <= 5s in recovered", SPEC, has_faults=False)
