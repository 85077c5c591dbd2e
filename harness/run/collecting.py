"""The final state: the target's tables in one snapshot, and the witnesses' logs as they stand.

Tables and logs are evidence only of the same instant: a request that arrives late, between the two,
would be a capture without a payment, or a payment without its capture. So the logs are read, and what
is pending is asked for, on both sides of the snapshot; where anything moved, all is collected again.

What cannot be had is left out whole and named: half of the tables, or a log from before the snapshot,
would be a false witness.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import EnvironmentBroken
from harness.evidence.final_state import collect_sql, collect_witness
from harness.evidence.folder import RunFolder
from harness.experiment.target import TargetSpec
from harness.run.database import Asker, conninfo
from harness.run.settling import UNASKED, pending_work
from harness.target.runtime import Runtime

PATIENCE_S = 15.0
MOST_TRIES = 3
TABLES = "tables"
BREATH_S = 1.0  # between two tries: what moved is given time to come to rest


@dataclass(frozen=True)
class Collected:
    """``moved``: what did not stand still meanwhile, in the last of the tries; nothing named: all is of one
    instant. ``missing``: what could not be had, and why.
    """

    moved: tuple[str, ...]
    missing: tuple[str, ...]


def collect(spec: TargetSpec, runtime: Runtime, folder: RunFolder) -> Collected:
    """Write the final state to ``folder``."""
    collected = _collect_once(spec, runtime, folder)
    for _ in range(MOST_TRIES - 1):
        if not collected.moved or collected.missing:  # what cannot be had now was waited for
            break
        time.sleep(BREATH_S)
        collected = _collect_once(spec, runtime, folder)
    return collected


def _collect_once(spec: TargetSpec, runtime: Runtime, folder: RunFolder) -> Collected:
    missing: dict[str, str] = {}
    before = _outside(spec, runtime, folder, missing)
    if spec.sql is not None:
        try:
            collect_sql(_wait_for_database(spec, runtime), spec.sql.tables, folder)
        except EnvironmentBroken as error:
            missing[TABLES] = error.message
            for table in folder.sql.glob("*.parquet"):
                table.unlink()
    after = _outside(spec, runtime, folder, missing)
    moved = _moved(before, after) if TABLES not in missing else ()  # there is nothing they could not fit
    return Collected(tuple(name for name in moved if name not in missing), tuple(missing.values()))


def _moved(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[str, ...]:
    """What is not known to have stood still."""
    names = {**before, **after}
    return tuple(n for n in names if before.get(n) != after.get(n) or after.get(n) == UNASKED)


def _outside(
    spec: TargetSpec, runtime: Runtime, folder: RunFolder, missing: dict[str, str]
) -> dict[str, int]:
    """What is pending by name, and the lines of each witness's log, which is written to ``folder``.

    ``missing`` is told of each log whether it could be had now.
    """
    counts: dict[str, int] = {}
    asker = Asker(spec, runtime)
    try:
        counts.update(pending_work(spec, runtime, asker))
    finally:
        asker.close()
    for log in spec.witness_logs:
        name, place = f"witness {log.service}", folder.witness / f"{log.service}.jsonl"
        url = f"http://{runtime.address(log.service, log.endpoint.port)}{log.endpoint.path}"
        try:
            counts[name] = collect_witness(url, place)
            missing.pop(name, None)
        except EnvironmentBroken as error:
            missing[name] = error.message
            place.unlink(missing_ok=True)
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
