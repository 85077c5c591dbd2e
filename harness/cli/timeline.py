"""A plan for people: a table of what happens when, and a small timeline in characters."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.experiment.model import Experiment
from harness.experiment.units import show_duration
from harness.experiment.vocabulary import RUNTIME_WITH
from harness.plan import Plan, PlannedFault

WIDTH = 60
SELF_ENDING_SHOWN_S = 1.0


def show_plan(experiment: Experiment, plan: Plan, console: Console) -> None:
    """Print the plan. Texts are printed as they are, never as markup."""
    console.print(Text(f"{plan.name}: {experiment.title}", style="bold"))
    load = plan.load
    rates = ", ".join(f"{part.rate_per_s:g}/s from {show_duration(part.at_s)}" for part in load.segments)
    console.print(Text(f"target {experiment.target}, seed {plan.seed}, load {load.arrivals} {rates}"))
    console.print(Text(f"load lasts {show_duration(_usual_end(plan))} when recovery is instant, "
                       f"at most {show_duration(load.max_duration_s)}; then up to "
                       f"{show_duration(plan.settle_within_s)} to settle"))  # fmt: skip
    for service, values in plan.settings.items():
        for variable, value in values.items():
            console.print(Text(f"setting {service}: {variable}={value}"), soft_wrap=True)
    console.print(_table(plan))
    for line in timeline(plan):
        console.print(Text(line), soft_wrap=True, highlight=False)
    for expectation in experiment.expect:
        console.print(Text(f"expect  {expectation.text}"), soft_wrap=True)


def _table(plan: Plan) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for head in ("at", "until", "what", "touches", "proof it will need"):
        times = head in ("at", "until")
        table.add_column(head, justify="right" if times else "left", no_wrap=times or head == "touches")
    rows: list[tuple[float, tuple[str, str, str, str, str]]] = []
    for fault in plan.faults:
        touched = "\n".join(fault.touches)
        row = (show_duration(fault.at_s), _end(fault), _what(fault), touched, fault.proof)
        rows.append((fault.at_s, row))
    for job in plan.jobs:
        rows.append((job.at_s, (show_duration(job.at_s), "", f"job {job.run}", "", "")))
    for _, row in sorted(rows, key=lambda row: row[0]):
        table.add_row(*(Text(cell) for cell in row))
    return table


def _what(fault: PlannedFault) -> str:
    aimed = f"\nwhen {fault.when}\n(within {show_duration(fault.within_s)})" if fault.when else ""
    runtimes = sorted({RUNTIME_WITH[ability] for ability in fault.needs})
    needs = "".join(f"\nneeds --runtime {name}" for name in runtimes)
    return f"{fault.id}{aimed}{needs}"


def _end(fault: PlannedFault) -> str:
    if fault.until_s is None:
        return "by itself"
    return f"+{show_duration(fault.until_s - fault.at_s)}" if fault.when else show_duration(fault.until_s)


def _usual_end(plan: Plan) -> float:
    """When load ends if recovery comes at once and every aimed fault comes at its earliest."""
    ends = [fault.until_s if fault.until_s is not None else fault.at_s for fault in plan.faults]
    return max([plan.steady_s, *ends, *(job.at_s for job in plan.jobs)]) + plan.recovered_s


def timeline(plan: Plan) -> list[str]:
    """One line per phase, fault and job, over the time from 0 to the usual end of load."""
    end_s = _usual_end(plan)
    last_s = end_s - plan.recovered_s
    rows = [("steady", 0.0, plan.steady_s, "=")]
    for fault in plan.faults:
        until_s = fault.until_s if fault.until_s is not None else fault.at_s + SELF_ENDING_SHOWN_S
        rows.append((fault.id, fault.at_s, until_s, "?" if fault.when else "#"))
    rows += [(f"job {job.run}", job.at_s, job.at_s, "|") for job in plan.jobs]
    rows.append(("recovered", last_s, end_s, "="))
    wide = max(len(name) for name, *_ in rows)
    lines = [f"{name:>{wide}}  {_bar(start, stop, end_s, mark)}" for name, start, stop, mark in rows]
    scale = f"0s{show_duration(end_s):>{WIDTH - 2}}"
    return [*lines, f"{'':>{wide}}  {scale}", ""]


def _bar(start_s: float, stop_s: float, end_s: float, mark: str) -> str:
    first = min(WIDTH - 1, int(WIDTH * start_s / end_s))
    last = max(first + 1, round(WIDTH * stop_s / end_s))
    return ("." * first + mark * (last - first)).ljust(WIDTH, ".")[:WIDTH]
