"""The final state: the target's tables in one snapshot, and the witnesses' logs as they stand."""

from __future__ import annotations

import time

from harness.errors import EnvironmentBroken
from harness.evidence.final_state import collect_sql, collect_witness
from harness.evidence.folder import RunFolder
from harness.experiment.target import TargetSpec
from harness.run.database import conninfo
from harness.target.runtime import Runtime

PATIENCE_S = 15.0


def collect(spec: TargetSpec, runtime: Runtime, folder: RunFolder) -> dict[str, int]:
    """Rows per table and lines per witness. Raises EnvironmentBroken when nobody holds the database."""
    counts: dict[str, int] = {}
    if spec.sql is not None:
        counts.update(collect_sql(_wait_for_database(spec, runtime), spec.sql.tables, folder))
    for log in spec.witness_logs:
        url = f"http://{runtime.address(log.service, log.endpoint.port)}{log.endpoint.path}"
        counts[f"witness {log.service}"] = collect_witness(url, folder.witness / f"{log.service}.jsonl")
    return counts


def _wait_for_database(spec: TargetSpec, runtime: Runtime) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while (where := conninfo(spec, runtime)) is None:
        if time.monotonic() > deadline:
            role = spec.sql.role if spec.sql else "?"
            raise EnvironmentBroken(
                f"nobody holds the role {role!r} after {PATIENCE_S:g} s, so the final state cannot be read"
            )
        time.sleep(0.25)
    return where
