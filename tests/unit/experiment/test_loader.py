"""Checking a whole experiment: what is understood, and what is said of each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ExperimentError, ExperimentErrors
from harness.experiment.loader import is_suite, load_experiment, read_experiment, read_suite, target_of
from harness.experiment.model import Experiment, InvariantsHold, Objective
from harness.experiment.settings import with_settings
from tests.unit.experiment.words import GOOD, VOCABULARY, load


def test_a_good_experiment_is_understood() -> None:
    experiment = load()
    assert experiment.load.rate_per_s == 120.0
    assert experiment.load.mix == {"topup": 45, "balance": 30}
    crash, partition, aimed, surge = experiment.faults
    assert (crash.fault, crash.at_s, crash.for_s, crash.params) == ("crash", 0, 20, {"service": "db-primary"})
    assert (partition.every_s, partition.repeat, partition.jitter_s) == (5, 3, 0.5)
    assert partition.params == {"between": ["payments", ["db-1", "db-2"]], "direction": "from"}
    assert (aimed.when, aimed.within_s) == ("half-done", 9)
    assert surge.params == {"factor": 2}
    assert experiment.expect[0] == Objective(
        text="payments.success >= 99.9% in steady",
        subject="payments", metric="success", op=">=", limit=99.9, window="steady",
    )  # fmt: skip
    assert experiment.expect[-1] == InvariantsHold(
        text="invariants PAY* LED1 hold", patterns=("PAY*", "LED1")
    )
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment


# what stands there -> what somebody writes, where the error points (a text in the new file), what it says
MISTAKES = [
    ("steady: 10s", "stedy: 10s", "stedy", "unknown key 'stedy'", "did you mean 'steady'?"),
    ("  rate: 120/s", "  rat: 120/s", "rat:", "unknown key 'rat' in load", "did you mean 'rate'?"),
    ("fault: crash\n", "fault: crahs\n", "crahs", "unknown fault 'crahs'", "did you mean 'crash'?"),
    ("service: db-p", "servic: db-p", "servic", "unknown key 'servic'", "did you mean 'service'?"),
    ("service: db-primary", "service: db-primray", "db-prim", "'db-primray'", "mean 'db-primary'?"),
    ("service: edge", "service: psp-a", "psp-a, when", "'psp-a' is a witness", ""),
    ("    service: db-primary\n", "", "at: 0s", "the key 'service' is missing in faults.0", ""),
    ("[db-1, db-2]]", "[db-1, db-3]]", "db-3", "'db-3'", "did you mean 'db-2'?"),
    ("between: [payments,", "between: [edge,", "faults.1", "no link joins edge", ""),
    ("direction: from", "direction: form", "form", "'form' is not one of", "did you mean 'from'?"),
    ("every: 5s", "evry: 5s", "evry", "unknown key 'evry'", "did you mean 'every'?"),
    ("factor: 2", "factor: 200", "200", "factor 200 is out of range", ""),
    ("factor: 2", "factor: two", "two", "'two' is not a number", ""),
    ("for: 20s", "for: 20", "20\n", "20 has no unit; did you mean 20s?", ""),
    ("for: 20s", "for: 20sec", "20sec", "the unknown unit 'sec'", "did you mean 's'?"),
    ("for: 20s", "for: -5s", "-5s", "'-5s' is negative", ""),
    ("for: 20s", "for: 0s", "0s\n    fault: crash", "out of range: more than 0", ""),
    ("for: 20s", "for: soon", "soon", "'soon' is not a duration", "250ms, 10s, 2m or 1h"),
    ("for: 20s", "for:", "\n    fault: crash", "faults.0.for has no value", ""),
    ("    for: 20s\n", "", "at: 0s", "crash: the key 'for' is missing", "for: 10s"),
    ("fault: crash\n    service: db-primary", "fault: switchover", "for: 20s", "takes no 'for'", "drop it"),
    ("at: 25s", "at: 5h", "5h", "past the end", "at most"),
    ("at: 25s", "at: 30h", "30h", "longer than a day", ""),
    ("rate: 120/s", "rate: 120", "120\n", "120 has no unit; did you mean 120/s?", ""),
    ("rate: 120/s", "rate: 0/s", "0/s", "out of range: more than 0", ""),
    ("rate: 120/s", "rate: 9000/s", "9000/s", "out of range: at most 5000", ""),
    ("rate: 120/s", "rate: 4000/s", "{at: 5s, for: 10s, fault: surge", "would come to 8000/s", "5000/s"),
    ("balance: 30", "balanc: 30", "balanc", "unknown kind of operation 'balanc'", "did you mean 'balance'?"),
    ("balance: 30", "balance: -1", "-1", "out of range: at least 0", ""),
    ("{topup: 45, balance: 30}", "{topup: 0}", "{topup", "all weights are 0", ""),
    ("subscribers: 300", "subscribers: 900", "900", "more than the target has", "at most 500"),
    ("subscribers: 300", "subscribers: '300'", "300'", "not a whole number", "without quotes"),
    ("[1, 42]", "[1, 43]", "43", "43 is out of range: at most 42", ""),
    ("name: demo", "name: My Demo", "My Demo", "small letters", ""),
    ("name: demo", "name: 5", "5", "5 is not text; put it in quotes", ""),
    ("title: Something breaks\n", "", "name:", "the key 'title' is missing", ""),
    ("when: half-done", "when: half-don", "half-don", "unknown moment", "did you mean 'half-done'?"),
    (", within: 9s}", ", repeat: 2, every: 9s}", "when:", "comes once", ""),
    (" when: half-done,", "", "within", "there is no 'when'", ""),
    ("factor: 2}", "factor: 2, when: half-done}", "when: half-done}", "cannot be aimed", ""),
    ("every: 5s", "every: 2s", "2s\n    repeat", "the repetitions overlap", "every: 4.5s or more"),
    ("    repeat: 3\n", "", "every", "'every' needs 'repeat'", ""),
    ("    every: 5s\n", "", "repeat", "'repeat' needs 'every'", ""),
    ("run: settlement", "run: setlement", "setlement", "unknown job", "did you mean 'settlement'?"),
    ("{at: 5s, run", "{at: 50s, run", "50s", "would start after the end", ""),
    ("expect:\n", "expects:\n", "expects", "unknown key 'expects'", "did you mean 'expect'?"),
    ("success >=", "sucess >=", "sucess", "unknown metric 'sucess'", "did you mean 'success'?"),
    ("in steady", "in staedy", "staedy", "unknown window 'staedy'", "did you mean 'steady'?"),
    ("  edge: {FAIL", "  egde: {FAIL", "egde", "unknown service 'egde'", "did you mean 'edge'?"),
    ("  edge: {FAIL", "  psp-a: {FAIL", "psp-a: {", "'psp-a' is a witness", "a fault on the link"),
    ("{FAILURE_H", "{FAILUR_H", "FAILUR_H", "edge has no setting 'FAILUR_HANDLING'", "'FAILURE_HANDLING'?"),
    ("LING: continue", "LING: [a]", "[a]", "settings.edge.FAILURE_HANDLING: ['a'] is not text", ""),
    ("LING: continue", "LING: ~", "~", "settings.edge.FAILURE_HANDLING has no value", ""),
    ("{FAILURE_HANDLING: continue}", "continue", "continue", "'continue' is not a mapping", ""),
    ("PAY* LED1", "PAY* LEDD1", "LEDD1", "matches 'LEDD1'", "did you mean 'LED1'?"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("right", "wrong", "points_at", "says", "hint"), MISTAKES, ids=lambda text: text[:24]
)
def test_a_mistake_is_told_with_place_value_and_what_would_be_right(
    right: str, wrong: str, points_at: str, says: str, hint: str
) -> None:
    assert GOOD.count(right) >= 1
    text = GOOD.replace(right, wrong, 1)
    with pytest.raises(ExperimentError) as caught:
        load(text)
    error = caught.value
    assert not isinstance(error, ExperimentErrors), str(error)
    assert says in str(error)
    assert hint in str(error)
    offset = sum(len(line) + 1 for line in text.split("\n")[: error.mark.line - 1]) + error.mark.column - 1
    if points_at == "faults.1":  # the fault's own line: no one value is wrong
        assert text[offset:].startswith("payments") or "edge" in text[offset : offset + 8]
    else:
        assert text[offset:].startswith(points_at), f"points at {text[offset : offset + 20]!r}"


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = (
        GOOD.replace("rate: 120/s", "rate: 120")
        .replace("fault: crash\n", "fault: crahs\n")
        .replace("settle_within", "setle_within")
        .replace("in steady", "in staedy")
    )
    with pytest.raises(ExperimentErrors) as caught:
        load(text)
    lines = [error.mark.line for error in caught.value.errors]
    assert lines == sorted(lines)
    assert len(lines) == 4
    assert str(caught.value).count("demo.yaml:") == 4


def test_equal_faults_may_not_overlap() -> None:
    twice = GOOD.replace("jobs:", "  - {at: 19s, for: 1s, fault: crash, service: db-primary}\njobs:")
    with pytest.raises(ExperimentError, match="overlaps an equal one"):
        load(twice)
    with pytest.raises(ExperimentError, match="2s or more between them"):
        load(twice.replace("at: 19s", "at: 21.9s"))
    assert load(twice.replace("at: 19s", "at: 22s"))


@pytest.mark.parametrize("when", ["", ", when: half-done"])
def test_equal_faults_that_last_no_time_may_not_come_at_once(when: str) -> None:
    def both(second: str) -> str:
        line = "  - {at: %s, fault: switchover" + when + "}\n"
        return GOOD.replace("jobs:", line % "0s" + line % second + "jobs:")

    with pytest.raises(ExperimentError, match="this switchover overlaps an equal one"):
        load(both("0s"))
    assert load(both("2m"))


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("{at: 0s, for: 3s, fault: latency, links: payments->psp-a, latency: 60s}", "for: 62s or more"),
        ("{at: 0s, for: 1s, fault: reset, links: payments->psp-a, after: 30s}", "for: 32s or more"),
        ("{at: 0s, for: 500ms, fault: surge, factor: 1.5}", "for: 2s or more"),
    ],
)
def test_a_fault_lasts_long_enough_to_be_proved(line: str, hint: str) -> None:
    text = GOOD.replace("jobs:", f"  - {line}\njobs:")
    with pytest.raises(ExperimentError, match="is too short for this") as caught:
        load(text)
    assert hint in str(caught.value)
    assert text.splitlines()[caught.value.mark.line - 1].strip() == f"- {line}"
    right = line.replace(line.split("for: ")[1].split(",")[0], hint.split()[1])
    assert load(GOOD.replace("jobs:", f"  - {right}\njobs:"))


@pytest.mark.parametrize("line", ["balance.success >= 99%", "balance.recovery <= 9s"])
def test_an_objective_needs_load_on_its_function(line: str) -> None:
    text = GOOD.replace("invariants PAY* LED1 hold", line)
    assert load(text)
    for mix in ("{topup: 45}", "{topup: 45, balance: 0}"):
        with pytest.raises(ExperimentError, match="the load does nothing of 'balance'") as caught:
            load(text.replace("{topup: 45, balance: 30}", mix))
        assert text.splitlines()[caught.value.mark.line - 1][caught.value.mark.column - 1 :] == line


@pytest.mark.parametrize(
    ("written", "column"),
    [
        ("payments.sucess >= 99%", 14),
        ("'payments.sucess >= 99%'", 15),
        ('"\\x70ayments.sucess >= 99%"', 6),
        ("payments.sucess\n      >= 99%", 5),
        ("|-\n    payments.sucess >= 99%", 5),
        (">-\n    payments.sucess\n    >= 99%", 5),
    ],
)
def test_an_expectation_over_several_lines_points_at_its_start(written: str, column: int) -> None:
    with pytest.raises(ExperimentError, match="unknown metric 'sucess'") as caught:
        load(GOOD.replace("invariants PAY* LED1 hold", written))
    assert (caught.value.mark.line, caught.value.mark.column) == (GOOD.count("\n"), column)


def test_without_faults_the_windows_of_a_fault_are_not_there() -> None:
    start, end = GOOD.index("faults:"), GOOD.index("jobs:")
    quiet = (GOOD[:start] + GOOD[end:]).replace("      - payments.recovery <= 35s\n", "")
    quiet = quiet.replace("  - payments.recovery <= 35s\n", "")
    assert load(quiet).faults == ()
    with pytest.raises(ExperimentError, match="without faults there is no window 'fault'"):
        load(quiet.replace("in steady", "in fault"))


def test_overrides_replace_values() -> None:
    experiment = load(GOOD, "load.rate=50/s", "faults.0.for=5s", "load.mix={topup: 1}", "faults.3.factor=3")
    assert experiment.load.rate_per_s == 50
    assert experiment.load.mix == {"topup": 1}
    assert experiment.faults[0].for_s == 5
    assert experiment.faults[3].params == {"factor": 3}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("continue", "continue"),
        ("0600", "0600"),
        ("1.50", "1.50"),
        ("1e3", "1e3"),
        ("True", "True"),
        ("off", "off"),
        ("'7'", "7"),
        ("''", ""),
        ("a$b $$", "a$b $$"),
    ],
)
def test_a_setting_is_taken_as_it_is_written(written: str, value: str) -> None:
    in_file = load(GOOD.replace("FAILURE_HANDLING: continue", f"FAILURE_HANDLING: {written}"))
    assert in_file.settings == {"edge": {"FAILURE_HANDLING": value}}
    assert load(GOOD, f"settings.edge.FAILURE_HANDLING={written}") == in_file
    assert load(GOOD, f"settings={{edge: {{FAILURE_HANDLING: {written}}}}}") == in_file
    without = GOOD.replace("settings:\n  edge: {FAILURE_HANDLING: continue}\n", "")
    assert load(without).settings == {}
    assert load(without, f"settings.edge.FAILURE_HANDLING={written}") == in_file


def test_a_setting_takes_the_place_of_the_targets_own() -> None:
    given = with_settings(VOCABULARY.target, load().settings)
    edge, before = given.services["edge"], VOCABULARY.target.services["edge"]
    assert edge.environment == {**before.environment, "FAILURE_HANDLING": "continue"}
    assert before.environment["FAILURE_HANDLING"] == "terminate"
    assert given.services["payments"] is VOCABULARY.target.services["payments"]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("load.rate=fast", "--set load.rate=fast:1:11: load.rate: 'fast' is not a rate"),
        ("load.rat=5/s", "--set load.rat=5/s:1:10: unknown key 'rat' in load"),
        ("laod.rate=5/s", "has no key 'laod'"),
        ("faults.9.for=5s", "'faults' has no element '9'"),
        ("name.x=5", "'name' is a single value"),
        ("load.rate", "expected key=value"),
        ("load.rate=", "'load.rate' gets no value"),
        ("load.mix={topup: 1", "this is not YAML"),
        ("load.mix=&a {}", "an anchor"),
        ("settings.egde.FAILURE_HANDLING=x", "unknown service 'egde'"),
        ("settings.edge.FAILURE=x", "edge has no setting 'FAILURE'"),
        ("settings.edge.FAILURE_HANDLING.x=1", "'settings.edge.FAILURE_HANDLING' is a single value"),
        ("settings.edge.FAILURE_HANDLING={a: b}", "is not text"),
    ],
)
def test_a_wrong_override_names_its_key(override: str, says: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        load(GOOD, override)
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"--set {override}:1:")


def test_a_file_is_loaded_from_disk(tmp_path: Path) -> None:
    file = tmp_path / "demo.yaml"
    file.write_text(GOOD)
    assert load_experiment(file, VOCABULARY) == load()
    assert target_of(read_experiment(file)) == "shop"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1, 2]", "is not an experiment"),
        ("targt: x", "did you mean 'targt'?"),
        ("target: [x]", "is not the name of a target"),
    ],
)
def test_a_file_without_a_target(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "demo.yaml"
    file.write_text(text)
    with pytest.raises(ExperimentError) as caught:
        target_of(read_experiment(file))
    assert says in str(caught.value)


def test_suites(tmp_path: Path) -> None:
    file = tmp_path / "smoke.yaml"
    file.write_text("suite: smoke\nexperiments:\n  - a\n  - b.yaml\n")
    document = read_experiment(file)
    assert is_suite(document)
    assert [entry for entry, _ in read_suite(document).entries] == ["a", "b.yaml"]
    file.write_text("suite: smoke\nexperiment: [a]\n")
    with pytest.raises(ExperimentError, match="did you mean 'experiments'"):
        read_suite(read_experiment(file))
