"""The load itself as a fault."""

from __future__ import annotations

import time

from pydantic import field_validator

from harness.evidence.healing import Healing
from harness.evidence.model import Proof
from harness.experiment.target import Frozen, TargetSpec
from harness.fault.base import Fault


class SurgeParams(Frozen):
    """``factor``: times the experiment's arrival rate."""

    factor: float

    @field_validator("factor")
    @classmethod
    def _more(cls, value: float) -> float:
        if not 1 < value <= 20:
            raise ValueError(f"factor {value:g} is out of range: above 1, at most 20")
        return value


class Surge(Fault[SurgeParams]):
    """The arrival rate is stepped up. The plan's rate segments do it; here it is only watched."""

    name = "surge"
    family = "load"
    Params = SurgeParams

    @classmethod
    def touches(cls, params: SurgeParams, spec: TargetSpec) -> tuple[str, ...]:
        return spec.ways_in

    @classmethod
    def proof_needed(cls, params: SurgeParams) -> str:
        return f"the measured arrival rate is about {params.factor:g} times that of before"

    @classmethod
    def rate_factor(cls, params: SurgeParams) -> float:
        return params.factor

    @classmethod
    def shortest_s(cls, params: SurgeParams) -> float:
        return 2.0  # arrivals are counted by whole seconds: two hold at least one

    def healings(self) -> tuple[Healing, ...]:
        return ()

    def inject(self) -> None:
        self.seen["touched"] = self.context.spec.ways_in
        now = time.time_ns()
        self._started_ns = now
        self.seen["rate_before"] = self.context.arrivals_per_s(now - 5 * 10**9, now)

    def recovered(self) -> None:
        ended = self.until_ns if self.until_ns is not None else time.time_ns()
        self.context.sleep(1.5)  # the figures of the last second come a second late
        self.seen["rate_during"] = self.context.arrivals_per_s(self._started_ns, ended)

    def proof(self) -> Proof:
        before, during = self.seen.get("rate_before"), self.seen.get("rate_during")
        factor = during / before if before and during else 0.0
        proved = 0.75 * self.params.factor <= factor <= 1.33 * self.params.factor
        text = f"arrivals went from {before or 0:.0f}/s to {during or 0:.0f}/s, {factor:.2f} times"
        return Proof(proved=proved, text=text, observed=dict(self.seen))
