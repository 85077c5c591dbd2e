"""What a record costs, written down from the rules of the price lists once more, and slowly.

An oracle: it shares nothing with the stack or with the invariants. Prices are exact fractions of a minor
unit; time is told by the local clock and calendar of whoever sells.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from math import ceil, floor
from zoneinfo import ZoneInfo

HOME, ALFA, BETA = "home", "alfa", "beta"
SELLERS = {  # currency and clock
    HOME: ("EUR", ZoneInfo("Europe/Berlin")),
    ALFA: ("EUR", ZoneInfo("Europe/Paris")),
    BETA: ("USD", ZoneInfo("America/New_York")),
}


@dataclass(frozen=True)
class Line:
    """Begins at ``base``, goes up by ``step`` each month, and begins again after ``cycle`` months."""

    base: Fraction
    step: Fraction
    cycle: int
    increment: int
    peak_ends: int = 20  # o'clock
    days: range = range(1, 32)


def line(base: str, step: str, cycle: int, increment: int, **more: object) -> Line:
    return Line(Fraction(base), Fraction(step), cycle, increment, **more)  # type: ignore[arg-type]


REGULAR = {
    (HOME, "data"): line("0.02", "0.00025", 12, 10),
    (HOME, "voice"): line("0.15", "0.001", 8, 30),
    (HOME, "sms"): line("5", "0.05", 6, 1),
    (ALFA, "data"): line("0.02", "0.0004", 8, 1),
    (ALFA, "voice"): line("0.16", "0.002", 6, 60),
    (ALFA, "sms"): line("5", "0.1", 4, 1),
    (BETA, "data"): line("0.018", "0.0003", 23, 10),
    (BETA, "voice"): line("0.125", "0.0015", 23, 20),
    (BETA, "sms"): line("4", "0.1", 23, 1),
}
CORRECTION = {
    (HOME, "voice"): line("0.14", "0.001", 8, 1, peak_ends=18),
    (HOME, "data"): line("0.01", "0.000125", 12, 10, days=range(11, 21)),
    (HOME, "telex"): line("0.7", "0", 1, 5),
}
DEAREST = 10**12


def cost(
    seller: str, service: str, units: int, began: datetime, now: datetime, *, corrected: bool
) -> tuple[str, int] | None:
    """Currency and minor units; None for what nobody can rate."""
    if began - now > timedelta(days=1) or seller not in SELLERS:
        return None
    currency, clock = SELLERS[seller]
    local = began.astimezone(clock)
    if not 2024 <= local.year <= 2035:
        return None
    chosen = REGULAR.get((seller, service))
    better = CORRECTION.get((seller, service))
    if corrected and better is not None and local.day in better.days:
        chosen = better
    if chosen is None:
        return None
    months = (local.year - 2024) * 12 + local.month - 1
    price = chosen.base + months % chosen.cycle * chosen.step
    if 8 <= local.hour < chosen.peak_ends:
        price *= Fraction(6, 5)
    exact = ceil(Fraction(units, chosen.increment)) * chosen.increment * price
    whole = floor(exact)
    amount = whole + 1 if exact - whole >= Fraction(1, 2) else whole
    return (currency, amount) if amount <= DEAREST else None
