"""What it cost: the figures a business asks for. Counted from what clients saw, by logical operation.

Those that the harness counts of every target (None: cannot be said)::

    <function>_availability_percent                  of operations due from steady's end to the end of load
    <function>_outage_s                              see ``outage``
    <function>_failed, _unknown, _delayed            operations; delayed: ok, but after 5 s or more
    <function>_failed_minor, _unknown_minor, _delayed_minor    their value, where they carry money
    recovery_time_s                                  from the last healing (RTO)
    money_delay_minor_s                              value x time that ok money operations were delayed
    affected_subscribers                             subscribers with at least one operation not ok
    compensation_minor                               unserved subscriber-minutes x the target's tariff
    <figure of an invariant's ``impact`` head>       its violations: acknowledged_writes_lost (RPO) ...

The target's own come from its ``figures/*.sql`` (``figures``); one of these takes the place of a figure of
the harness that is called the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import duckdb

from harness.check.case import Case
from harness.check.figures import Value, parse_figure, rounded, run_figure
from harness.check.outage import outages
from harness.check.promises import Tally
from harness.check.recovery import Recovery
from harness.check.verdict import FigureNote
from harness.errors import TargetError
from harness.experiment.advice import FEWEST_STEADY
from harness.experiment.figure_head import Unit
from harness.experiment.target import Figure, TargetSpec

DELAYED_MS = 5000
TARIFF = "tariff_minor_per_subscriber_minute"
FUNCTIONS = "functions"  # the group of what is counted for each function
FUNCTION_FIGURES: Mapping[str, tuple[str, Unit]] = {
    "availability_percent": ("Availability", "percent"),
    "outage_s": ("Outage", "s"),
    "failed": ("Failed", "count"),
    "unknown": ("Unknown", "count"),
    "delayed": ("Delayed", "count"),
    "failed_minor": ("Failed, value", "minor"),
    "unknown_minor": ("Unknown, value", "minor"),
    "delayed_minor": ("Delayed, value", "minor"),
}
OVERALL: Mapping[str, FigureNote] = {
    "recovery_time_s": FigureNote(title="Recovered after the last healing", unit="s"),
    "money_delay_minor_s": FigureNote(title="Delayed money × its delay", unit="minor_s", group="payments"),
    "affected_subscribers": FigureNote(
        title="Subscribers with an operation that was not ok", unit="count", group="customers"
    ),
    "compensation_minor": FigureNote(
        title="Unserved minutes of subscribers, at the tariff", unit="minor", group="customers"
    ),
}
Told = tuple[dict[str, float | None], dict[str, FigureNote]]


def impact(
    case: Case, connection: duckdb.DuckDBPyConnection, recovery: Recovery, by_invariants: Mapping[str, Tally]
) -> Told:
    """The figures of one run, and what each of them is. Never raises: what breaks is null."""
    values = _counted(case, connection, recovery)
    notes = generic_notes(case.spec, values)
    for name, tally in by_invariants.items():
        values[name] = tally.value
        notes[name] = FigureNote(title=_spoken(name), unit="count")
    present = case.present(connection)
    for figure in case.spec.figures.values():
        if (found := _own(case, connection, figure, present)) is not None:
            values[figure.id] = found
            notes[figure.id] = FigureNote(
                title=figure.title, unit=figure.unit, model=figure.model, group=figure.group
            )
    return (
        {name: found.value for name, found in values.items()},
        {name: notes[name].model_copy(update={"reason": found.reason}) for name, found in values.items()},
    )


def generic_notes(spec: TargetSpec, names: Collection[str] | None = None) -> dict[str, FigureNote]:
    """What the harness counts of this target, without what its invariants count. ``names``: only these."""
    found = {
        f"{function}_{key}": FigureNote(
            title=f"{_spoken(function)}: {title[0].lower()}{title[1:]}",
            unit=unit,
            group=FUNCTIONS,
            function=function,
        )
        for function in spec.functions
        for key, (title, unit) in FUNCTION_FIGURES.items()
    }
    found |= OVERALL
    if TARIFF not in spec.impact:
        del found["compensation_minor"]
    return {name: note for name, note in found.items() if names is None or name in names}


def _spoken(name: str) -> str:
    """``acknowledged_writes_lost`` -> ``Acknowledged writes lost``."""
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


def _own(
    case: Case, connection: duckdb.DuckDBPyConnection, figure: Figure, present: Collection[str]
) -> Value | None:
    try:
        text = (Path(case.spec.folder) / figure.file).read_text(encoding="utf-8")
        return run_figure(connection, parse_figure(text, figure.file), present)
    except (OSError, TargetError) as error:
        return Value(None, str(error))


def _counted(case: Case, connection: duckdb.DuckDBPyConnection, recovery: Recovery) -> dict[str, Value]:
    """The harness's own. Unreadable operations, a doubt of their own already, leave nothing to count."""
    try:
        figures: dict[str, Value] = {}
        down = outages(connection, case.timeline)
        for function, *row in _by_function(connection):
            figures |= _function_figures(str(function), *row)
            figures[f"{function}_outage_s"] = _outage(down.get(str(function)))
        figures["recovery_time_s"] = _recovered(recovery)
        return figures | _subscribers(connection, case.spec.impact.get(TARIFF))
    except duckdb.Error as error:
        reason = f"the operations cannot be read: {error}"
        carried = [name for name in generic_notes(case.spec) if not name.endswith("_minor")]
        return {name: Value(None, reason) for name in carried}


def _outage(seconds: float | None) -> Value:
    few = f"fewer than {FEWEST_STEADY} operations in steady, or a load that never ended"
    return Value(None, few) if seconds is None else Value(seconds)


def _recovered(recovery: Recovery) -> Value:
    seconds = recovery.seconds(recovery.overall_ns)
    if seconds is not None:
        return Value(rounded(seconds))
    if recovery.healed_ns is None:
        return Value(None, "nothing was broken and healed")
    return Value(None, "it did not recover while load lasted" if recovery.judged else "too little in steady")


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


def _function_figures(name: str, *row: object) -> dict[str, Value]:
    failed, unknown, delayed, failed_minor, unknown_minor, delayed_minor, carries, availability = row
    figures = {"failed": failed, "unknown": unknown, "delayed": delayed}
    if carries:
        figures |= {
            "failed_minor": failed_minor,
            "unknown_minor": unknown_minor,
            "delayed_minor": delayed_minor,
        }
    counted = {f"{name}_{key}": Value(_number(value) or 0.0) for key, value in figures.items()}
    none_due = "" if availability is not None else "nothing was due after steady"
    return {f"{name}_availability_percent": Value(_number(availability), none_due), **counted}


def _subscribers(connection: duckdb.DuckDBPyConnection, tariff: float | None) -> dict[str, Value]:
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
    figures = {
        "affected_subscribers": Value(float(affected)),
        "money_delay_minor_s": Value(round(float(money_delay or 0.0), 1)),
    }
    if tariff is not None:
        figures["compensation_minor"] = Value(round(float(minutes or 0.0) * tariff, 1))
    return figures


def _number(value: object) -> float | None:
    return None if value is None else rounded(float(str(value)))
