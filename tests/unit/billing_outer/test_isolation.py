"""AV3 says twice what each function needs, to judge and to count: the same, of real functions."""

from __future__ import annotations

import re
from pathlib import Path

from harness.target.folder import load_target

BILLING = Path(__file__).parents[3] / "targets" / "billing"
ROW = re.compile(r"\('(\w+)', '(\^[^']+)'\)")


def test_what_is_judged_is_what_is_counted() -> None:
    text = (BILLING / "invariants" / "AV3.sql").read_text(encoding="utf-8")
    counted, judged = (ROW.findall(part) for part in text.split("\n--\n"))
    assert counted == judged and len(judged) >= 10
    assert {function for function, _ in judged} <= set(load_target(BILLING).functions)
