"""Steps that are taken however a block ended, and cannot hide why it ended."""

from __future__ import annotations

import errno

import pytest

from harness.errors import EnvironmentBroken, ExitCode, InputError
from harness.run.afterwards import Afterwards
from harness.run.runner import deliberate


def broken(message: str) -> None:
    raise EnvironmentBroken(message, hint=f"a hint of {message}")


def test_the_first_cause_goes_on_and_what_follows_is_noted_in_order() -> None:
    taken: list[str] = []
    with pytest.raises(InputError) as caught, Afterwards() as last:
        last.callback(taken.append, "at the end")
        last.callback(broken, "left behind")
        last.callback(taken.append, "first")
        last.callback(broken, "no log")
        raise InputError("the cause", hint="its hint")
    assert taken == ["first", "at the end"]
    assert str(caught.value) == "the cause\n  then: no log\n  then: left behind\n  hint: its hint"
    assert caught.value.exit_code == ExitCode.BAD_INPUT


def test_without_one_the_first_step_that_breaks_is_the_cause() -> None:
    with pytest.raises(EnvironmentBroken) as caught, Afterwards() as last:
        last.callback(broken, "second")
        last.callback(broken, "first")
    assert str(caught.value) == "first\n  then: second\n  hint: a hint of first"


def test_the_same_is_not_said_twice() -> None:
    with pytest.raises(EnvironmentBroken) as caught, Afterwards() as last:
        last.callback(broken, "gone")
        broken("gone")
    assert str(caught.value) == "gone\n  hint: a hint of gone"


def test_steps_are_taken_once_and_nothing_is_raised_when_all_went_well() -> None:
    taken: list[int] = []
    last = Afterwards()
    last.callback(taken.append, 1)
    for _ in range(2):
        with last:
            pass
    assert taken == [1]


def test_an_interrupt_in_a_step_does_not_keep_the_others_from_being_taken() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    taken: list[int] = []
    with pytest.raises(KeyboardInterrupt), Afterwards() as last:
        last.callback(taken.append, 1)
        last.callback(interrupt)
    assert taken == [1]


def test_what_is_noted_on_a_mistake_of_the_harness_is_told_with_it() -> None:
    with pytest.raises(KeyError) as caught, Afterwards() as last:
        last.callback(broken, "left behind")
        raise KeyError("x")
    assert str(deliberate(caught.value)) == "the harness broke: KeyError: 'x'\n  then: left behind"


def test_a_full_disk_is_no_mistake_of_the_harness() -> None:
    for number in (errno.ENOSPC, errno.EDQUOT):
        error = deliberate(OSError(number, "whatever", "/there/file"))
        assert isinstance(error, EnvironmentBroken)
        assert error.message.startswith("the disk is full at /there/file: ")
        assert "--reports" in str(error.hint)
    assert "the harness broke" in deliberate(OSError(errno.EIO, "whatever")).message
