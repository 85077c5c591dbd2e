"""Business figures: what other people's SQL may say, and that it never does more than that."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.check.figures import NULL, Value, parse_figure, run_figure
from harness.errors import TargetError
from harness.evidence.folder import RunFolder
from harness.evidence.views import open_evidence
from harness.experiment.figure_head import read_figure_head
from harness.target.heads import read_figures
from tests.histories.history import base, target_spec, write_folder

HEAD = "-- id: lost_minor\n-- title: A test\n-- unit: minor\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return write_folder(base(), tmp_path_factory.mktemp("run"))


def run(folder: RunFolder, sql: str, head: str = HEAD) -> Value | None:
    connection = open_evidence(folder)
    try:
        return run_figure(connection, parse_figure(head + sql, "x.sql"), {"topup", "crash"})
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("select 7 as value", 7),
        ("select 1.23456 as value", 1.2346),
        ("select 170141183460469231731687303715884105727 as value", 170141183460469231731687303715884105727),
        ("-- why\nselect count(*) as value from (select 1 from operations limit 7)", 7),
        ("select sum(value) as value from prices", sum(target_spec().impact.values())),
        ("with a as (select 3 as value) select value from a", 3),
    ],
)
def test_a_number_is_the_figure(folder: RunFolder, sql: str, value: float) -> None:
    assert run(folder, sql) == Value(float(value))


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("select null as value", NULL),
        ("select sum(amount_minor) as value from operations where false", NULL),
        ("select 1", "one row with one column, value; it gave one row with 1"),
        ("select 1 as value, 2 as other", "it gave one row with value, other"),
        ("select 1 as value where false", "it gave no row with value"),
        ("select range as value from range(3)", "it gave several rows with value"),
        ("select 'much' as value", "must be a number, not 'much'"),
        ("select true as value", "must be a number, not 'True'"),
        ("select 'nan'::double as value", "not finite"),
        ("select 'infinity'::double as value", "not finite"),
        ("select * from psp.gone", "evidence is missing"),
        ("selekt 1", "crashed"),
        ("select error('odd') as value", "crashed"),
        ("drop view operations", "exactly one SELECT"),
        ("select 1 as value; select 2 as value", "exactly one SELECT"),
        ("copy operations to '/tmp/stolen.csv'", "exactly one SELECT"),
        ("select count(*) as value from read_text('/etc/passwd')", "crashed"),
    ],
)
def test_what_is_no_number_cannot_be_said_and_says_why(folder: RunFolder, sql: str, reason: str) -> None:
    found = run(folder, sql)
    assert found is not None and found.value is None and reason in found.reason


def test_one_that_does_not_apply_is_none(folder: RunFolder) -> None:
    assert run(folder, "select 1 as value", HEAD + "-- applies: other, crash\n") == Value(1)
    assert run(folder, "select error('x') as value", HEAD + "-- applies: other\n") is None


def test_a_head_is_read_whole() -> None:
    text = (
        HEAD + "-- group: usage and charging\n-- model: yes\n-- applies: topup crash\n-- a remark\nselect 1"
    )
    head = read_figure_head(text, "x.sql")
    assert (head.id, head.title, head.unit) == ("lost_minor", "A test", "minor")
    assert (head.group, head.model, head.applies) == ("usage and charging", True, ("topup", "crash"))
    plain = read_figure_head(HEAD, "x.sql")
    assert (plain.group, plain.model, plain.applies) == ("other", False, ())


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ("select 1", "lacks id and title and unit"),
        (HEAD.replace("lost_minor", "Lost"), "'Lost' is not small letters"),
        (HEAD.replace(": minor", ": minro"), "the unit 'minro' is none\n  hint: did you mean 'minor'"),
        (HEAD + "-- group: paymets\n", "no group is called 'paymets'\n  hint: did you mean 'payments'"),
        (HEAD + "-- model: maybe\n", "model is yes or no"),
        (HEAD + "-- unit: s\n", "x.sql:4:1: the head says 'unit' twice"),
    ],
)
def test_a_bad_head_is_an_error(head: str, says: str) -> None:
    with pytest.raises(TargetError) as caught:
        read_figure_head(head, "x.sql")
    assert says in str(caught.value) and "x.sql" in str(caught.value)


def test_a_target_has_each_figure_once_and_a_run_keeps_their_files(tmp_path: Path) -> None:
    home = tmp_path / "target" / "figures"
    home.mkdir(parents=True)
    (home / "a.sql").write_text(HEAD + "select 1 as value")
    figures = read_figures(home.parent)
    assert [(figure.id, figure.file) for figure in figures.values()] == [("lost_minor", "figures/a.sql")]
    spec = target_spec().model_copy(
        update={"folder": str(home.parent), "invariants": {}, "measures": {}, "figures": figures}
    )
    folder = RunFolder.create(tmp_path, "run")
    folder.copy_target(spec)
    assert folder.read_target().figures == figures
    assert (folder.path / "figures" / "a.sql").read_text() == HEAD + "select 1 as value"
    (home / "b.sql").write_text(HEAD + "select 2 as value")
    with pytest.raises(TargetError, match=r"b\.sql: the id 'lost_minor' is that of figures/a\.sql too"):
        read_figures(home.parent)
