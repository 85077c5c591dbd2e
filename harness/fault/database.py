"""The database as a cluster: what an operator does to it on purpose."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import requests

from harness.errors import EnvironmentBroken
from harness.evidence.healing import Healing
from harness.evidence.model import Proof
from harness.experiment.target import Frozen, Switchover, TargetSpec
from harness.experiment.vocabulary import HEALING_S
from harness.fault.base import Fault, NoParams
from harness.out_of_band import ask

PATIENCE_S = 30.0


class PlannedSwitchover(Fault[NoParams]):
    """The primary hands over to its standby on request (Patroni's REST API); ends by itself."""

    name = "switchover"
    family = "database"
    duration = "none"

    @classmethod
    def touches(cls, params: Frozen, spec: TargetSpec) -> tuple[str, ...]:
        if spec.switchover is None:
            raise ValueError(f"target {spec.name!r} says nothing of a switchover (x-ledgerquake.switchover)")
        return (spec.switchover.role, spec.switchover.candidate_role)

    @classmethod
    def proof_needed(cls, params: Frozen) -> str:
        return "Patroni agrees, and another node holds the primary's role, on a later timeline"

    @classmethod
    def longest_s(cls, params: Frozen, for_s: float | None = None) -> float:
        return 3 * PATIENCE_S + HEALING_S  # for the answer, for the role, for the timeline

    def healings(self) -> tuple[Healing, ...]:
        return ()

    @property
    def _how(self) -> Switchover:
        how = self.context.spec.switchover
        assert how is not None  # touches() has checked it
        return how

    def inject(self) -> None:
        runtime, how = self.context.runtime, self._how
        leader, candidate = runtime.role(how.role), runtime.role(how.candidate_role)
        if leader is None or candidate is None:
            raise EnvironmentBroken(
                f"no switchover without both: {how.role} is {leader}, {how.candidate_role} is {candidate}"
            )
        self.seen.update(touched=(leader, candidate), leader=leader, candidate=candidate)
        self.seen["timeline_before"] = self._timeline(leader)
        started = time.monotonic()
        answer = ask(
            how.endpoint.method,
            f"http://{runtime.address(leader, how.endpoint.port)}{how.endpoint.path}",
            json={"leader": leader, "candidate": candidate},
            timeout_s=PATIENCE_S,
        )
        self.seen["answer"] = f"{answer.status_code} {answer.text.strip()[:200]}"
        self.seen["agreed"] = answer.ok
        if not answer.ok:  # whatever moves now was not asked for here
            raise EnvironmentBroken(f"the switchover was refused: {self.seen['answer']}")
        self._wait_for(lambda: runtime.role(how.role) == candidate)
        # Patroni answers as primary from the leader lock on, a moment before it has promoted.
        before = self.seen["timeline_before"] or 0
        self._wait_for(lambda: (self._timeline(candidate) or 0) > before)
        self.seen["switched_in_s"] = round(time.monotonic() - started, 2)
        self.seen["holder_after"] = runtime.role(how.role)
        self.seen["timeline_after"] = self._timeline(candidate)

    def recovered(self) -> None:
        """The old primary follows as standby: a figure for people, judged by nobody."""
        role, leader = self._how.candidate_role, self.seen["leader"]
        started = time.monotonic()
        if self._wait_for(lambda: self.context.runtime.role(role) == leader):
            self.seen["standby_again_in_s"] = round(time.monotonic() - started, 2)

    def _wait_for(self, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and not self.context.stopping():
            if condition():
                return True
            self.context.sleep(0.1)
        return False

    def _timeline(self, node: str) -> int | None:
        url = f"http://{self.context.runtime.address(node, self._how.endpoint.port)}/patroni"
        try:
            value: Any = ask("GET", url, timeout_s=2).json().get("timeline")
        except (requests.RequestException, ValueError):
            return None
        return int(value) if value is not None else None

    def proof(self) -> Proof:
        before, after = self.seen.get("timeline_before"), self.seen.get("timeline_after")
        moved = self.seen.get("holder_after") == self.seen.get("candidate") != self.seen.get("leader")
        advanced = before is not None and after is not None and after > before
        text = (
            f"{self._how.role} went from {self.seen.get('leader')} to {self.seen.get('holder_after')} "
            f"in {self.seen.get('switched_in_s')} s, timeline {before} to {after}"
        )
        proved = bool(self.seen.get("agreed") and moved and advanced)
        return Proof(proved=proved, text=text, observed=dict(self.seen))
