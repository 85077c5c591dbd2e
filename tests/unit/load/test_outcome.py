"""The written table from answers to outcomes, and the outcome of an operation over its attempts."""

from __future__ import annotations

import pytest

from harness.load.outcome import judge, may_retry, no_answer, over_attempts

TABLE = [
    (200, None, "ok"),
    (201, None, "ok"),
    (204, None, "ok"),
    (302, None, "unknown"),
    (400, None, "fail"),
    (402, None, "fail"),
    (404, None, "fail"),
    (408, None, "unknown"),
    (409, None, "unknown"),
    (422, None, "fail"),
    (425, None, "unknown"),
    (429, "1", "unknown"),
    (500, None, "unknown"),
    (500, "5", "unknown"),
    (502, None, "unknown"),
    (503, None, "unknown"),
    (503, "5", "fail"),
    (503, "Wed, 21 Oct 2026 07:28:00 GMT", "fail"),
    (503, "soon", "unknown"),
    (503, "-1", "unknown"),
    (503, "", "unknown"),
    (504, None, "unknown"),
]


@pytest.mark.parametrize(("status", "retry_after", "outcome"), TABLE)
def test_attempts_are_judged_by_the_table(status: int, retry_after: str | None, outcome: str) -> None:
    answer = judge(status, b"{}", retry_after)
    assert answer.outcome == outcome
    assert may_retry(answer) == (outcome == "unknown")
    assert (answer.error is None) == (outcome == "ok")


def test_a_pending_answer_is_unknown_and_not_tried_again() -> None:
    answer = judge(202, b"{}", None, pending=(202,))
    assert (answer.outcome, answer.pending, may_retry(answer)) == ("unknown", True, False)
    assert judge(202, b"{}", None).outcome == "ok"


def test_no_answer_is_unknown() -> None:
    answer = no_answer("timeout")
    assert (answer.status, answer.outcome, may_retry(answer)) == (None, "unknown", True)


@pytest.mark.parametrize(
    ("attempts", "outcome"),
    [
        (["ok"], "ok"),
        (["fail"], "fail"),
        (["unknown", "ok"], "ok"),
        (["unknown", "fail"], "unknown"),  # the first may have had its effect
        (["fail", "fail"], "fail"),
        (["unknown", "unknown"], "unknown"),
        ([], "unknown"),
    ],
)
def test_an_operation_fails_only_when_every_attempt_did(attempts: list, outcome: str) -> None:
    assert over_attempts(attempts) == outcome


def test_a_body_that_is_no_object_says_so() -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        _ = judge(200, b"[1]", None).json
