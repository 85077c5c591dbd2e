"""Times that can only go wrong are refused, with what would be right; all others are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ExperimentError, ExperimentErrors
from harness.experiment.loader import check_experiment, is_suite, load_experiment, read_experiment
from harness.experiment.vocabulary import Vocabulary
from harness.experiment.yaml_reader import experiment_error, parse_yaml
from harness.fault.registry import FAULTS
from harness.plan import make_plan
from harness.target.folder import load_target
from tests.unit.experiment.words import GOOD, ROOT, VOCABULARY, load

PSP = "links: payments->psp-a"
PSP_SLOW = f"fault: latency, {PSP}, latency: 100ms"
PSP_CUT = "fault: partition, between: [payments, psp-a]"
UNPLUGGED = 'fault: partition, between: [payments, "*"], mode: disconnect'
RESTART = "fault: restart, service: edge, grace: 10s"


def with_lines(*lines: str) -> str:
    return GOOD.replace("jobs:", "".join(f"  - {{{line}}}\n" for line in lines) + "jobs:")


def refusal(*lines: str) -> str:
    """The one error, which points at a value in the last line."""
    text = with_lines(*lines)
    with pytest.raises(ExperimentError) as caught:
        load(text)
    assert not isinstance(caught.value, ExperimentErrors), str(caught.value)
    assert caught.value.mark.column > 1
    assert text.splitlines()[caught.value.mark.line - 1] == f"  - {{{lines[-1]}}}"
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "every"),
    [
        (f"at: 60s, for: 32s, fault: reset, {PSP}, after: 30s, repeat: 3", "64s"),
        (f"at: 60s, {RESTART}, repeat: 3", "12s"),
        (f"at: 60s, for: 4s, {RESTART}, repeat: 3", "12s"),
        (f"at: 60s, for: 15s, {RESTART}, repeat: 3", "17s"),  # it drains while it is to be down anyhow
        ("at: 60s, fault: switchover, repeat: 2", "92s"),
        ("at: 60s, for: 1s, fault: pause, service: edge, repeat: 2", "3s"),
    ],
)
def test_a_turn_comes_once_the_one_before_it_is_healed_for_sure(line: str, every: str) -> None:
    seconds = float(every[:-1])
    assert f"every: {every} or more" in refusal(f"{line}, every: {seconds - 0.1:g}s")
    assert load(with_lines(f"{line}, every: {every}"))


@pytest.mark.parametrize(
    ("one", "early", "right"),
    [
        (RESTART, "71.9s", "72s"),
        (f"for: 4s, {RESTART}", "71.9s", "72s"),
        (f"for: 32s, fault: reset, {PSP}, after: 30s", "123.9s", "124s"),
        (f"for: 32s, fault: reset, {PSP}", "93.9s", "94s"),
        ("for: 4s, fault: crash, service: edge", "65.9s", "66s"),
    ],
)
def test_equal_faults_leave_time_for_the_first_to_be_healed(one: str, early: str, right: str) -> None:
    said = refusal(f"at: 60s, {one}", f"at: {early}, {one}")
    assert "overlaps an equal one" in said and "or more between them" in said
    assert load(with_lines(f"at: 60s, {one}", f"at: {right}, {one}"))


def test_a_timeline_has_room_for_the_healing() -> None:
    assert load(with_lines("at: 14300s, for: 50s, fault: reset, " + PSP))
    assert "past the end" in refusal(f"at: 14300s, for: 62s, fault: reset, {PSP}, after: 60s")


def test_a_job_is_measured_against_the_earliest_end_of_load() -> None:
    """A restart that may drain for 10 s may be over at once, too."""
    text = with_lines(f"at: 60s, {RESTART}")
    assert load(text.replace("{at: 5s, run", "{at: 68s, run"))
    with pytest.raises(ExperimentError, match="would start after the end"):
        load(text.replace("{at: 5s, run", "{at: 69s, run"))


@pytest.mark.parametrize(
    ("first", "second", "right"),
    [
        # mode reject, reset: the second one finds the link held
        (f"at: 60s, for: 10s, {PSP_CUT}, mode: reject", f"at: 65s, for: 5s, fault: reset, {PSP}", "72s"),
        (f"at: 60s, for: 10s, fault: reset, {PSP}", f"at: 65s, for: 5s, {PSP_CUT}, mode: reject", "72s"),
        (f"at: 60s, for: 32s, fault: reset, {PSP}, after: 30s", f"at: 95s, for: 5s, {PSP_SLOW}", "124s"),
        # mode drop: no canary is answered before the second one
        (f"at: 60s, for: 10s, {PSP_CUT}", f"at: 65s, for: 5s, {PSP_SLOW}", "72s"),
        (f"at: 60s, for: 10s, {PSP_CUT}", f"at: 71s, for: 5s, {PSP_SLOW}", "72s"),
        (f"at: 60s, for: 10s, {PSP_SLOW}", f"at: 65s, for: 3s, {PSP_CUT}", "70s"),
        (f"at: 60s, for: 10s, {PSP_CUT}", f"at: 58s, for: 5s, {PSP_SLOW}", "72s"),
        (f"at: 60s, for: 10s, {PSP_CUT}", f"at: 62s, for: 4s, {PSP_CUT}, direction: to", "72s"),
        # turns and moments: any instant at which they may come
        (f"at: 60s, for: 2s, every: 20s, repeat: 3, {PSP_CUT}", f"at: 79s, for: 5s, {PSP_SLOW}", "104s"),
        (f"at: 60s, for: 2s, {PSP_CUT}, when: half-done, within: 9s", f"at: 70s, for: 5s, {PSP_SLOW}", "73s"),
    ],
)
def test_nothing_else_is_done_to_a_link_while_it_is_cut(first: str, second: str, right: str) -> None:
    said = refusal(first, second)
    names = [line.split("fault: ")[1].split(",")[0] for line in (first, second)]
    assert f"this {names[1]} overlaps the {names[0]} of faults.4 on payments->psp-a" in said
    assert f"at: {right} or more" in said
    was = second.split(",")[0]
    assert load(with_lines(first, second.replace(was, f"at: {right}", 1)))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (f"at: 60s, for: 10s, {PSP_SLOW}", f"at: 65s, for: 10s, fault: latency, {PSP}, latency: 50ms"),
        (f"at: 60s, for: 10s, {PSP_CUT}", "at: 60s, for: 10s, fault: latency, links: edge->*, latency: 1s"),
        (f"at: 60s, for: 10s, {PSP_CUT}", "at: 60s, for: 10s, fault: crash, service: payments"),
        (f"at: 60s, for: 2s, every: 20s, repeat: 3, {PSP_CUT}", f"at: 65s, for: 5s, {PSP_SLOW}"),
        ("at: 60s, for: 9s, fault: reset, links: client->edge", "at: 60s, for: 9s, fault: surge, factor: 3"),
        (f"at: 60s, for: 9s, {UNPLUGGED}", "at: 61s, for: 5s, fault: cpu, service: payments, limit: 0.5"),
    ],
)
def test_other_faults_may_overlap(first: str, second: str) -> None:
    assert load(with_lines(first, second))
    assert load(with_lines(second, first))


def test_a_role_means_the_links_of_whoever_may_hold_it() -> None:
    first = "at: 60s, for: 9s, fault: partition, between: [payments, db-primary]"
    second = "at: 62s, for: 5s, fault: latency, links: payments->db-2, latency: 100ms"
    assert "overlaps the partition of faults.4 on payments->db-2" in refusal(first, second)


CPU = "fault: cpu, service: payments, limit: 0.5"


@pytest.mark.parametrize(
    "second",
    [
        "fault: memory, service: payments, limit: 64MiB",
        "fault: cpu, service: payments, limit: 0.1",
    ],
)
def test_two_limits_on_one_service_would_lift_each_other(second: str) -> None:
    said = refusal(f"at: 60s, for: 9s, {CPU}", f"at: 70s, for: 9s, {second}")
    assert "overlaps the cpu of faults.4 on payments" in said and "at: 71s or more" in said
    assert load(with_lines(f"at: 60s, for: 9s, {CPU}", f"at: 71s, for: 9s, {second}"))
    assert load(
        with_lines(f"at: 60s, for: 9s, {CPU}", f"at: 60s, for: 9s, {second}".replace("payments", "edge"))
    )


def test_a_role_may_be_the_service_that_is_limited_already() -> None:
    memory = "fault: memory, service: db-2, limit: 64MiB"
    said = refusal(
        "at: 60s, for: 9s, fault: cpu, service: db-primary, limit: 1", f"at: 61s, for: 9s, {memory}"
    )
    assert "overlaps the cpu of faults.4 on db-2" in said


def test_a_service_without_a_plug_has_all_its_links_cut() -> None:
    unplugged = f"at: 60s, for: 9s, {UNPLUGGED}"
    said = refusal(unplugged, f"at: 61s, for: 9s, {PSP_SLOW}")
    assert "overlaps the partition of faults.4 on payments->psp-a" in said
    assert load(with_lines(unplugged, "at: 61s, for: 5s, fault: crash, service: edge"))


MEMORY = "fault: memory, service: payments, limit: 64MiB"


@pytest.mark.parametrize(
    "stops",
    [
        "for: 2s, fault: crash, service: payments",
        "for: 2s, fault: pause, service: payments",
        "for: 2s, fault: restart, service: payments, grace: 1s",
        "fault: restart, service: payments, grace: 2s",
    ],
)
@pytest.mark.parametrize(("needs", "kind"), [(UNPLUGGED, "partition"), (CPU, "cpu"), (MEMORY, "memory")])
def test_what_is_proved_of_a_service_that_runs_on_is_not_stopped_meanwhile(
    needs: str, kind: str, stops: str
) -> None:
    stopping = stops.split("fault: ")[1].split(",")[0]
    why_not = f"the {kind} is proved only of a service that runs on, the same process, until it is healed"
    first = f"at: 60s, for: 9s, {needs}"
    said = refusal(first, f"at: 62s, {stops}")
    assert f"this {stopping} overlaps the {kind} of faults.4 on payments" in said
    assert why_not in said and f"the {stopping} stops it" in said
    assert "at: 71s or more; or another service" in said
    assert "at: 71s or more" in refusal(first, f"at: 70.9s, {stops}")  # it must be seen to run on
    assert load(with_lines(first, f"at: 71s, {stops}"))
    assert load(with_lines(first, f"at: 62s, {stops}".replace("payments", "edge")))

    second = f"at: 63.9s, for: 9s, {needs}"
    said = refusal(f"at: 60s, {stops}", second)
    assert f"this {kind} overlaps the {stopping} of faults.4 on payments" in said and why_not in said
    assert "at: 64s or more" in said
    assert load(with_lines(f"at: 60s, {stops}", second.replace("63.9s", "64s")))


CONFIG = "for: 9s, fault: bad_config, service: edge, environment: {FAILURE_HANDLING: wrong}, grace: 2s"


@pytest.mark.parametrize(
    "second",
    [
        f"at: 62s, {CONFIG}".replace("wrong", "worse"),
        "at: 62s, for: 2s, fault: crash, service: edge",
        "at: 62s, fault: rolling_restart, services: [payments, edge]",
        f"at: 62s, for: 9s, {CPU}".replace("payments", "edge"),
    ],
)
def test_who_is_replaced_is_neither_stopped_nor_needed_by_others_meanwhile(second: str) -> None:
    first = f"at: 60s, {CONFIG}"
    assert "faults.4 on edge" in refusal(first, second)
    assert "at: 73s or more" in refusal(first, second.replace("62s", "72.9s")), (
        "it is stopped again at the end"
    )
    assert load(with_lines(first, second.replace("62s", "73s")))


@pytest.mark.parametrize("other", ["maintenance, reason: more", "lockdown, reason: another", "maintenance"])
def test_there_is_one_operating_mode(other: str) -> None:
    first, second = "at: 60s, for: 9s, fault: lockdown", f"at: 62s, for: 9s, fault: {other}"
    said = refusal(first, second)
    assert "both set the operating mode, and there is only one" in said and "one of them alone" in said
    assert "at: 106s or more" in said, "a mode is set with patience"
    assert load(with_lines(first, second.replace("62s", "106s")))
    assert load(with_lines(first, "at: 62s, for: 5s, fault: crash, service: edge"))


@pytest.mark.parametrize(
    ("first", "second", "on"),
    [
        ("fault: cpu, service: db-primary, limit: 1", "fault: crash, service: db-2", "db-2"),
        ("fault: pause, service: db-primary", "fault: memory, service: db-1, limit: 64MiB", "db-1"),
        ('fault: partition, between: ["*", db-*], mode: disconnect', "fault: crash, service: db-1", "db-1"),
    ],
)
def test_a_role_may_be_the_service_that_is_stopped(first: str, second: str, on: str) -> None:
    assert f"of faults.4 on {on}, or" in refusal(f"at: 60s, for: 9s, {first}", f"at: 61s, for: 3s, {second}")


def test_every_kind_of_fault_says_what_it_has_to_do_with_lives() -> None:
    own: dict[str, dict[str, object]] = {
        "partition": {"between": ["a", "b"]},
        "latency": {"links": "*", "latency": "1s"},
        "reset": {"links": "*"},
        "cpu": {"service": "a", "limit": 1},
        "memory": {"service": "a", "limit": "64MiB"},
        "switchover": {},
        "maintenance": {},
        "lockdown": {},
        "rolling_restart": {"services": ["a"]},
        "bad_config": {"service": "a", "environment": {"A": "b"}},
        "surge": {"factor": 2},
    }
    said = {
        name: kind.lives(kind.Params.model_validate(own.get(name, {"service": "a"})))
        for name, kind in FAULTS.items()
    }
    assert {name: lives for name, lives in said.items() if lives} == {
        "crash": "stopped",
        "pause": "stopped",
        "restart": "stopped",
        "rolling_restart": "stopped",
        "bad_config": "replaced",
        "cpu": "needed",
        "memory": "needed",
    }


def test_faults_that_are_wrong_anyway_are_not_told_to_overlap() -> None:
    said = refusal(f"at: 60s, for: 9s, {PSP_CUT}", "at: 60s, for: 9s, fault: reset, links: payments->psp-b")
    assert "overlaps" not in said


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_committed_experiments_are_in_order(path: Path) -> None:
    assert not is_suite(read_experiment(path))
    vocabulary = Vocabulary(faults=FAULTS, target=load_target(ROOT / "targets" / "billing"))
    assert make_plan(load_experiment(path, vocabulary), vocabulary, seed=1)


def test_every_kind_of_fault_on_links_says_what_it_does_to_them() -> None:
    said = {kind.name: kind.on_links for kind in VOCABULARY.faults.values() if kind.on_links}
    assert said == {"partition": "cut", "reset": "cut", "latency": "shaped"}


def test_the_faults_in_the_guide_go_together() -> None:
    guide = (ROOT / "docs" / "writing-experiments.md").read_text()
    block = next(part for part in guide.split("```yaml\n")[1:] if part.startswith("faults:")).split("```")[0]
    real = (ROOT / "experiments" / "db-primary-crash.yaml").read_text()
    start, end = real.index("faults:"), real.index("recover_within:")
    text = real[:start] + block + real[end:]
    vocabulary = Vocabulary(faults=FAULTS, target=load_target(ROOT / "targets" / "billing"))
    experiment = check_experiment(parse_yaml(text, "guide.yaml", experiment_error), vocabulary)
    assert {fault.fault for fault in experiment.faults} == set(FAULTS)
