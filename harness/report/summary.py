"""``summary.md``: the comment on a pull request. What is not a pass, the faults, and how to replay.

Texts from the system are escaped for Markdown as GitHub and GitLab render it, so that an error message
can neither break a table nor mention a person.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.evidence.folder import write_text
from harness.report import impact, words
from harness.report.reading import Run
from harness.report.story import FaultLine, fault_lines

NAME = "summary.md"
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~!$])")


def write(run: Run) -> list[Path]:
    """Write the summary into the run's folder."""
    file = run.path / NAME
    write_text(file, summary(run))
    return [file]


def summary(run: Run) -> str:
    """The summary as Markdown."""
    blocks = [
        _verdict(run),
        _expectations(run),
        _invariants(run),
        _faults(run),
        _impact(run),
        _missing(run),
        _settings(run),
        _replay(run),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _verdict(run: Run) -> str:
    answer = words.answer_of(run)
    line = f"### {words.SYMBOLS[answer]} {words.WORDS[answer]}: {_text(run.title)} ({_code(run.name)})"
    reasons = [f"- {_text(reason)}" for reason in words.reasons_of(run)]
    return "\n".join([line, "", _text(words.headline(run)), *([""] if reasons else []), *reasons])


def _expectations(run: Run) -> str:
    if run.verdict is None:
        return ""
    rows = [
        (
            _answer(item.verdict),
            _code(item.text),
            _text(words.measured(item)),
            _text("–" if item.limit is None else words.number(item.limit, item.unit)),
            _text(item.reason),
        )
        for item in words.worst_first(run.verdict.expectations)
        if item.verdict != "pass"
    ]
    return _table("Expectations that are not a pass", "Verdict|Expectation|Measured|Limit|Reason", rows)


def _invariants(run: Run) -> str:
    if run.verdict is None:
        return ""
    rows = [
        (
            _answer(item.verdict),
            _code(item.id),
            _text(item.title),
            words.number(item.checked),
            words.number(item.violations),
            _text(words.reason_of(item) or _first_subject(item.examples)),
        )
        for item in words.worst_first(run.verdict.invariants)
        if item.verdict not in ("pass", "not_applicable")
    ]
    heads = "Verdict|Id|Invariant|Checked|Violations|Reason"
    return _table("Invariants that are not a pass", heads, rows)


def _first_subject(examples: Sequence[object]) -> str:
    subjects = [str(getattr(example, "subject", "")) for example in examples[:3]]
    return f"for example {', '.join(subjects)}" if subjects else ""


def _faults(run: Run) -> str:
    rows = [
        (
            line.tag,
            _text(line.name),
            "never injected" if line.start_s is None else words.seconds(line.start_s),
            _end(line),
            "✓ proved" if line.proved else "? not proved",
            _text(line.told),
        )
        for line in fault_lines(run)
    ]
    return _table("Faults", "|Fault|From|To|Effect|Proof", rows)


def _end(line: FaultLine) -> str:
    if line.end_s is not None:
        return words.seconds(line.end_s)
    return "–" if line.start_s is None else "never healed"


def _impact(run: Run) -> str:
    if run.verdict is None:
        return ""
    functions = impact.function_table(run.verdict, brief=True)
    cells = [
        (_text(name), *(_text(_on_one_line(line.text)) if line else "" for line in lines))
        for name, lines in functions.rows
    ]
    by_group = impact.groups(run.verdict)
    rows = [
        (_text(group), _text(line.title) + (" (model)" if line.model else ""), _text(_said(line)))
        for group, lines in by_group
        for line in impact.worth_telling(lines)
    ]
    zero = sum(len(lines) for _, lines in by_group) - len(rows)
    blocks = [
        _table(
            "Business impact by function", "|".join(["Function", *map(_on_one_line, functions.heads)]), cells
        ),
        *(f"{_text(sentence)}." for sentence in functions.unsaid),
        f"No impact on: {_text(', '.join(functions.untouched))}." if functions.untouched else "",
        _table("Business impact", "Of|Figure|Value", rows),
        f"Other figures that are 0, or had nothing to count: {zero}." if zero else "",
    ]
    return "\n\n".join(block for block in blocks if block)


def _on_one_line(text: str) -> str:
    """Money, the second line, in brackets behind what it belongs to."""
    count, _, money = text.partition("\n")
    return f"{count} ({money})" if money else count


def _said(line: impact.Line) -> str:
    return f"{line.text}: {line.reason}" if line.reason else line.text


def _missing(run: Run) -> str:
    if not run.missing:
        return ""
    return "\n".join(["**This report is incomplete**", "", *(f"- {_text(item)}" for item in run.missing)])


def _settings(run: Run) -> str:
    given = words.settings_of(run.verdict) if run.verdict else []
    return f"Settings: {', '.join(map(_code, given))}" if given else ""


def _replay(run: Run) -> str:
    return f"Replay: {_code(run.verdict.replay)}" if run.verdict else ""


def _table(title: str, heads: str, rows: Iterable[Sequence[str]]) -> str:
    rows = list(rows)
    if not rows:
        return ""
    columns = heads.split("|")
    lines = [f"**{title}**", "", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def _answer(verdict: words.AnyAnswer) -> str:
    return f"{words.SYMBOLS[verdict]} {words.WORDS[verdict]}"


def _text(text: str) -> str:
    """Inert Markdown. A zero-width space behind an at sign keeps it from mentioning anybody."""
    escaped = _SPECIAL.sub(r"\\\1", words.one_line(text))
    return escaped.replace("\\<", "&lt;").replace("\\>", "&gt;").replace("@", "@\u200b")


def _code(text: str) -> str:
    """A code span that holds in a table cell too, whatever backticks the text has."""
    text = words.one_line(text).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{text}{pad}{fence}"
