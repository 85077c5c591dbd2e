"""The rules by which invoicing bills, reminds and compensates; each is a setting of the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Rules:
    """Seconds, and minor units.

    ``due_after_s``: from the issue of an invoice to the day it is due. ``dunning_every_s``: between two
    steps at least. ``dunning_grace_s``: dunning stands still for so long after an outage or a restriction.
    ``compensation_min_s``: a shorter outage is compensated with nothing.
    """

    due_after_s: float = 6.0
    dunning_every_s: float = 3.0
    dunning_grace_s: float = 3.0
    compensation_min_s: float = 3.0
    compensation_minor_per_minute: int = 20

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Rules:
        """``DUE_AFTER_S`` and so on; what is not set keeps its default."""
        return cls(
            due_after_s=_seconds(environment, "DUE_AFTER_S", cls.due_after_s),
            dunning_every_s=_seconds(environment, "DUNNING_EVERY_S", cls.dunning_every_s),
            dunning_grace_s=_seconds(environment, "DUNNING_GRACE_S", cls.dunning_grace_s),
            compensation_min_s=_seconds(environment, "COMPENSATION_MIN_S", cls.compensation_min_s),
            compensation_minor_per_minute=int(
                _seconds(environment, "COMPENSATION_MINOR_PER_MINUTE", cls.compensation_minor_per_minute)
            ),
        )

    def compensation_minor(self, began_at: datetime, ended_at: datetime) -> int:
        """What each subscriber who met the outage is given: for each minute that was started."""
        length = ended_at - began_at
        if length < timedelta(seconds=self.compensation_min_s):
            return 0
        return -(-length // timedelta(minutes=1)) * self.compensation_minor_per_minute


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 10**9:
        raise SystemExit(f"{name} must be a number from 0 to 10^9, not {text!r}")
    return value
