"""What operators do to a running system: the announced maintenance window."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import requests

from harness.errors import EnvironmentBroken
from harness.evidence.healing import Healing
from harness.evidence.model import Proof
from harness.experiment.target import Frozen, Mode, TargetSpec
from harness.experiment.units import Seconds
from harness.fault.base import Fault
from harness.fault.healing import PATIENCE_S as HEALING_PATIENCE_S
from harness.out_of_band import ask

PATIENCE_S = 20.0
CANARY_S = 3.0
WINDOW_S = 2.0  # the least that is a window: drain, and be seen to refuse


class MaintenanceParams(Frozen):
    """``announce``: how long before the window it is announced, within the fault's own time."""

    announce: Seconds = 3.0
    reason: str = "planned maintenance"
    retry_after: Seconds = 5.0


class Maintenance(Fault[MaintenanceParams]):
    """Announce, wait, close (drain), and open again: an announced window under load.

    ``at`` is the announcement, the window opens ``announce`` later, and ``for`` counts from ``at``.
    """

    name = "maintenance"
    family = "operations"
    Params = MaintenanceParams

    @classmethod
    def touches(cls, params: MaintenanceParams, spec: TargetSpec) -> tuple[str, ...]:
        if spec.mode is None:
            raise ValueError(f"target {spec.name!r} has no operating mode (x-ledgerquake.mode)")
        return (spec.mode.service,)

    @classmethod
    def proof_needed(cls, params: MaintenanceParams) -> str:
        return (
            "the mode's epoch advances, and a write without effect is refused with 503 and Retry-After "
            "while it lasts, not before and not after"
        )

    @classmethod
    def shortest_s(cls, params: MaintenanceParams) -> float:
        return params.announce + WINDOW_S

    @classmethod
    def longest_s(cls, params: MaintenanceParams, for_s: float | None = None) -> float:
        return HEALING_PATIENCE_S + PATIENCE_S  # the window is opened, or closed again, with patience

    def healings(self) -> tuple[Healing, ...]:
        args: dict[str, str | int | float] = {
            "url": self._url(self._mode.set_path),
            "mode": "normal",
            "reason": "maintenance over",
        }
        return (Healing(action="set_mode", args=args),)

    @property
    def _mode(self) -> Mode:
        mode = self.context.spec.mode
        assert mode is not None  # touches() has checked it
        return mode

    def _url(self, path: str) -> str:
        return f"http://{self.context.runtime.address(self._mode.service, self._mode.port)}{path}"

    def inject(self) -> None:
        self.seen["touched"] = (self._mode.service,)
        self.seen["canary_before"] = self._canary()
        starts = datetime.now(UTC) + timedelta(seconds=self.params.announce)
        ends = datetime.now(UTC) + timedelta(seconds=self.seconds_left())
        announced = ask(
            "POST",
            self._url(self._mode.announce_path),
            json={
                "kind": "maintenance",
                "message": self.params.reason,
                "starts_at": starts.isoformat(),
                "ends_at": ends.isoformat(),
            },
            timeout_s=PATIENCE_S,
        )
        if not announced.ok:
            raise EnvironmentBroken(
                f"the announcement was refused: {announced.status_code} {announced.text[:200]}"
            )
        self.context.sleep(self.params.announce)
        if self.context.stopping():
            return  # nothing is closed any more that would have to be opened
        started = time.monotonic()
        answer = self._set("maintenance")
        self.seen["drained_in_s"] = round(time.monotonic() - started, 2)
        self.seen["epoch"] = answer.get("epoch")

    def _set(self, mode: str) -> dict[str, Any]:
        answer = ask(
            "PUT",
            self._url(self._mode.set_path),
            json={
                "mode": mode,
                "reason": self.params.reason,
                "retry_after_s": round(self.params.retry_after),
            },
            timeout_s=PATIENCE_S,
        )
        if not answer.ok:
            raise EnvironmentBroken(f"mode {mode} was refused: {answer.status_code} {answer.text[:200]}")
        body: dict[str, Any] = answer.json()
        return body

    def _canary(self) -> dict[str, Any]:
        try:
            answer = ask("POST", self._url(self._mode.canary_path), json={}, timeout_s=CANARY_S)
        except requests.RequestException as error:
            return {"status": None, "error": str(error)}
        return {"status": answer.status_code, "retry_after": answer.headers.get("Retry-After")}

    def observe(self) -> None:
        self.seen["canary_during"] = self._canary()

    def still(self) -> None:
        self.seen["canary_at_end"] = self._canary()

    def recovered(self) -> None:
        self.seen["canary_after"] = self._canary()

    def proof(self) -> Proof:
        before, during, at_end, after = (
            self.seen.get(f"canary_{when}") or {} for when in ("before", "during", "at_end", "after")
        )
        proved = bool(
            self.seen.get("epoch")
            and _refused(during)
            and _refused(at_end)
            and before.get("status") not in (None, 503)
            and after.get("status") not in (None, 503)
        )
        text = (
            f"epoch {self.seen.get('epoch')}, drained in {self.seen.get('drained_in_s')} s; "
            f"a write without effect got {before.get('status')} before, "
            f"{during.get('status')} during, {at_end.get('status')} at the end, {after.get('status')} after"
        )
        return Proof(proved=proved, text=text, observed=dict(self.seen))


def _refused(canary: Mapping[str, Any]) -> bool:
    return canary.get("status") == 503 and canary.get("retry_after") is not None
