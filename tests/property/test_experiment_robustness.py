"""Whatever is written, the answer is an experiment or an error with its place: never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness.errors import ExperimentError, ExperimentErrors
from harness.experiment.expect import ExpectError, parse_expectation
from harness.experiment.loader import check_experiment
from harness.experiment.units import parse_duration, show_duration
from harness.experiment.yaml_reader import experiment_error, parse_yaml, read_yaml
from harness.plan import make_plan
from tests.unit.experiment.words import GOOD, VOCABULARY, load, make_spec

SPEC = make_spec()
PIECES = st.sampled_from(
    [
        *":-[]{}#&*!|>'\"%@`,?\t\n ",
        "\0",
        "\x85",
        "\u2028",
        "\ud7ff",
        "10s",
        "null",
        "<<",
        "- ",
        ": ",
        "{a: ",
        "9" * 30,
    ]
)


def check_error(error: ExperimentError, lines: int) -> None:
    for one in error.errors if isinstance(error, ExperimentErrors) else (error,):
        assert 1 <= one.mark.line <= lines + 1
        assert one.mark.column >= 1
        assert one.message


@given(st.integers(0, len(GOOD)), st.integers(0, 12), PIECES)
@settings(max_examples=400, deadline=None)
def test_a_damaged_experiment_is_understood_or_refused(at: int, removed: int, put: str) -> None:
    text = GOOD[:at] + put + GOOD[at + removed :]
    try:
        experiment = load(text)
    except ExperimentError as error:
        check_error(error, len(text.splitlines()))
    else:
        make_plan(experiment, VOCABULARY, 1)


TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["10s", "5/s"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["at", "for", "fault", "mix", "rate", "run", "service", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
KEYS = (
    "name",
    "title",
    "concerns",
    "load",
    "steady",
    "faults",
    "jobs",
    "expect",
    "recovered",
    "recover_within",
)


@given(st.sampled_from(KEYS), TREES)
@settings(max_examples=300, deadline=None)
def test_any_value_under_any_key_is_understood_or_refused(key: str, value: object) -> None:
    from dataclasses import replace

    document = parse_yaml(GOOD, "demo.yaml", experiment_error)
    try:
        check_experiment(replace(document, data={**document.data, key: value}), VOCABULARY)
    except ExperimentError as error:
        check_error(error, len(GOOD.splitlines()))


@given(st.binary(max_size=300))
@example(b"\xff\xfe")
@example(b"a: \xf0\x9f")
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(content)
    try:
        read_yaml(file, experiment_error)
    except ExperimentError as error:
        assert error.mark.file == str(file)


WORDS = st.sampled_from(
    [
        "payments",
        ".",
        "p99",
        "<=",
        ">=",
        "=",
        "10s",
        "99%",
        "in",
        "fault",
        "invariants",
        "hold",
        "PAY*",
        " ",
        "é",
    ]
)


@given(st.lists(WORDS, max_size=10).map("".join) | st.text(max_size=40))
@settings(max_examples=400, deadline=None)
def test_any_line_is_an_expectation_or_an_error_within_it(text: str) -> None:
    try:
        parsed = parse_expectation(text, SPEC)
    except ExpectError as error:
        assert 0 <= error.offset <= len(text)
    else:
        assert parsed.text == text
        assert parse_expectation(parsed.text, SPEC) == parsed


@given(st.integers(0, 86_400_000))
def test_a_shown_duration_reads_back(milliseconds: int) -> None:
    assert parse_duration(show_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@given(
    seed=st.integers(0, 2**63 - 1),
    repeat=st.integers(2, 20),
    every=st.integers(1, 30),
    lasts=st.integers(1, 30),
    jitter=st.integers(0, 10_000),
)
@settings(max_examples=150, deadline=None)
def test_repetitions_of_an_accepted_fault_never_overlap(
    seed: int, repeat: int, every: int, lasts: int, jitter: int
) -> None:
    shaken = f", jitter: {jitter}ms" if jitter else ""
    line = (
        f"{{at: 0s, for: {lasts}s, fault: crash, service: edge, every: {every}s, repeat: {repeat}{shaken}}}"
    )
    start, end = GOOD.index("faults:"), GOOD.index("jobs:")
    text = GOOD[:start] + f"faults:\n  - {line}\n" + GOOD[end:].replace("{at: 5s, run", "{at: 0s, run")
    if lasts + jitter / 1000 + 2 > every:
        with pytest.raises(ExperimentError, match="the repetitions overlap"):
            load(text)
        return
    plan = make_plan(load(text), VOCABULARY, seed)
    assert len(plan.faults) == repeat
    for earlier, later in zip(plan.faults, plan.faults[1:], strict=False):
        assert earlier.until_s is not None
        assert earlier.until_s + 2 <= later.at_s + 1e-6
    assert plan == make_plan(load(text), VOCABULARY, seed)
