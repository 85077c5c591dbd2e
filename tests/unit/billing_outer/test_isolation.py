"""AV3 says thrice what each function needs, to apply, to count and to judge: the same, of real functions.
AV4 says thrice what is due while a provider is cut off.
"""

from __future__ import annotations

import re
from pathlib import Path

from harness.target.folder import load_target

BILLING = Path(__file__).parents[3] / "targets" / "billing"
ROW = re.compile(r"\('(\w+)', '(\^[^']+)'\)")


def test_what_is_judged_is_what_is_counted() -> None:
    text = (BILLING / "invariants" / "AV3.sql").read_text(encoding="utf-8")
    head, query = text.split("\n--\n")
    when, needs = (part for part in head.split("\n") if part.startswith(("-- when:", "-- needs:")))
    judged = ROW.findall(query)
    assert ROW.findall(when) == ROW.findall(needs) == judged and len(judged) >= 10
    assert {function for function, _ in judged} <= set(load_target(BILLING).functions)


def test_what_is_due_at_the_other_provider_is_said_alike() -> None:
    text = " ".join((BILLING / "invariants" / "AV4.sql").read_text(encoding="utf-8").split())
    faulted = re.findall(r"with faulted as \( ?(.*? where injected_ns is not null and proved)\)", text)
    due = re.findall(r"(from operations o join faulted f .*? \+ 5e9\))", text)
    assert len(faulted) == len(due) == 3
    assert len(set(faulted)) == len(set(due)) == 1
