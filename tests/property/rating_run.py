"""Records to rate, and the evidence of a run that rated them: tables as the invariants read them."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa

from billing.mediation.cdr import Cdr
from billing.roaming.tap import EVENTS_PER_FILE, Event, TapFile, make_file
from tests.property import rating_rules as rules

NOW = datetime(2034, 7, 1, tzinfo=UTC)
FIRST, LAST = datetime(2023, 12, 1, tzinfo=UTC), datetime(2036, 2, 1, tzinfo=UTC)
PERIODS = [f"P{number}" for number in range(1, 7)]
Price = tuple[str, int] | None


def ns(instant: datetime) -> int:
    """Epoch nanoseconds, exactly."""
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


# --- what there is to rate ------------------------------------------------------------------------
def turns() -> list[datetime]:
    """Instants about which much goes wrong: months and years begin, clocks are put on and back, peaks too."""
    found = []
    for _, clock in rules.SELLERS.values():
        for month in range(145):
            found.append(datetime(2024 + month // 12, month % 12 + 1, 1, tzinfo=clock).astimezone(UTC))
    hour, offsets = FIRST, {}
    while hour < LAST:
        for name, (_, clock) in rules.SELLERS.items():
            offset = hour.astimezone(clock).utcoffset()
            if offsets.setdefault(name, offset) != offset:
                offsets[name] = offset
                found.append(hour)
        hour += timedelta(hours=1)
    return found


TURNS = turns()


def instant(rng: random.Random) -> datetime:
    kind = rng.random()
    if kind < 0.4:
        return FIRST + timedelta(seconds=rng.randrange(int((LAST - FIRST).total_seconds())))
    if kind < 0.7:
        return rng.choice(TURNS) + timedelta(
            microseconds=rng.choice([-1, 0, 1, -3_600_000_000, 3_600_000_000])
        )
    day = FIRST + timedelta(days=rng.randrange((LAST - FIRST).days))
    return day + timedelta(hours=rng.randrange(24), microseconds=rng.choice([-1, 0, 1]))  # full hours


def use(rng: random.Random, number: int) -> Cdr:
    service = rng.choice(["data", "voice", "sms", "data", "voice", "sms", "telex", "fax"])
    visitor_of = rng.choice([None, None, "alfa", "beta"]) if service in ("data", "voice", "sms") else None
    units = rng.choice(
        [rng.randrange(100), rng.randrange(100_000), rng.randrange(100) * 10, rng.randrange(20) * 30]
    )
    if rng.random() < 0.001:
        units = rng.choice([10**12, 2**63 - 1, 166_666_666_666, 200_000_000_000])  # about the largest charge
    if rng.random() < 0.005:
        visitor_of = "gamma"
    return Cdr(f"r{number}", 1 + number % 900, service, units, instant(rng), visitor_of)


@dataclass(frozen=True)
class Case:
    """All records; what the stack makes of them by the regular price lists (``before``) and by the corrected
    ones (``after``); and both as the rules say (``exact``).
    """

    uses: list[Cdr]
    before: dict[str, Price]
    after: dict[str, Price]
    exact: dict[str, tuple[Price, Price]]


# --- the evidence of a run that rated all of them -------------------------------------------------
def table(
    connection: duckdb.DuckDBPyConnection, name: str, columns: dict[str, str], rows: list[tuple[Any, ...]]
) -> None:
    """A table of the evidence; ``columns`` gives types as DuckDB names them."""
    types = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), "BOOLEAN": pa.bool_()}
    values = list(zip(*rows, strict=True)) or [()] * len(columns)
    arrays = [pa.array(column, types[kind]) for column, kind in zip(values, columns.values(), strict=True)]
    connection.register("given", pa.table(arrays, names=list(columns)))
    schema = name.rpartition(".")[0]
    if schema:
        connection.execute(f"create schema if not exists {schema}")
    connection.execute(f"create table {name} as select * from given")
    connection.unregister("given")


TEXT, WHOLE = "VARCHAR", "BIGINT"
RATED = {
    "record_id": TEXT, "rating": WHOLE, "subscriber": WHOLE, "service": TEXT, "units": WHOLE,
    "started_at_ns": WHOLE, "visitor_of": TEXT, "charge_minor": WHOLE, "currency": TEXT, "rated_at_ns": WHOLE,
    "reversed_at_ns": WHOLE,
}  # fmt: skip


def write_usage(connection: duckdb.DuckDBPyConnection, case: Case) -> None:
    """Every record was sent, rated by the regular prices, and corrected where C1 concerns it."""
    rated, suspended, told, moved = [], [], [], []
    for cdr in case.uses:
        first, last = case.before[cdr.record_id], case.after[cdr.record_id]
        local = cdr.started_at.astimezone(rules.SELLERS[rules.HOME][1])
        concerned = last is not None and cdr.visitor_of is None and (
            cdr.service in ("voice", "telex") or (cdr.service == "data" and 11 <= local.day <= 20)
        )  # fmt: skip
        own = (cdr.subscriber, cdr.service, cdr.units, ns(cdr.started_at), cdr.visitor_of)
        ratings = [price for price in ([first, last] if concerned else [first]) if price is not None]
        if not ratings:
            suspended.append((cdr.record_id, None))
        for number, (currency, amount) in enumerate(ratings, 1):
            is_live = number == len(ratings)
            at = number * 1000
            rated.append((cdr.record_id, number, *own, amount, currency, at, None if is_live else at + 500))
            if cdr.visitor_of is None:
                told.append(("cdr.rated", cdr.record_id, number, at))
                moved.append(("usage", f"{cdr.record_id}/{number}", cdr, -amount))
            if not is_live:
                told.append(("cdr.reversed", cdr.record_id, number, at + 600))
                moved.append(("usage_reversal", f"{cdr.record_id}#{number}", cdr, amount))
    table(connection, "mediation.cdr_rated", RATED, rated)
    table(connection, "mediation.suspense", {"record_id": TEXT, "resolved_at": WHOLE}, suspended)
    events = [(subject, json.dumps({"record_id": r, "rating": n}), at) for subject, r, n, at in told]
    table(connection, "mediation.outbox", {"subject": TEXT, "payload": TEXT, "created_at_ns": WHOLE}, events)
    heads = [(f"{kind}:{ref}", kind, ref, cdr.record_id) for kind, ref, cdr, _ in moved]
    legs = [(f"{kind}:{ref}", f"sub:{cdr.subscriber}:main", amount) for kind, ref, cdr, amount in moved]
    table(
        connection, "charging.transaction", {"id": TEXT, "kind": TEXT, "reference": TEXT, "key": TEXT}, heads
    )
    table(
        connection,
        "charging.posting",
        {"transaction_id": TEXT, "account_id": TEXT, "amount_minor": WHOLE},
        legs,
    )


def write_operations(connection: duckdb.DuckDBPyConnection, case: Case) -> None:
    rows = []
    for cdr in case.uses:
        detail = {"service": cdr.service, "units": cdr.units, "started_at": cdr.started_at.isoformat()}
        kind = "usage"
        if cdr.visitor_of is not None:
            kind, detail["partner"] = "roaming", cdr.visitor_of
        rows.append((kind, cdr.record_id, cdr.subscriber, json.dumps(detail), "ok", ns(NOW)))
    columns = {
        "kind": TEXT,
        "key": TEXT,
        "subscriber": WHOLE,
        "detail": TEXT,
        "outcome": TEXT,
        "invoked_ns": WHOLE,
    }
    table(connection, "operations", columns, rows)
    connection.execute("alter table operations alter detail type json")
    connection.execute("alter table mediation.outbox alter payload type json")
    table(connection, "jobs", {"job": TEXT, "attempts": WHOLE, "done": "BOOLEAN"}, [("rerating", 1, True)])


def files_of(case: Case) -> list[TapFile]:
    """The visitors' records in TAP files, as roaming makes them."""
    waiting: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for cdr in case.uses:
        price = case.before[cdr.record_id]
        if cdr.visitor_of is not None and price is not None:
            period = PERIODS[int(cdr.record_id[1:]) % len(PERIODS)]
            waiting[cdr.visitor_of, period].append(Event(cdr.record_id, cdr.service, cdr.units, price[1]))
    files, sequences = [], Counter[str]()
    for (partner, period), events in sorted(waiting.items()):
        for first in range(0, len(events), EVENTS_PER_FILE):
            sequences[partner] += 1
            some = tuple(events[first : first + EVENTS_PER_FILE])
            files.append(make_file(partner, sequences[partner], period, some))
    return files


