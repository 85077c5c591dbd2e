"""Recovery while load still runs: the judge's own measure, over what is recorded so far.

It decides when load may end, so it must not be easier to please than the judge: a run whose load ended
on a milder measure has no window ``recovered``, and says nothing. An operation that is under way has no
row yet; so this answer may have to be taken back, and is asked for again until load ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb
import pyarrow as pa

from harness.check.recovery import HOLD_NS, recover
from harness.evidence.model import LoadPhases
from harness.evidence.views import add_functions, counted_at

ANSWERED_NS = 1_000_000_000  # what was due so long ago has a row, unless it hangs
HOLD_S = HOLD_NS / 1e9


def recovered_so_far(
    operations: pa.Table, functions: Mapping[str, Sequence[str]], phases: LoadPhases, now_ns: int
) -> int | None:
    """Epoch ns from which service is as it was in steady, or None while that has not shown.

    ``operations``: the rows so far, at least their kind, intended_ns, completed_ns and outcome.
    Where nothing was broken, it is measured from the end of steady.
    """
    counted = counted_at(phases.first_injection_ns)
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("recorded", operations)
        connection.execute(f"create view operations as select *, {counted} as counted_ns from recorded")
        add_functions(connection, functions)
        answered = phases.model_copy(
            update={"last_healing_ns": phases.undisturbed_ns, "load_ended_ns": now_ns - ANSWERED_NS}
        )
        return recover(connection, answered).overall_ns
