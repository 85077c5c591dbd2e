"""Reconciliation waits for exactly those consumers that there are."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

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