LINE = {
    "seq": WHOLE, "event": TEXT, "direction": TEXT, "partner": TEXT, "period": TEXT, "ordinal": WHOLE,
    "currency": TEXT, "event_count": WHOLE, "record_id": TEXT, "charge_minor": WHOLE, "at_ns": WHOLE,
    "receivable_minor": WHOLE, "payable_minor": WHOLE, "own_receivable_minor": WHOLE,
    "own_payable_minor": WHOLE,
}  # fmt: skip


def write_settlement(connection: duckdb.DuckDBPyConnection, files: list[TapFile]) -> None:
    """All files have been received by their partners, and each period is settled by their headers' totals."""
    lines, ours, rest = [], [], (None,) * 4
    for number, file in enumerate(files, 1):
        name = ("out", file.partner, file.period, None, file.currency)
        lines.append((len(lines) + 1, "file_received", *name, file.event_count, None, None, 1, *rest))
        for e in file.events:
            lines.append((len(lines) + 1, "tap_event", *name, None, e.record_id, e.charge_minor, 1, *rest))
            ours.append(
                (e.record_id, file.partner, "out", file.period, number, file.currency, e.charge_minor, 1)
            )
    event = {
        "record_id": TEXT,
        "partner": TEXT,
        "direction": TEXT,
        "period": TEXT,
        "file_id": WHOLE,
        "currency": TEXT,
    }
    table(connection, "witness.partner", LINE, lines)
    table(connection, "roaming.tap_event", {**event, "charge_minor": WHOLE, "received_at_ns": WHOLE}, ours)
    table(
        connection,
        "roaming.tap_file",
        {"id": WHOLE, "transmitted_at": WHOLE},
        [(n + 1, 1) for n in range(len(files))],
    )
    runs = {"period": TEXT, "started_at_ns": WHOLE, "state": TEXT}
    table(connection, "roaming.settlement_run", runs, [(period, 2, "posting") for period in PERIODS])
    settled = [
        (p, partner, "out", currency, total)
        for (partner, p, currency), total in sorted(sums_of(files).items())
    ]
    keys = {"period": TEXT, "partner": TEXT, "direction": TEXT, "currency": TEXT}
    table(connection, "roaming.settlement", {**keys, "total_minor": WHOLE}, settled)
    netting = {
        "period": TEXT,
        "partner": TEXT,
        "currency": TEXT,
        "receivable_minor": WHOLE,
        "payable_minor": WHOLE,
    }
    table(connection, "roaming.netting", netting, [])
    for period, partner, direction, _, total in settled:
        name = f"{period}:{partner}:{direction}"
        connection.execute(
            "insert into charging.transaction values (?, 'settlement', ?, ?)", [name, name, name]
        )
        connection.execute(
            "insert into charging.posting values (?, ?, ?)", [name, f"partner:{partner}:receivable", -total]
        )


def sums_of(files: list[TapFile]) -> dict[tuple[str, str, str], int]:
    """By partner, period and currency, from the files' headers."""
    sums = Counter[tuple[str, str, str]]()
    for file in files:
        sums[file.partner, file.period, file.currency] += file.total_minor
    return dict(sums)
