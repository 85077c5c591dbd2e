"""Objectives: one figure of a function or a measure over a window, against its limit.

An operation belongs to the window of its *intended* time, and its latency counts from then, so a
stall cannot hide behind the operations it kept from being sent.

| metric | of | what |
|---|---|---|
| ``success`` | functions | % of all intended operations that ended ok (a contractual refusal is not ok) |
| ``p50 p90 p95 p99 p999 max mean`` | functions, measures | ms; of what ended ok or unknown, not of refusals |
| ``throughput`` | functions | operations that ended ok, per second |
| ``recovery`` | functions | ms from the last healing until as good as steady, see ``recovery`` |

Fewer than 20 operations say nothing: inconclusive. So does a window in which the load generator was late
(``punctuality``), and a failure that would be none if the generator's own lateness, and answers that the
locustfile could not read, were not held against the target.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from harness.check.invariants import CannotCheck, single_select, time_limit
from harness.check.punctuality import BEGAN_NS, LATE, Punctuality
from harness.check.recovery import HOLD_NS, Recovery
from harness.check.soundness import UNREADABLE
from harness.check.verdict import Answer, ExpectationVerdict
from harness.check.windows import Span, watched
from harness.experiment.model import Objective
from harness.experiment.target import TargetSpec

FEWEST = 20
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
UNITS = {"success": "%", "throughput": "/s"}
COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": math.isclose,
}

HOLD_MS = HOLD_NS / 1e6


@dataclass(frozen=True)
class Measured:
    """``value`` None: nothing can be said, for ``reason``. Infinite: something never came."""

    value: float | None
    reason: str = ""


@dataclass(frozen=True)
class Figures:
    """Everything objectives are measured on."""

    connection: duckdb.DuckDBPyConnection
    spec: TargetSpec
    windows: Mapping[str, Span]
    recovery: Recovery
    ended_ns: int
    punctuality: Punctuality

    def judge(self, objective: Objective) -> ExpectationVerdict:
        """The verdict on one objective."""
        measured = Measured(None)
        answer: Answer = "inconclusive"
        try:
            measured = self.measure(objective)
            if measured.value is not None:
                met = COMPARE[objective.op](measured.value, objective.limit)
                doubt = self._doubt(objective, met)
                answer = "inconclusive" if doubt else "pass" if met else "fail"
                measured = replace(measured, reason=doubt or measured.reason)
        except CannotCheck as error:
            measured = Measured(None, str(error))
        except duckdb.Error as error:
            measured = Measured(None, f"the checker crashed: {type(error).__name__}: {error}")
        finite = measured.value is not None and math.isfinite(measured.value)
        return ExpectationVerdict(
            text=objective.text,
            verdict=answer,
            measured=measured.value if finite else None,
            limit=objective.limit,
            window=objective.window,
            unit=UNITS.get(objective.metric, "ms"),
            reason="" if answer == "pass" else measured.reason,
        )

    def _doubt(self, objective: Objective, met: bool) -> str | None:
        """Why what was measured, met or not, says nothing of the target. Raises duckdb.Error."""
        for name, span in self._rests_on(objective, met).items():
            if complaint := self.punctuality.complaint(span):
                return f"the load generator was late in {name}: {complaint}"
        if met or objective.metric == "recovery" or objective.subject in self.spec.measures:
            return None
        kindly = self.measure(objective, kindly=True).value
        if kindly is None or not COMPARE[objective.op](kindly, objective.limit):
            return None
        if objective.metric in UNITS:
            without = "if the answers that the locustfile could not read were counted as ok"
        else:
            without = "but for the load generator's own lateness"
        return f"it would be {kindly:.6g} {UNITS.get(objective.metric, 'ms')} {without}"

    def _rests_on(self, objective: Objective, met: bool) -> dict[str, Span]:
        """The spans of load, by name, without which the objective says nothing.

        A recovery that came in time rests on steady and on its hold alone: whatever was late before it
        can only have delayed it. One that did not come in time may have been delayed so.
        """
        if objective.metric != "recovery":
            return {objective.window: self.windows[objective.window]}
        span = watched(self.recovery, self.ended_ns, objective.subject)
        if span is None:
            return {}
        recovered_ns = self.recovery.by_function.get(objective.subject)
        if met and recovered_ns is not None:
            return {"steady": self.windows["steady"], "the hold": Span(recovered_ns, span.end_ns)}
        return {"the time after the healing": span}

    def measure(self, objective: Objective, *, kindly: bool = False) -> Measured:
        """``kindly``: what may be the generator's or the locustfile's doing is overlooked."""
        if objective.metric == "recovery":
            return self._recovery(objective)
        span = self.windows.get(objective.window)
        if span is None:
            return Measured(None, f"this run has no window {objective.window!r}")
        if objective.subject in self.spec.measures:
            return self._of_measure(objective, span)
        if objective.subject not in self.spec.functions:
            return Measured(None, f"the target has no function or measure {objective.subject!r}")
        return self._of_function(objective, span, kindly)

    def _of_function(self, objective: Objective, span: Span, kindly: bool) -> Measured:
        served_well = f"(outcome = 'ok' or {UNREADABLE})" if kindly else "outcome = 'ok'"
        began_ns = f"if({LATE}, {BEGAN_NS}, intended_ns)" if kindly else "intended_ns"
        row = self.connection.execute(
            f"""
            select count(*), count(*) filter ({served_well}), count(*) filter (outcome <> 'fail')
            from operations where counted_ns >= $start and counted_ns < $end
              and kind in (select kind from functions where function = $function)
            """,
            {"start": span.start_ns, "end": span.end_ns, "function": objective.subject},
        ).fetchone()
        due, ok, served = row or (0, 0, 0)
        if due < FEWEST:
            return Measured(None, f"only {due} operations were due in this window; {FEWEST} are needed")
        if objective.metric == "success":
            return Measured(100 * ok / due, f"{ok} of {due} ended ok")
        if objective.metric == "throughput":
            return Measured(ok / max(span.seconds, 1e-9), f"{ok} ended ok in {span.seconds:.1f} s")
        if served < FEWEST:
            return Measured(None, f"only {served} of {due} operations were not refused; {FEWEST} are needed")
        return self._statistic(
            objective.metric,
            f"""
            select (coalesce(completed_ns, $ended) - {began_ns}) / 1e6 as value_ms from operations
            where counted_ns >= $start and counted_ns < $end and outcome <> 'fail'
              and kind in (select kind from functions where function = $function)
            """,
            {
                "start": span.start_ns,
                "end": span.end_ns,
                "function": objective.subject,
                "ended": self.ended_ns,
            },
        )

    def _of_measure(self, objective: Objective, span: Span) -> Measured:
        file = Path(self.spec.folder) / self.spec.measures[objective.subject].file
        try:
            sql = single_select(self.connection, file.read_text(encoding="utf-8"))
        except OSError as error:
            raise CannotCheck(f"cannot read {file.name}: {error.strerror}") from error
        source = f"select value_ms from ({sql}) where at_ns >= $start and at_ns < $end"
        instants = {"start": span.start_ns, "end": span.end_ns}
        row = self.connection.execute(f"select count(*) from ({source})", instants).fetchone()
        if row is None or row[0] < FEWEST:
            return Measured(None, f"only {row and row[0]} values in this window; {FEWEST} are needed")
        return self._statistic(objective.metric, source, instants)

    def _statistic(self, metric: str, source: str, arguments: Mapping[str, int | str]) -> Measured:
        """A percentile (nearest rank), the maximum or the mean. A value that never came is infinite."""
        if metric in QUANTILES:
            expression = f"quantile_disc(value_ms, {QUANTILES[metric]})"
        elif metric in ("max", "mean"):
            expression = "max(value_ms)" if metric == "max" else "avg(value_ms)"
        else:
            return Measured(None, f"no metric is called {metric!r}")
        with time_limit(self.connection):
            row = self.connection.execute(
                f"""
                select {expression}, count(*) from
                (select coalesce(value_ms::double, 'infinity'::double) as value_ms from ({source}))
                """,
                dict(arguments),
            ).fetchone()
        assert row is not None  # an aggregate gives one row
        return Measured(float(row[0]), f"over {row[1]} values")

    def _recovery(self, objective: Objective) -> Measured:
        healed_ns = self.recovery.healed_ns
        if healed_ns is None or not self.recovery.judged:
            return Measured(None, "nothing was broken and healed, or steady had too little traffic")
        if objective.subject not in self.recovery.by_function:
            return Measured(None, f"{objective.subject} had fewer than {FEWEST} operations in steady")
        recovered_ns = self.recovery.by_function[objective.subject]
        if recovered_ns is not None:
            return Measured((recovered_ns - healed_ns) / 1e6, "")
        watched_ms = (self.ended_ns - healed_ns) / 1e6
        if watched_ms < objective.limit + HOLD_MS:  # it may have come back in the last instant
            return Measured(None, f"load ended {watched_ms / 1e3:.1f} s after the healing, before the limit")
        return Measured(math.inf, f"not recovered within {watched_ms / 1e3:.1f} s of load after the healing")
