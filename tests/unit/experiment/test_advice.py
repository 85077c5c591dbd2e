"""What is no error, and told all the same before anything is started."""

from __future__ import annotations

from harness.experiment.advice import advice
from tests.unit.experiment.words import GOOD, VOCABULARY, load


def said(*changes: tuple[str, str]) -> tuple[str, ...]:
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return advice(load(text), VOCABULARY.target)


def test_a_function_with_too_little_in_steady_is_told_with_what_would_be_enough() -> None:
    assert said() == ()
    thin = ("rate: 120/s", "rate: 20/s"), ("{topup: 45, balance: 30}", "{topup: 95, balance: 5}")
    (line,) = said(*thin)
    assert line.startswith("balance will have about 10 operations in steady, and by chance fewer; ")
    assert "steady: 37s" in line
    assert len(said(*thin, ("steady: 10s", "steady: 36s"))) == 1
    assert said(*thin, ("steady: 10s", "steady: 37s")) == ()
    assert len(said(*thin, ("steady: 10s", "steady: 1s"))) == 2


def test_the_kinds_of_a_function_count_together_and_one_without_weight_not_at_all() -> None:
    few = ("rate: 120/s", "rate: 4/s")
    assert said(few, ("{topup: 45, balance: 30}", "{topup: 1, topup_replay: 1, balance: 0}")) == ()
    assert len(said(few, ("{topup: 45, balance: 30}", "{topup: 1, balance: 1, topup_replay: 0}"))) == 2
