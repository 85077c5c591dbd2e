"""One fault from its injection to its proof, with its healing journalled first."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from harness.evidence.healing import Healing
from harness.evidence.model import FaultRecord, Proof
from harness.fault.base import Context, Fault
from harness.fault.healing import heal
from harness.plan import PlannedFault


class HealingLog(Protocol):
    """The journal, as far as faults need it."""

    def intend(self, healing: Healing) -> str: ...

    def healed(self, id: str) -> None: ...


def carry_out(
    fault: Fault[Any],
    planned: PlannedFault,
    context: Context,
    journal: HealingLog,
    on_change: Callable[[str, str], None],
) -> FaultRecord:
    """Inject, observe, wait, heal, prove. Heals whatever happens; never raises for the fault's sake.

    ``on_change(id, state)`` is told ``injected``, and ``healed`` when it was.
    """
    length_s = planned.until_s - planned.at_s if planned.until_s is not None else None
    injected_ns: int | None = None
    healed_ns: int | None = None
    error: str | None = None
    intents: list[tuple[str, Healing]] = []
    try:
        healings = fault.healings()
        intents = [(journal.intend(healing), healing) for healing in healings]
        injected_ns = time.time_ns()
        fault.until_ns = injected_ns + int(length_s * 1e9) if length_s is not None else None
        on_change(planned.id, "injected")
        fault.inject()
        fault.observe()
        if fault.until_ns is not None:
            context.sleep(fault.seconds_left())
        fault.still()
    except Exception as problem:  # a fault that breaks is a fault without proof, and still to be healed
        error = f"{type(problem).__name__}: {problem}"
    heal_error = _heal_all(intents, context, journal)
    if injected_ns is not None and heal_error is None:
        healed_ns = time.time_ns()
        on_change(planned.id, "healed")
    return FaultRecord(
        id=planned.id,
        fault=planned.fault,
        touches=fault.touched() or planned.touches,
        params=planned.params,
        injected_ns=injected_ns,
        healed_ns=healed_ns,
        proof=_prove(fault, heal_error or error),
        error=error,
        heal_error=heal_error,
    )


def _heal_all(intents: list[tuple[str, Healing]], context: Context, journal: HealingLog) -> str | None:
    """Last first; goes on after a failure, and says the first one."""
    failure: str | None = None
    for id, healing in reversed(intents):
        try:
            heal(healing, context.runtime, context.links)
            journal.healed(id)
        except Exception as problem:  # whatever it is, the other healings must be tried
            what = f"{healing.action} {dict(healing.args)}"
            failure = failure or f"could not heal ({what}): {type(problem).__name__}: {problem}"
    return failure


def _prove(fault: Fault[Any], error: str | None) -> Proof:
    if error is not None:
        return Proof(proved=False, text=error, observed=dict(fault.seen))
    try:
        fault.recovered()
        return fault.proof()
    except Exception as problem:  # a proof that breaks proves nothing
        return Proof(proved=False, text=f"{type(problem).__name__}: {problem}", observed=dict(fault.seen))
