"""``python -m harness.cli.schema``: write ``experiments/schema.json`` anew, for those who change a key."""

from __future__ import annotations

from pathlib import Path

from harness.experiment.schema import write_schema
from harness.fault.registry import FAULTS

if __name__ == "__main__":
    write_schema(Path("experiments/schema.json"), FAULTS)
