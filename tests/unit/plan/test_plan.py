"""From an experiment to its timeline: pure, seeded, complete."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from harness.cli.timeline import show_plan
from harness.experiment.model import Experiment
from harness.experiment.vocabulary import HEALING_S as CRASH_S
from harness.fault.base import NoParams
from harness.fault.registry import FAULTS
from harness.plan import Plan, RateSegment, make_plan
from tests.unit.experiment.words import GOOD, VOCABULARY, load


def plan(text: str = GOOD, seed: int = 7) -> Plan:
    return make_plan(load(text), VOCABULARY, seed)


def with_faults(*lines: str, jobs: str = "") -> str:
    start, end = GOOD.index("faults:"), GOOD.index("recover_within")
    faults = "faults:\n" + "".join(f"  - {line}\n" for line in lines) if lines else ""
    text = GOOD[:start] + faults + jobs + GOOD[end:]
    return text if lines else text.replace("  - payments.recovery <= 35s\n", "")


def test_times_count_from_the_start_of_load_and_ids_follow_time() -> None:
    made = plan()
    assert [fault.id for fault in made.faults] == [
        "f1-crash", "f2-crash", "f3-surge", "f4-partition", "f5-partition", "f6-partition",
    ]  # fmt: skip
    assert (made.faults[0].at_s, made.faults[0].until_s) == (10, 30)
    assert (made.faults[2].at_s, made.faults[2].until_s) == (15, 25)
    assert [(job.at_s, job.run) for job in made.jobs] == [(15, "settlement")]


def test_a_repeated_fault_comes_within_its_jitter_of_each_turn() -> None:
    turns = [fault for fault in plan().faults if fault.fault == "partition"]
    for number, fault in enumerate(turns):
        assert 35 + 5 * number <= fault.at_s <= 35.5 + 5 * number
        assert fault.until_s == pytest.approx(fault.at_s + 2)
    assert len({round(fault.at_s % 5, 3) for fault in turns}) == 3  # each has a chance of its own


def test_one_seed_fixes_everything_and_another_moves_it() -> None:
    assert plan(seed=7) == plan(seed=7)
    assert plan(seed=7).model_dump_json() == plan(seed=7).model_dump_json()
    assert plan(seed=7).load.seed != plan(seed=8).load.seed
    assert plan(seed=7).faults[3].at_s != plan(seed=8).faults[3].at_s


def test_a_change_elsewhere_moves_no_chance() -> None:
    surge_gone = GOOD.replace("  - {at: 5s, for: 10s, fault: surge, factor: 2}\n", "")
    was = [fault.at_s for fault in plan().faults if fault.fault == "partition"]
    assert [fault.at_s for fault in plan(surge_gone).faults if fault.fault == "partition"] == was
    assert plan(surge_gone).load.seed == plan().load.seed


def test_a_fault_carries_what_it_touches_its_proof_and_its_own_keys() -> None:
    crash, *_, partition = plan().faults
    assert crash.touches == ("db-primary",)
    assert "gone" in crash.proof
    assert crash.params == {"service": "db-primary"}
    assert partition.touches == ("payments->db-1", "payments->db-2")
    aimed = next(fault for fault in plan().faults if fault.when)
    assert (aimed.when, aimed.within_s) == ("half-done", 9)


def test_what_a_fault_needs_stands_with_it_in_the_table() -> None:
    text = with_faults(
        "{at: 0s, for: 9s, fault: cpu, service: edge, limit: 0.5}",
        "{at: 0s, for: 9s, fault: crash, service: payments}",
    ).replace("  - payments.recovery <= 35s\n", "")
    console = Console(record=True, width=160, file=StringIO())
    show_plan(load(text), plan(text), console)
    table = console.export_text().splitlines()
    cpu = next(index for index, line in enumerate(table) if "f1-cpu" in line)
    assert table[cpu + 1].strip() == "needs --runtime docker"
    assert sum("needs" in line for line in table) == 1


def test_surges_multiply_the_rate_while_they_last() -> None:
    text = with_faults(
        "{at: 0s, for: 10s, fault: surge, factor: 2}", "{at: 5s, for: 10s, fault: surge, factor: 1.5}"
    )
    assert plan(text).load.segments == (
        RateSegment(at_s=0, rate_per_s=120),
        RateSegment(at_s=10, rate_per_s=240),
        RateSegment(at_s=15, rate_per_s=360),
        RateSegment(at_s=20, rate_per_s=180),
        RateSegment(at_s=25, rate_per_s=120),
    )


def test_without_surges_there_is_one_rate() -> None:
    assert plan(with_faults("{at: 0s, for: 5s, fault: crash, service: edge}")).load.segments == (
        RateSegment(at_s=0, rate_per_s=120),
    )


@pytest.mark.parametrize(
    ("lines", "jobs", "longest_s"),
    [
        ((), "", 10 + 40 + 8 + 10),
        (("{at: 0s, for: 20s, fault: crash, service: edge}",), "", 30 + CRASH_S + 58),
        (
            ("{at: 1s, for: 3s, fault: crash, service: edge, when: half-done, within: 9s}",),
            "",
            23 + CRASH_S + 58,
        ),
        (("{at: 2s, fault: switchover}",), "", 12 + FAULTS["switchover"].longest_s(NoParams()) + 58),
        (("{at: 0s, for: 1s, fault: crash, service: edge}",), "jobs: [{at: 8s, run: settlement}]\n", 18 + 58),
    ],
)
def test_load_is_long_enough_for_the_latest_end(lines: tuple[str, ...], jobs: str, longest_s: float) -> None:
    assert plan(with_faults(*lines, jobs=jobs)).load.max_duration_s == longest_s


def test_load_outlasts_what_a_fault_may_take_by_its_own_keys() -> None:
    made = plan(with_faults("{at: 2s, fault: restart, service: edge, grace: 10m}"))
    assert made.load.max_duration_s >= 12 + 600 + 58


def test_a_fault_that_ends_by_itself_has_no_end() -> None:
    assert plan(with_faults("{at: 2s, fault: switchover}")).faults[0].until_s is None


def test_the_experiment_is_carried_over() -> None:
    experiment: Experiment = load()
    made = plan()
    assert (made.recover_within_s, made.recovered_s, made.settle_within_s) == (40, 8, 30)
    assert made.load.mix == experiment.load.mix
    assert made.load.subscribers == 300
    assert made.load.arrivals == "poisson"
