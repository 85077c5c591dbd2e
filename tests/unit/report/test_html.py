"""The page: says what verdict.json says, runs nothing of the system's, and stands alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.evidence.folder import RunFolder
from harness.report import render
from harness.report.html import page
from harness.report.reading import read_run

EVIL = "<script>alert('owned')</script>"


class Page(HTMLParser):
    """What a browser makes of a page: tags with attributes, table rows, all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[str] = []
        self.text = ""
        self._row: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self._row = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr" and self._row is not None:
            self.rows.append(self._row)
            self._row = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._row is not None:
            self._row += f" {data.strip()}"

    def values(self, css: str) -> list[float]:
        return [
            float(attributes["value"] or "")
            for tag, attributes in self.tags
            if tag == "data" and attributes.get("class") == css
        ]


def parsed(path: Path) -> Page:
    return Page(page(read_run(path)))


@pytest.mark.parametrize("kind", ["pass", "fail", "inconclusive"])
def test_expectations_are_those_of_the_verdict(runs: dict[str, Path], kind: str) -> None:
    run = read_run(runs[kind])
    assert run.verdict is not None
    shown = parsed(runs[kind])
    expected = [item for item in run.verdict.expectations if item.measured is not None]
    assert sorted(shown.values("measured")) == sorted(item.measured for item in expected)
    limits = [item.limit for item in run.verdict.expectations if item.limit is not None]
    assert sorted(shown.values("limit")) == sorted(limits)
    for item in run.verdict.expectations:
        row = next(row for row in shown.rows if item.text in row)
        word = {"pass": "Pass", "fail": "Fail", "inconclusive": "Inconclusive"}[item.verdict]
        assert word in row
        assert item.reason in row


def test_rounding_hides_no_violation(runs: dict[str, Path]) -> None:
    row = next(row for row in parsed(runs["fail"]).rows if "payments.p99" in row)
    assert "500.0004 ms" in row


@pytest.mark.parametrize(
    ("kind", "word"), [("fail", "Fail"), ("inconclusive", "Inconclusive"), ("aborted", "Inconclusive")]
)
def test_what_is_no_pass_never_looks_like_one(runs: dict[str, Path], kind: str, word: str) -> None:
    text = page(read_run(runs[kind]))
    banner = re.search(r'<section class="verdict (\w+)".*?</section>', text, re.DOTALL)
    assert banner is not None
    assert banner[1] == word.lower()
    assert word in banner[0]
    assert "Pass" not in banner[0]
    assert f"<title>{word}: " in text


def test_a_pass_is_said_as_one(runs: dict[str, Path]) -> None:
    text = page(read_run(runs["pass"]))
    assert '<section class="verdict pass"' in text
    assert "5 of 5 expectations met, 3 invariants held, 1 of 1 fault proved" in text


def test_a_pass_with_a_part_that_is_none_is_not_shown_as_pass(new_run: Callable[[str], RunFolder]) -> None:
    folder = new_run("pass")
    damaged = folder.verdict.read_text().replace('"proved": true', '"proved": false')
    folder.verdict.write_text(damaged)
    text = page(read_run(folder.path))
    assert '<section class="verdict inconclusive"' in text
    assert "a part of it is inconclusive" in text


@pytest.mark.parametrize("kind", ["fail", "inconclusive"])
def test_nothing_of_the_system_becomes_markup(runs: dict[str, Path], kind: str) -> None:
    text = page(read_run(runs[kind]))
    assert "alert(&#39;owned&#39;)" in text
    shown = Page(text)
    scripts = [attributes for tag, attributes in shown.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "series"}, {}]
    assert EVIL not in text


def test_hostile_names_reach_neither_attributes_nor_data(new_run: Callable[[str], RunFolder]) -> None:
    folder = new_run("fail")
    for file in (folder.path / "target.json", folder.verdict, folder.path / "experiment.json"):
        hostile = file.read_text().replace("payments", '\\"><img src=x onerror=alert(1)></script>\\u0000')
        file.write_text(hostile)
    (folder.logs / '"><img src=x>.log').write_text("")
    text = page(read_run(folder.path))
    assert not [tag for tag, _ in Page(text).tags if tag == "img"]
    assert "\x00" not in text
    assert text.count("</script>") == 2


def test_the_page_stands_alone_and_is_small(runs: dict[str, Path]) -> None:
    for path in runs.values():
        text = page(read_run(path))
        assert len(text.encode()) < 500_000
        assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", text)
        assert "default-src 'none'" in text
        assert "@import" not in text


def test_counter_examples_are_told_against_the_faults(runs: dict[str, Path]) -> None:
    rows = parsed(runs["fail"]).rows
    story = [row for row in rows if "crash on db-primary injected" in row or "psp-a: capture" in row]
    assert story[0].split()[:2] == ["+10.000", "s"]
    assert "witness.psp" in story[1]


def test_charts_stand_without_script_and_for_each_function(runs: dict[str, Path]) -> None:
    text = page(read_run(runs["pass"]))
    figures = re.findall(r'<figure class="chart"[^>]*>', text)
    assert len(figures) == 5
    assert "hidden" not in figures[0]
    labels = [
        attributes["aria-label"]
        for tag, attributes in Page(text).tags
        if tag == "svg" and "role" in attributes
    ]
    assert labels[0] is not None
    assert labels[0].startswith("all operations over 60 seconds: 7,200 operations")
    assert "recovered at 33.4 s" in text


@pytest.mark.parametrize(
    ("relative", "says"),
    [
        ("evidence/operations.parquet", "what customers felt"),
        ("evidence/faults.parquet", "what was observed of the faults"),
        ("evidence/jobs.parquet", "the batch jobs"),
        ("evidence/windows.json", "the phases"),
        ("environment.json", "the environment"),
        ("target.json", "the grouping by function"),
        ("experiment.json", "the experiment"),
        ("verdict.json", "the verdict"),
    ],
)
@pytest.mark.parametrize("damage", ["is missing", "cannot be read"])
def test_missing_evidence_is_named(
    new_run: Callable[[str], RunFolder], relative: str, says: str, damage: str
) -> None:
    file = new_run("pass").path / relative
    if damage == "is missing":
        file.unlink()
    else:
        file.write_bytes(b"\x00 not it")
    folder = file.parents[len(Path(relative).parts) - 1]
    written = render(folder)
    assert [path.name for path in written] == ["summary.md", "junit.xml", "report.html"]
    for path in written:
        text = path.read_text()
        assert f"{Path(relative).name} {damage}" in text.replace("\\", "")
    assert says in written[2].read_text()
    assert str(folder) not in written[2].read_text()


def test_an_empty_folder_still_gives_an_honest_report(tmp_path: Path) -> None:
    for path in render(tmp_path):
        text = path.read_text()
        assert "nconclusive" in text
        assert "verdict.json is missing" in text


def test_secrets_are_masked(runs: dict[str, Path]) -> None:
    text = page(read_run(runs["pass"]))
    assert "hunter2" not in text
    assert "load.token=***" in text
