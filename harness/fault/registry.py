"""All faults by name. Explicit: nothing registers itself on import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.fault.base import Context, Fault
from harness.fault.configuration import BadConfig
from harness.fault.database import PlannedSwitchover
from harness.fault.lifecycle import Crash, Pause, Restart, RollingRestart
from harness.fault.load import Surge
from harness.fault.network import Latency, Partition, Reset
from harness.fault.operations import Lockdown, Maintenance
from harness.fault.resource import Cpu, Memory
from harness.plan import PlannedFault

FAULTS: Mapping[str, type[Fault[Any]]] = {
    kind.name: kind
    for kind in (
        Partition,
        Latency,
        Reset,
        Crash,
        Pause,
        Restart,
        RollingRestart,
        Cpu,
        Memory,
        PlannedSwitchover,
        Maintenance,
        Lockdown,
        BadConfig,
        Surge,
    )
}


def make_fault(planned: PlannedFault, context: Context) -> Fault[Any]:
    """The fault that a plan's line asks for."""
    kind = FAULTS[planned.fault]
    return kind.make(planned.id, kind.Params.model_validate(planned.params), context)
