"""The final state: the target's tables in one snapshot, and the witnesses' logs as they stand.

Tables and logs are evidence only of the same instant: a request that arrives late, between the two,
would be a capture without a payment, or a payment without its capture. So the logs are read, and what
is pending is asked for, on both sides of the snapshot; where anything moved, all is collected again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from harness.errors import EnvironmentBroken
from harness.evidence.final_state import collect_sql, collect_witness
from harness.evidence.folder import RunFolder
from harness.experiment.target import TargetSpec
from harness.run.database import Asker, conninfo
from harness.run.settling import UNASKED, pending_work
from harness.target.runtime import Runtime

PATIENCE_S = 15.0
MOST_TRIES = 3


def collect(spec: TargetSpec, runtime: Runtime, folder: RunFolder) -> tuple[str, ...]:
    """Write the final state to ``folder``; names what moved meanwhile in the last of the tries.

    Nothing named: tables and logs are of one instant. Raises EnvironmentBroken when nobody holds the
    database or a log cannot be had.
    """
    moved: tuple[str, ...] = ()
    for _ in range(MOST_TRIES):
        before = _outside(spec, runtime, folder)
        if spec.sql is not None:
            collect_sql(_wait_for_database(spec, runtime), spec.sql.tables, folder)
        after = _outside(spec, runtime, folder)
        moved = _moved(before, after)
        if not moved:
            break
    return moved


def _moved(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[str, ...]:
    """What is not known to have stood still."""
    names = {**before, **after}
    return tuple(n for n in names if before.get(n) != after.get(n) or after.get(n) == UNASKED)


def _outside(spec: TargetSpec, runtime: Runtime, folder: RunFolder) -> dict[str, int]:
    """What is pending by name, and the lines of each witness's log, which is written to ``folder``."""
    counts: dict[str, int] = {}
    asker = Asker(spec, runtime)
    try:
        counts.update(pending_work(spec, asker))
    finally:
        asker.close()
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
