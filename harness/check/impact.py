"""What it cost: the figures a business asks for. Counted from what clients saw, by logical operation.

Figures (None: cannot be said)::

    <function>_failed, _unknown, _delayed            operations; delayed: ok, but after 5 s or more
    <function>_failed_minor, _unknown_minor, _delayed_minor    their value, where they carry money
    <function>_availability_percent                  of operations due from steady's end to the end of load
    recovery_time_s                                  from the last healing (RTO)
    money_delay_minor_s                              value x time that ok money operations were delayed
    affected_subscribers                             subscribers with at least one operation not ok
    compensation_minor                               unserved subscriber-minutes x the target's tariff
    <figure of an invariant's ``impact`` head>       its violations: acknowledged_writes_lost (RPO) ...
"""

from __future__ import annotations

from collections.abc import Mapping

import duckdb

from harness.check.recovery import Recovery
from harness.experiment.target import TargetSpec

DELAYED_MS = 5000
TARIFF = "tariff_minor_per_subscriber_minute"


def impact(
    connection: duckdb.DuckDBPyConnection,
    spec: TargetSpec,
    recovery: Recovery,
    by_invariants: Mapping[str, int],
) -> dict[str, float | None]:
    """The figures of one run; ``by_invariants`` are violations by figure. Raises duckdb.Error."""
    figures: dict[str, float | None] = {}
    for row in _by_function(connection):
        figures |= _function_figures(*row)
    figures["recovery_time_s"] = recovery.seconds(recovery.overall_ns)
    figures |= _subscribers(connection, spec.impact.get(TARIFF))
    return figures | {name: float(count) for name, count in by_invariants.items()}


def _by_function(connection: duckdb.DuckDBPyConnection) -> list[tuple[object, ...]]:
    return connection.execute(
        f"""
        with o as (
          select function, outcome, coalesce(amount_minor, 0) as money, amount_minor is not null as carries,
                 outcome = 'ok' and (completed_ns - intended_ns) / 1e6 >= {DELAYED_MS} as delayed,
                 intended_ns >= (select steady_ended_ns from timeline) as counted
          from operations join functions using (kind))
        select function, count(*) filter (outcome = 'fail'), count(*) filter (outcome = 'unknown'),
               count(*) filter (delayed), sum(money) filter (outcome = 'fail'),
               sum(money) filter (outcome = 'unknown'), sum(money) filter (delayed), bool_or(carries),
               100 * count(*) filter (counted and outcome = 'ok') / nullif(count(*) filter (counted), 0)
        from o group by function order by function
        """
    ).fetchall()


def _function_figures(name: object, *row: object) -> dict[str, float | None]:
    failed, unknown, delayed, failed_minor, unknown_minor, delayed_minor, carries, availability = row
    figures = {"failed": failed, "unknown": unknown, "delayed": delayed}
    if carries:
        figures |= {
            "failed_minor": failed_minor,
            "unknown_minor": unknown_minor,
            "delayed_minor": delayed_minor,
        }
    out: dict[str, float | None] = {f"{name}_{key}": _number(value) or 0.0 for key, value in figures.items()}
    out[f"{name}_availability_percent"] = _number(availability)
    return out


def _subscribers(connection: duckdb.DuckDBPyConnection, tariff: float | None) -> dict[str, float | None]:
    """Unserved time: from a subscriber's first operation that was not ok to its next one that was."""
    row = connection.execute(
        f"""
        with o as (
          select subscriber, intended_ns, outcome,
                 min(intended_ns) filter (outcome = 'ok') over following as next_ok_ns,
                 lag(outcome) over (partition by subscriber order by intended_ns, seq) as before,
                 (select coalesce(load_ended_ns, collected_ns) from timeline) as ended_ns
          from operations where subscriber is not null
          window following as (partition by subscriber order by intended_ns, seq
                               rows between 1 following and unbounded following))
        select count(distinct subscriber),
               sum(coalesce(next_ok_ns, ended_ns) - intended_ns) filter (coalesce(before, 'ok') = 'ok')
                 / 6e10,
               (select sum(coalesce(amount_minor, 0) * ((completed_ns - intended_ns) / 1e9)) from operations
                where outcome = 'ok' and amount_minor is not null
                  and (completed_ns - intended_ns) / 1e6 >= {DELAYED_MS})
        from o where outcome <> 'ok'
        """
    ).fetchone()
    affected, minutes, money_delay = row or (0, 0.0, 0.0)
    figures: dict[str, float | None] = {
        "affected_subscribers": float(affected),
        "money_delay_minor_s": round(float(money_delay or 0.0), 1),
    }
    if tariff is not None:
        figures["compensation_minor"] = round(float(minutes or 0.0) * tariff, 1)
    return figures


def _number(value: object) -> float | None:
    return None if value is None else round(float(str(value)), 4)
