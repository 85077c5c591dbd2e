"""Markdown, JUnit and the terminal agree with the verdict, and let no text of the system through."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
from rich.console import Console

from harness.check.figures import NULL
from harness.check.impact import FUNCTION_FIGURES
from harness.check.verdict import FigureNote, Verdict
from harness.evidence.folder import RunFolder
from harness.experiment.figure_head import Unit
from harness.report.html import page
from harness.report.impact import figure, function_table
from harness.report.junit import junit
from harness.report.reading import read_run
from harness.report.summary import summary
from harness.report.terminal import print_verdict


def verdict_of(path: Path) -> Verdict:
    verdict = read_run(path).verdict
    assert verdict is not None
    return verdict


def printed(verdict: Verdict, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_verdict(verdict, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def cases(path: Path) -> dict[tuple[str, str], str]:
    """(group, name) -> ok, failure, error or skipped."""
    root = Xml.fromstring(junit(read_run(path)))
    found = {}
    for case in root.iter("testcase"):
        child = next(iter(case), None)
        found[case.attrib["classname"].rsplit(".")[-1], case.attrib["name"]] = (
            "ok" if child is None else child.tag
        )
    return found


TAGS = {"pass": "ok", "fail": "failure", "inconclusive": "error", "not_applicable": "skipped"}


@pytest.mark.parametrize("kind", ["pass", "fail", "inconclusive"])
def test_junit_has_a_case_for_every_part(runs: dict[str, Path], kind: str) -> None:
    verdict, found = verdict_of(runs[kind]), cases(runs[kind])
    assert found["run", "verdict"] == TAGS[verdict.verdict]
    for expectation in verdict.expectations:
        assert found["expectations", expectation.text] == TAGS[expectation.verdict]
    for invariant in verdict.invariants:
        assert found["invariants", f"{invariant.id} {invariant.title}"] == TAGS[invariant.verdict]
    proved = "ok" if verdict.faults[0].proved else "error"
    assert found["faults", "1. crash on db-primary took effect"] == proved
    assert len(found) == 1 + len(verdict.expectations) + len(verdict.invariants) + len(verdict.faults)


def test_junit_counts_what_it_holds(runs: dict[str, Path]) -> None:
    for path in runs.values():
        suite = Xml.fromstring(junit(read_run(path)))[0]
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.attrib[attribute]) == len(suite.findall(f"testcase/{tag}"))
        assert int(suite.attrib["tests"]) == len(suite.findall("testcase"))


def test_junit_of_an_aborted_run_is_an_error(runs: dict[str, Path]) -> None:
    assert cases(runs["aborted"]) == {("run", "verdict"): "error"}


def test_junit_stays_well_formed_whatever_the_system_says(new_run: Callable[[str], RunFolder]) -> None:
    folder = new_run("fail")
    text = folder.verdict.read_text().replace("over 1184 values", "]]>\\u0000\\u001b[31m\\ufffe<&")
    folder.verdict.write_text(text)
    details = [node.text or "" for node in Xml.fromstring(junit(read_run(folder.path))).iter("failure")]
    assert any("]]>" in detail and "\x1b" not in detail for detail in details)


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("pass", "### ✓ Pass: "),
        ("fail", "### ✗ Fail: "),
        ("inconclusive", "### ? Inconclusive: "),
        ("aborted", "### ? Inconclusive: "),
    ],
)
def test_summary_begins_with_the_verdict(runs: dict[str, Path], kind: str, head: str) -> None:
    text = summary(read_run(runs[kind]))
    assert text.startswith(head)
    assert ("✓ Pass" in text) == (kind == "pass")


def test_summary_tells_what_is_no_pass_and_only_that(runs: dict[str, Path]) -> None:
    text = summary(read_run(runs["fail"]))
    assert "| ✗ Fail | `payments.p99 <= 500ms in recovered` | 500.0004 ms | 500 ms |" in text
    assert "| ✗ Fail | `balance.p999 <= 2000ms in fault` | never came |" in text
    assert "for example k-1200, k-1201, k-1202" in text
    assert "payments.success" not in text
    assert "LED1" not in text
    assert "`ledgerquake run reports/r1/experiment.yaml --seed 42 --runtime process`" in text


def test_summary_tables_hold_against_hostile_text(new_run: Callable[[str], RunFolder]) -> None:
    folder = new_run("fail")
    hostile = "a | b `c` <img src=x>\\n\\n# @everybody [x](javascript:y)"
    folder.verdict.write_text(folder.verdict.read_text().replace("over 1184 values", hostile))
    text = summary(read_run(folder.path))
    row = next(line for line in text.splitlines() if "payments.p99" in line and line.startswith("|"))
    assert row.replace("\\|", "").count("|") == 6
    assert "<img" not in text
    assert "@everybody" not in text
    assert "\\[x\\](javascript:y)" in row


@pytest.mark.parametrize(
    ("kind", "word"), [("pass", "Pass"), ("fail", "Fail"), ("inconclusive", "Inconclusive")]
)
def test_terminal_says_the_verdict_and_failures_first(runs: dict[str, Path], kind: str, word: str) -> None:
    text = printed(verdict_of(runs[kind]))
    first = next(line for line in text.splitlines() if "db-primary-crash" in line)
    assert word in first
    if kind == "fail":
        assert text.index("payments.p99") < text.index("payments.success")
        assert "PAY1 No acknowledged payment is lost" in text
        assert "2 invariants held, 1 do not apply" in text
    if kind == "inconclusive":
        assert "? not proved" in text
    assert len(text.splitlines()) < 40


def test_terminal_takes_text_as_text(runs: dict[str, Path]) -> None:
    verdict = verdict_of(runs["fail"])
    text = printed(verdict.model_copy(update={"reasons": ("[red]boo[/red] \x1b]0;owned\x07 \x1b[2J",)}))
    assert "[red]boo[/red]" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_what_nobody_asked_about_is_said(runs: dict[str, Path], new_run: Callable[[str], RunFolder]) -> None:
    """Violated, it fails the run; inconclusive, it counts for nothing, in JUnit neither."""
    violated = verdict_of(runs["fail"]).invariants[-1].model_copy(update={"asked": False})
    idle = verdict_of(runs["inconclusive"]).invariants[-1].model_copy(update={"asked": False})
    good = verdict_of(runs["pass"])
    text = " ".join(printed(good.model_copy(update={"invariants": (violated, idle)})).split())
    assert "Fail" in text.partition("payments")[0] and "counts all" in text and "does not count" in text
    folder = new_run("pass")
    folder.write_verdict(good.model_copy(update={"invariants": (idle,)}))
    found = cases(folder.path)
    assert found["run", "verdict"] == "ok" and found["invariants", f"{idle.id} {idle.title}"] == "skipped"
    folder.write_verdict(good.model_copy(update={"invariants": (violated,), "verdict": "inconclusive"}))
    assert cases(folder.path)["invariants", f"{violated.id} {violated.title}"] == "error", "convicts nobody"


@pytest.mark.parametrize("form", ["terminal", "summary", "junit", "html"])
def test_a_fault_that_was_never_injected_or_not_healed(
    form: str, new_run: Callable[[str], RunFolder]
) -> None:
    folder = new_run("pass")
    verdict = verdict_of(folder.path)
    never = verdict.faults[0].model_copy(update={"at": None, "for_s": None, "fault": "pause"})
    left = verdict.faults[0].model_copy(update={"heal_error": "toxic: no answer", "for_s": None})
    verdict = verdict.model_copy(update={"faults": (left, never)})
    folder.write_verdict(verdict)
    (folder.evidence / "faults.parquet").unlink()  # the verdict alone must do
    run = read_run(folder.path)
    write = {"summary": summary, "junit": junit, "html": page}
    text = " ".join((printed(verdict) if form == "terminal" else write[form](run)).split())
    assert "ould not be healed" in text and "toxic: no answer" in text
    assert "never injected" in text or form == "junit"
    assert "Inconclusive" in text or form == "junit"


def test_settings_are_shown_and_secret_ones_are_not(new_run: Callable[[str], RunFolder]) -> None:
    folder = new_run("pass")
    verdict = verdict_of(folder.path)
    assert "Settings" not in summary(read_run(folder.path))
    given = {"edge": {"FAILURE_HANDLING": "continue", "API_TOKEN": "hunter2"}}
    folder.write_verdict(verdict.model_copy(update={"settings": given}))
    run = read_run(folder.path)
    assert "Settings: `edge FAILURE_HANDLING=continue`, `edge API_TOKEN=***`" in summary(run)
    assert "<dt>Setting of edge</dt><dd><code>FAILURE_HANDLING=continue</code></dd>" in page(run)
    assert 'value="edge FAILURE_HANDLING=continue; edge API_TOKEN=***"' in junit(run)
    assert "hunter2" not in summary(run) + page(run) + junit(run)


def test_the_impact_is_shown_alike_everywhere(runs: dict[str, Path]) -> None:
    """Money with two decimals, a model marked as one, what cannot be said with its reason."""
    run, verdict = read_run(runs["pass"]), verdict_of(runs["pass"])
    shown = page(run)
    text, terminal = summary(run), " ".join(printed(verdict).split())
    for format in (shown, text, terminal):
        assert "1,712.50" in format and "81.27 %" in format and "3.4 s" in format and "51.20 × s" in format
        assert "no tariff is set" in format and "cannot be said" in format
    assert 'Compensation due <span class="model">model</span>' in shown
    assert "Acknowledged writes lost" in shown, "what has no note is shown all the same"
    assert "| customers | Compensation due (model) | cannot be said: no tariff is set |" in text
    assert "Other figures that are 0, or had nothing to count: 1." in text and "writes lost" not in text
    assert "cannot be said Compensation due (model): no tariff is set" in terminal
    assert (
        shown.index("<h3>Payments</h3>") < shown.index("<h3>Customers</h3>") < shown.index("<h3>Other</h3>")
    )


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (171250, "minor", "1,712.50"),
        (-5, "minor", "-0.05"),
        (5120.5, "minor_s", "51.20 × s"),
        (99.996, "percent", "99.996 %"),
        (100, "percent", "100 %"),
        (3.44, "s", "3.4 s"),
        (1234567, "count", "1,234,567"),
        (0.25, "score", "0.25"),
    ],
)
def test_a_figure_has_its_unit(value: float, unit: Unit, text: str) -> None:
    assert figure(value, unit) == text


def test_the_functions_stand_in_one_table(new_run: Callable[[str], RunFolder]) -> None:
    folder = new_run("pass")
    verdict = verdict_of(folder.path)
    note = verdict.impact_notes["payments_failed"]
    few = {"title": "Usage: outage", "unit": "s", "function": "usage", "reason": "too few"}
    given = verdict.model_copy(
        update={
            "impact": {**verdict.impact, "usage_failed": 0.0, "usage_outage_s": None},
            "impact_notes": {
                **verdict.impact_notes,
                "usage_failed": note.model_copy(update={"function": "usage"}),
                "usage_outage_s": FigureNote.model_validate(few),
            },
        }
    )
    table = function_table(given)
    assert table.heads == ("Availability", "Outage", "Failed", "Unknown", "Unknown, value")
    rows = {name: [line and line.text for line in lines] for name, lines in table.rows}
    assert rows["payments"] == ["81.27 %", None, "171", "340", "1,712.50"]
    assert rows["usage"] == [None, "cannot be said", "0", None, None]
    assert table.unsaid == ("Outage of usage cannot be said: too few",)
    assert [name for name, _ in table.rows] == ["payments", "usage"], "the least available first"
    zero = {name: 0.0 if name.endswith("_failed") else value for name, value in given.impact.items()}
    brief = function_table(given.model_copy(update={"impact": zero}), brief=True)
    assert "Failed" not in brief.heads


def many_functions(verdict: Verdict) -> Verdict:
    """All figures of four functions: two with trouble, one untouched, one of which nothing is known."""
    told = {
        "payments": (91.5, 12.0, 263, 1270, 14, 12_706_823, 9_945_099, 123_456),
        "roaming_access": (54.67, None, 0, 199, 0, 0, 0, 0),
        "balance": (100, 0, 0, 0, 0, 0, 0, 0),
        "usage": (None, 0, 0, 0, 0, 0, 0, 0),
    }
    values, notes = {}, {}
    for function, figures in told.items():
        for (key, (title, unit)), value in zip(FUNCTION_FIGURES.items(), figures, strict=True):
            values[f"{function}_{key}"] = value
            reason = "" if value is not None else "too few"
            notes[f"{function}_{key}"] = FigureNote(title=title, unit=unit, function=function, reason=reason)
    return verdict.model_copy(update={"impact": values, "impact_notes": notes})


def test_where_room_is_short_money_stands_under_its_number(new_run: Callable[[str], RunFolder]) -> None:
    given = many_functions(verdict_of(new_run("pass").path))
    brief = function_table(given, brief=True)
    assert brief.heads == ("Availability", "Outage", "Failed\nvalue", "Unknown\nvalue", "Delayed\nvalue")
    rows = {name: [line.text for line in lines if line] for name, lines in brief.rows}
    assert list(rows) == ["roaming_access", "payments", "usage"] and brief.untouched == ("balance",)
    assert rows["payments"][2:] == ["263\n127,068.23", "1,270\n99,450.99", "14\n1,234.56"]
    assert rows["roaming_access"][3] == "199", "it carries no money worth telling"
    assert len(function_table(given).heads) == len(FUNCTION_FIGURES)


def test_the_terminal_shows_the_impact_whole_on_80_columns(new_run: Callable[[str], RunFolder]) -> None:
    shown = printed(many_functions(verdict_of(new_run("pass").path)), width=80)
    assert "…" not in shown and max(map(len, shown.splitlines()[:-1])) <= 80
    for whole in ("roaming_access", "availability", "127,068.23", "99,450.99", "cannot be said"):
        assert whole in shown
    assert "none on balance" in shown and shown.index("roaming_access") < shown.index("127,068.23")


def test_what_had_nothing_to_count_is_not_worth_telling(new_run: Callable[[str], RunFolder]) -> None:
    folder = new_run("pass")
    note = FigureNote(title="Rescued", unit="percent", group="payments", reason=NULL)
    verdict = verdict_of(folder.path).model_copy(
        update={"impact": {"rescued": None}, "impact_notes": {"rescued": note}}
    )
    assert "Rescued" not in printed(verdict)
    folder.write_verdict(verdict)
    run = read_run(folder.path)
    assert "Rescued" not in summary(run) and "had nothing to count: 1." in summary(run)
    assert 'Rescued</dt><dd class="none"><span class="none">cannot be said</span></dd>' in page(run)
    assert f'<dd class="note">{NULL}</dd>' in page(run)
