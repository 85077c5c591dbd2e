"""Whose an object is decides whether it is removed: better never than somebody else's."""

from __future__ import annotations

import json
import os

import pytest

from harness.target import proctree
from harness.target.docker import labels
from harness.target.docker.labels import OWNER, RUN, Claim
from harness.target.scratch import Owner

DEAD = 2**22 + 1  # beyond every process id


def claim(
    pid: int = DEAD, machine: str | None = None, boot: str | None = None, user: int | None = None
) -> Claim:
    own = proctree.look(os.getpid())
    assert own is not None
    start = own.start_ticks if pid == os.getpid() else 1
    owner = Owner("r1", boot or proctree.boot_id(), pid, start, DEAD, 1)
    return Claim(
        os.getuid() if user is None else user, machine or labels._machine(), labels._pid_namespace(), owner
    )


def test_a_claim_survives_being_a_label() -> None:
    written = claim().labels()
    assert written[RUN] == "r1"
    assert Claim.read(written) == claim()


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"machine": "m"}', '{"machine":"m","pid_namespace":1,"owner":3}']
)
def test_what_cannot_be_read_is_nobodys_claim(text: str) -> None:
    assert Claim.read({OWNER: text}) is None
    assert Claim.read({}) is None


def test_a_run_whose_processes_are_gone_is_dead_and_a_living_one_is_not() -> None:
    assert claim().is_dead() is True
    assert claim(pid=os.getpid()).is_dead() is False


def test_the_same_process_id_after_another_boot_is_somebody_else() -> None:
    assert claim(pid=os.getpid(), boot="another boot").is_dead() is True


def test_of_another_machine_or_user_nothing_can_be_said() -> None:
    assert claim(machine="another").is_dead() is None
    assert claim(user=os.getuid() + 1).is_dead() is None
    elsewhere = json.loads(claim().labels()[OWNER]) | {"pid_namespace": 1}
    read = Claim.read({OWNER: json.dumps(elsewhere)})
    assert read is not None and read.is_dead() is None
