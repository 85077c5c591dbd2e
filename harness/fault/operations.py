"""What operators do to a running system by its operating mode: an announced window, a lockdown.

Proof is the mode's epoch, which only grows, as the system itself tells it, and what it says to a write of
money that has no effect (the canary): let through before, refused cleanly while it lasts, let through after.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Literal

import requests

from harness.evidence.healing import Healing
from harness.evidence.model import Proof
from harness.experiment.target import Frozen, Mode, TargetSpec
from harness.experiment.units import Seconds
from harness.fault.base import Fault, P
from harness.fault.patience import PATIENCE_S, tell
from harness.out_of_band import ask

ANSWER_S = 3.0
WINDOW_S = 2.0  # the least that is a window: closed, and be seen to refuse
END_S = 0.5  # before the healing, for the last look
AFTER_S = 5.0  # the mode is told to all parts of the system, which takes a moment
LOOK_S = 0.2

Answers = Mapping[str, Any]


class ModeChange(Fault[P]):
    """What both share: the mode is set (``close``), watched, and set back to normal by one healing."""

    family = "operations"
    sets = "the operating mode"
    mode: ClassVar[str]
    over: ClassVar[str]  # the reason that is given for normal again

    @abstractmethod
    def close(self) -> None:
        """Set the mode; puts what was answered in ``seen["epoch"]``, or leaves it open at a stop."""

    @classmethod
    def touches(cls, params: Frozen, spec: TargetSpec) -> tuple[str, ...]:
        if spec.mode is None:
            raise ValueError(f"target {spec.name!r} has no operating mode (x-ledgerquake.mode)")
        return (spec.mode.service,)

    @classmethod
    def proof_needed(cls, params: Frozen) -> str:
        return (
            f"the mode's epoch advances to {cls.mode}, and back to normal; a write without effect is refused "
            "with 503 and Retry-After while it lasts, not before and not after"
        )

    @classmethod
    def shortest_s(cls, params: Any) -> float:
        return WINDOW_S

    @classmethod
    def longest_s(cls, params: Any, for_s: float | None = None) -> float:
        return 2 * PATIENCE_S  # it is closed, and opened again, with patience

    def healings(self) -> tuple[Healing, ...]:
        args: dict[str, str | int | float] = {
            "url": self.url(self.how.set_path),
            "mode": "normal",
            "reason": self.over,
        }
        return (Healing(action="set_mode", args=args),)

    @property
    def how(self) -> Mode:
        mode = self.context.spec.mode
        assert mode is not None  # touches() has checked it
        return mode

    def url(self, path: str) -> str:
        return f"http://{self.context.runtime.address(self.how.service, self.how.port)}{path}"

    def inject(self) -> None:
        self.seen["touched"] = (self.how.service,)
        self._patient_until = time.monotonic() + PATIENCE_S
        self._look("before", PATIENCE_S, self._heard)
        self.close()

    def tell(self, method: Literal["PUT", "POST"], path: str, body: Answers, what: str) -> Answers:
        """One patience for all of an injection."""
        left_s = max(0.0, self._patient_until - time.monotonic())
        stopping = self.context.stopping
        return tell(method, self.url(path), body, what, patience_s=left_s, stopping=stopping)

    def set(self, body: Answers) -> None:
        started = time.monotonic()
        answer = self.tell("PUT", self.how.set_path, {"mode": self.mode, **body}, f"set mode {self.mode}")
        self.seen["set_in_s"] = round(time.monotonic() - started, 2)
        self.seen["epoch"] = answer.get("epoch")

    # --- what is seen ---------------------------------------------------------------------------
    def observe(self) -> None:
        """At once, and in the middle: there an answer may be waited for, if another fault keeps it back."""
        self._look("at_once")
        self.context.sleep(self.seconds_left() / 2)
        self._look("during", self.seconds_left() - END_S, self._heard)

    def still(self) -> None:
        self._look("at_end")

    def recovered(self) -> None:
        self._look("after", AFTER_S, lambda when: self._not_over(when) is None)

    def _look(self, when: str, wait_s: float = 0.0, enough: Callable[[str], bool] | None = None) -> None:
        """Into ``seen``; again for ``wait_s`` while it is not ``enough``."""
        deadline = time.monotonic() + wait_s
        while True:
            self.seen[f"mode_{when}"] = self._in_force()
            self.seen[f"canary_{when}"] = self._canary()
            late = time.monotonic() >= deadline or self.context.stopping()
            if late or enough is None or enough(when):
                return
            self.context.sleep(LOOK_S)

    def _heard(self, when: str) -> bool:
        mode, canary = self._seen(when)
        return mode.get("mode") is not None and canary.get("status") is not None

    def _canary(self) -> Answers:
        try:
            answer = ask("POST", self.url(self.how.canary_path), json={}, timeout_s=ANSWER_S)
        except requests.RequestException as error:
            return {"status": None, "error": str(error)}
        return {"status": answer.status_code, "retry_after": answer.headers.get("Retry-After")}

    def _in_force(self) -> Answers:
        try:
            said = ask("GET", self.url(self.how.status_path), timeout_s=ANSWER_S).json()
            return {"mode": said.get("mode"), "epoch": said.get("epoch")}
        except (requests.RequestException, ValueError, AttributeError) as error:
            return {"mode": None, "epoch": None, "error": str(error)}

    # --- what it proves -------------------------------------------------------------------------
    def proof(self) -> Proof:
        why_not = (
            self._not_open("before")
            or self._not_set()
            or self._not_closed("at_once")
            or self._not_closed("during")
            or self._not_closed("at_end")
            or self._not_over("after")
        )
        text = why_not or (
            f"{self.how_it_was_set()}; a write without effect got {self._status('before')} before, "
            f"{self._status('during')} during, {self._status('at_end')} at the end, "
            f"{self._status('after')} after"
        )
        return Proof(proved=why_not is None, text=text, observed=dict(self.seen))

    def how_it_was_set(self) -> str:
        return f"{self.mode} is epoch {self.seen['epoch']}, answered in {self.seen.get('set_in_s')} s"

    def _seen(self, when: str) -> tuple[Answers, Answers]:
        """The mode, and what the canary got."""
        return self.seen.get(f"mode_{when}") or {}, self.seen.get(f"canary_{when}") or {}

    def _status(self, when: str) -> int | None:
        """What the canary got; None: no answer."""
        status: int | None = self._seen(when)[1].get("status")
        return status

    def _not_open(self, when: str) -> str | None:
        """Why it was not normal, with writes let through."""
        mode = self._seen(when)[0]
        if mode.get("mode") != "normal" or mode.get("epoch") is None:
            return f"the mode was {mode.get('mode')} {_WORDS[when]}"
        if self._status(when) in (None, 503):
            return f"a write without effect got {self._status(when)} {_WORDS[when]}"
        return None

    def _not_set(self) -> str | None:
        before, epoch = self._seen("before")[0]["epoch"], self.seen.get("epoch")
        if epoch is None or epoch <= before:
            return f"the mode's epoch did not advance: {before} before, {epoch} was answered"
        return None

    def _not_closed(self, when: str) -> str | None:
        mode, canary = self._seen(when)
        if (mode.get("mode"), mode.get("epoch")) != (self.mode, self.seen["epoch"]):
            return (
                f"the mode was {mode.get('mode')} of epoch {mode.get('epoch')} {_WORDS[when]}, "
                f"not {self.mode} of epoch {self.seen['epoch']}"
            )
        if canary.get("status") != 503 or canary.get("retry_after") is None:
            return f"a write without effect was not refused with 503 and Retry-After {_WORDS[when]}: {canary}"
        return None

    def _not_over(self, when: str) -> str | None:
        epoch = self._seen(when)[0].get("epoch")
        if why_not := self._not_open(when):
            return why_not
        closed = self.seen.get("epoch")
        if epoch is None or closed is None or epoch <= closed:
            return f"the mode is normal of epoch {epoch}, which is not after {closed}"
        return None


_WORDS = {
    "before": "before",
    "at_once": "at once",
    "during": "while it lasted",
    "at_end": "right before it was healed",
    "after": "after it was healed",
}


class MaintenanceParams(Frozen):
    """``announce``: how long before the window it is announced, within the fault's own time."""

    announce: Seconds = 3.0
    reason: str = "planned maintenance"
    retry_after: Seconds = 5.0


