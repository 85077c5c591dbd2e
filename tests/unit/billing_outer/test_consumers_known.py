"""Reconciliation waits for exactly those consumers that there are."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import yaml

import billing
from billing.charging import events

SERVICES = Path(billing.__file__ or "").parent


def consumed() -> set[tuple[str, str]]:
    """(subject, consumer): what each service's code asks for. Durables are named after their service."""
    found = set()
    for file in SERVICES.glob("*/service.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "service.consume":
                written = ast.unparse(node.args[0])
                subjects = events.SUBJECTS if written == "events.SUBJECTS" else ast.literal_eval(written)
                found |= {(subject, file.parent.name) for subject in subjects}
    return found


def test_reconciliation_knows_every_consumer_of_every_subject() -> None:
    known: set[tuple[str, str]] = set()
    for file in SERVICES.glob("*/reconciliation.py"):
        if file.parent.name != "common":
            consumers = importlib.import_module(f"billing.{file.parent.name}.reconciliation").CONSUMERS
            known |= {(subject, name) for subject, names in consumers.items() for name in names}
    assert known == consumed()


DUE = re.compile(
    r"'(\w+)'(?: as consumer)? from (\w+)\.outbox(?: where subject (?:= ('[^']+')|in \(([^)]+)\)))?"
)


def due(text: str) -> set[tuple[str, str, str]]:
    """(sender, subject, consumer) of the deliveries that a query asks for; "" is every subject."""
    return {
        (sender, subject.strip(" '"), consumer)
        for consumer, sender, one, several in DUE.findall(text)
        for subject in (one or several).split(",")
    }


def test_settling_and_maintenance_wait_for_the_same_consumers() -> None:
    """The run's end (``settled``) and the judge (MNT2) ask for each event at each of its consumers."""
    target = SERVICES.parents[1]
    settled = yaml.safe_load((target / "compose.yaml").read_text(encoding="utf-8"))["x-ledgerquake"][
        "settled"
    ]
    asked = due(settled["events not yet in their consumers"])
    assert due((target / "invariants" / "MNT2.sql").read_text(encoding="utf-8")) == asked
    everything = {(sender, consumer) for sender, subject, consumer in asked if not subject}
    named = {(subject, consumer) for _, subject, consumer in asked if subject}
    assert named <= consumed() and everything == {("payments", "notify"), ("invoicing", "notify")}
