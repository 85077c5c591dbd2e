"""AV3 says thrice what each function needs, to apply, to count and to judge: the same, of real functions."""

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