class Maintenance(ModeChange[MaintenanceParams]):
    """Announce, wait, close (drain), and open again: an announced window under load.

    ``at`` is the announcement, the window opens ``announce`` later, and ``for`` counts from ``at``.
    """

    name = "maintenance"
    mode = "maintenance"
    over = "maintenance over"
    Params = MaintenanceParams

    @classmethod
    def shortest_s(cls, params: MaintenanceParams) -> float:
        return params.announce + WINDOW_S

    def close(self) -> None:
        starts = datetime.now(UTC) + timedelta(seconds=self.params.announce)
        ends = datetime.now(UTC) + timedelta(seconds=self.seconds_left())
        announcement = {
            "kind": "maintenance",
            "message": self.params.reason,
            "starts_at": starts.isoformat(),
            "ends_at": ends.isoformat(),
        }
        self.tell("POST", self.how.announce_path, announcement, "publish the announcement")
        self.context.sleep(self.params.announce)
        self._patient_until += self.params.announce
        if not self.context.stopping():  # else nothing is closed any more that would have to be opened
            self.set({"reason": self.params.reason, "retry_after_s": round(self.params.retry_after)})


class LockdownParams(Frozen):
    """``reason``: as it is given to the system with the mode."""

    reason: str = "security breach"


class Lockdown(ModeChange[LockdownParams]):
    """A security breach: access to payments is suspended at once, and later given again.

    Nothing is announced, and what may go on (reads, usage) is the system's own rule.
    """

    name = "lockdown"
    mode = "lockdown"
    over = "lockdown lifted"
    Params = LockdownParams

    def close(self) -> None:
        self.set({"reason": self.params.reason})
