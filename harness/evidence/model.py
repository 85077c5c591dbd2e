"""What was observed: the typed records of a run, and where they lie in the run folder.

All instants are nanoseconds since the Unix epoch (one machine, one clock); all money is integers of
minor units. Unknown values are None, never 0.

The run folder::

    experiment.yaml target.json plan.json environment.json invariants/*.sql measures/*.sql
    evidence/operations.parquet     one row per logical operation        (OPERATION_COLUMNS)
    evidence/faults.parquet         one row per injected fault           (FaultRecord)
    evidence/jobs.parquet           one row per batch job run            (JobRecord)
    evidence/samples.parquet        probes, roles, link canaries         (Sample)
    evidence/windows.json           the phases as they happened          (Timeline)
    evidence/sql/<schema>.<table>.parquet        final state
    evidence/witness/<service>.jsonl             append-only witness logs, as they came
    logs/ verdict.json report.html junit.xml summary.md
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from harness.experiment.target import Frozen

Outcome = Literal["ok", "fail", "unknown"]

# name -> DuckDB type, in file order. ``key`` is the idempotency key (several operations may share
# one on purpose: kinds ``topup_replay`` and ``topup_conflict``); ``ref`` what the system called the
# thing (payment id); ``result`` the number read (a balance, minor units).
OPERATION_COLUMNS: dict[str, str] = {
    "seq": "BIGINT",
    "id": "VARCHAR",
    "kind": "VARCHAR",
    "key": "VARCHAR",
    "subscriber": "BIGINT",
    "amount_minor": "BIGINT",
    "intended_ns": "BIGINT",
    "invoked_ns": "BIGINT",  # null: load ended before a user was free for it
    "completed_ns": "BIGINT",
    "attempts": "BIGINT",
    "outcome": "VARCHAR",
    "status": "BIGINT",
    "error": "VARCHAR",
    "ref": "VARCHAR",
    "result": "BIGINT",
    "detail": "VARCHAR",  # kind-specific JSON the locustfile recorded (units, partner, ...)
    "queued_ns": "BIGINT",  # what it waited for a user of the full pool, which is the target's doing
}


class Proof(Frozen):
    """What was observed of a fault. ``proved`` False: looked, and did not see it."""

    proved: bool
    text: str  # one sentence for people
    observed: dict[str, Any] = Field(default_factory=dict)  # the figures behind it


class FaultRecord(Frozen):
    """A fault as it happened. ``healed_ns`` None: it was not healed.

    ``error``: the fault itself broke. ``heal_error``: it could not be undone, so the harness left it in
    place; what was seen from then on is the harness's doing.
    """

    id: str
    fault: str
    touches: tuple[str, ...]
    params: dict[str, Any]
    injected_ns: int | None
    healed_ns: int | None
    proof: Proof
    error: str | None = None
    heal_error: str | None = None


class JobRecord(Frozen):
    """A batch job as it happened; ``done`` once it answered that it was."""

    job: str
    started_ns: int
    ended_ns: int | None
    attempts: int
    done: bool
    answer: str = ""


class Sample(Frozen):
    """One observation over time: ``name`` a probe, role or canary; ``subject`` whom it is about."""

    at_ns: int
    name: str
    subject: str
    value: float | None
    text: str = ""


class Death(Frozen):
    """A component that ended uninvited."""

    service: str
    at_ns: int
    exit_code: int | None
    last_log: str = ""


class LoadSummary(Frozen):
    """What the generator says of itself; ``recorded`` must equal ``sent``.

    What was scheduled and never sent has a row too, without ``invoked_ns``; it counts in neither.
    """

    scheduled: int
    sent: int
    recorded: int
    lag_p99_ms: float
    exit_code: int | None = 0


class LoadPhases(Frozen):
    """The phases of load, as far as they have come (epoch ns). No fault: its two instants are None."""

    load_started_ns: int
    steady_ended_ns: int
    first_injection_ns: int | None = None
    last_healing_ns: int | None = None
    load_ended_ns: int | None = None

    @property
    def undisturbed_ns(self) -> int:
        """Epoch ns of the last healing; where nothing was broken, of the end of steady."""
        return self.steady_ended_ns if self.last_healing_ns is None else self.last_healing_ns


class Timeline(LoadPhases):
    """The phases of the whole run as they happened (epoch ns)."""

    deploy_started_ns: int
    ready_ns: int
    settled_ns: int | None = None  # None: work was still pending when settle_within ran out
    collected_ns: int | None = None  # None: not all of the final state could be had
    settle_pending: dict[str, int] = Field(default_factory=dict)
    moved_after_snapshot: tuple[str, ...] = ()  # what changed while the final state was read, for people
    not_collected: tuple[str, ...] = ()  # what of the final state could not be had, and why, for people
    deaths: tuple[Death, ...] = ()
    load: LoadSummary | None = None
    aborted: str | None = None


class Environment(Frozen):
    """environment.json: what ran, where."""

    run_id: str
    seed: int
    runtime: str
    toxiproxy: str  # "server 2.12.0" or "builtin"
    mutant: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    machine: dict[str, str | int | float] = Field(default_factory=dict)
    user: str = ""
    command: str = ""
