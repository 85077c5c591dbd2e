"""The final verdict on a terminal: one screen, what is not a pass first."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from harness.check.verdict import FaultVerdict, Verdict
from harness.report import impact, words

STYLES: dict[words.AnyAnswer, str] = {
    "pass": "green",
    "fail": "red",
    "inconclusive": "yellow",
    "not_applicable": "dim",
}
MAX_ROWS = 12
MAX_REASONS = 6


def print_verdict(verdict: Verdict, console: Console) -> None:
    """Print the verdict to ``console``. Texts from the system are printed as they are, never as markup."""
    answer = words.answer_of_verdict(verdict)
    title = Text(f" {words.SYMBOLS[answer]} {words.WORDS[answer]} ", style=f"bold reverse {STYLES[answer]}")
    lines = [Text.assemble(title, "  ", (words.one_line(verdict.name), "bold"))]
    lines.append(Text(words.one_line(words.headline_of_verdict(verdict))))
    reasons = words.reasons_of_verdict(verdict)
    if len(reasons) > 1 or (reasons and reasons[0] not in words.headline_of_verdict(verdict)):
        lines += [Text(f"• {words.one_line(reason)}") for reason in reasons[:MAX_REASONS]]
    console.print(Panel(Text("\n").join(lines), border_style=STYLES[answer], box=box.ROUNDED, padding=(0, 1)))
    console.print(_expectations(verdict))
    console.print(_invariants(verdict))
    for fault in verdict.faults:
        console.print(_fault(fault))
    for shown in _impact(verdict):
        console.print(shown)
    console.print(Text.assemble(("replay  ", "dim"), words.one_line(verdict.replay)), soft_wrap=True)


def _answer(answer: words.AnyAnswer) -> Text:
    return Text(f"{words.SYMBOLS[answer]} {words.WORDS[answer].lower()}", style=STYLES[answer])


def _table(*heads: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False, header_style="dim")
    for head in heads:
        figure = head in ("measured", "limit", "checked", "violations")
        table.add_column(
            head, justify="right" if figure else "left", no_wrap=figure or head in ("", "expectation")
        )
    return table


def _expectations(verdict: Verdict) -> Table:
    table = _table("", "expectation", "measured", "limit", "reason")
    for item in words.worst_first(verdict.expectations):
        limit = "–" if item.limit is None else words.number(item.limit, item.unit)
        reason = words.one_line(item.reason, 160)
        text = words.one_line(item.text)
        table.add_row(_answer(item.verdict), Text(text), words.measured(item), limit, Text(reason))
    return table


def _invariants(verdict: Verdict) -> Table | Text:
    """Those that are not a pass, one by one; the rest as a count."""
    ordered = words.worst_first(verdict.invariants)
    told = [item for item in ordered if item.verdict in ("fail", "inconclusive")]
    held = sum(item.verdict == "pass" for item in ordered)
    silent = sum(item.verdict == "not_applicable" for item in ordered)
    rest = f"{held} invariants held, {silent} do not apply"
    if not told:
        return Text(rest)
    table = _table("", "invariant", "checked", "violations", "reason")
    for item in told[:MAX_ROWS]:
        name, reason = words.one_line(f"{item.id} {item.title}"), words.one_line(words.reason_of(item), 160)
        checked, violations = words.number(item.checked), words.number(item.violations)
        table.add_row(_answer(item.verdict), Text(name), checked, violations, Text(reason))
    more = f"{len(told) - MAX_ROWS} more are not a pass; " if len(told) > MAX_ROWS else ""
    table.caption = Text(f"{more}{rest}")
    table.caption_justify = "left"
    return table


def _fault(fault: FaultVerdict) -> Text:
    state = ("✓ proved", "green") if fault.proved else ("? not proved", "yellow")
    name = f"{fault.fault} on {', '.join(fault.on)}" if fault.on else fault.fault
    when = "never injected" if fault.at is None else f"at {words.seconds(fault.at)}"
    if fault.heal_error:
        state = ("? not healed", "yellow")
        when += f", could not be healed ({fault.heal_error})"
    told = words.one_line(f"{name} {when}: {fault.proof}")
    return Text.assemble(("fault   ", "dim"), state, "  ", told)


def _impact(verdict: Verdict) -> Iterator[RenderableType]:
    """The functions to which something happened, then what of the other figures is not 0."""
    functions = impact.function_table(verdict, brief=True)
    if functions.rows:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
        table.add_column("impact on", no_wrap=True)
        for head in functions.heads:
            table.add_column(head.lower(), justify="right", no_wrap=True)
        for name, lines in functions.rows:
            table.add_row(Text(name), *(_cell(line) for line in lines))
        yield table
    for sentence in functions.unsaid:
        yield Text.assemble(("impact  ", "dim"), words.one_line(sentence))
    if functions.untouched:
        yield Text.assemble(("impact  ", "dim"), f"none on {', '.join(functions.untouched)}")
    others = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    others.add_column(style="dim")
    others.add_column(justify="right", no_wrap=True)
    others.add_column()
    for group, figures in impact.groups(verdict):
        for number, line in enumerate(impact.worth_telling(figures)):
            model = (" (model)", "dim") if line.model else ""
            reason = f": {words.one_line(line.reason, 160)}" if line.reason else ""
            title = Text.assemble(words.one_line(line.title), model, reason)
            others.add_row(group if number == 0 else "", Text(line.text), title)
    if others.rows:
        yield others


def _cell(line: impact.Line | None) -> Text:
    """``?`` for what cannot be said; why is told below the table."""
    if line is None:
        return Text("")
    return Text("?" if line.reason else line.text)
