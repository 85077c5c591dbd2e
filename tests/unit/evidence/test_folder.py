"""The run folder: what is written comes back, whole files or none, and the target is kept with the run."""

from __future__ import annotations

import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from harness.errors import EnvironmentBroken, InputError, TargetError
from harness.evidence.folder import RunFolder, whole_file
from harness.evidence.model import Environment, FaultRecord, JobRecord, Proof, Sample, Timeline
from harness.experiment.target import Invariant
from tests.histories.history import BILLING, experiment, target_spec


def test_round_trip(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "r1")
    folder.write_experiment("name: x  # as written\n", experiment())
    folder.copy_target(target_spec())
    timeline = Timeline(
        deploy_started_ns=1, ready_ns=2, load_started_ns=3, steady_ended_ns=4, settle_pending={"a": 1}
    )
    environment = Environment(run_id="r1", seed=1, runtime="process", toxiproxy="builtin")
    proof = Proof(proved=True, text="seen: 'quoted'", observed={"ms": [1, 2.5], "who": None})
    faults = (FaultRecord(id="f1", fault="crash", touches=("a->b", "c"), params={"mode": "drop", "n": 3},
                          injected_ns=5, healed_ns=None, proof=proof),)  # fmt: skip
    jobs = (JobRecord(job="j", started_ns=1, ended_ns=None, attempts=2, done=False, answer="202"),)
    folder.write_timeline(timeline)
    folder.write_environment(environment)
    folder.write_faults(faults)
    folder.write_jobs(jobs)
    again = RunFolder.open(folder.path)
    assert again.read_experiment() == experiment()
    assert (again.path / "experiment.yaml").read_text() == "name: x  # as written\n"
    assert (again.read_timeline(), again.read_environment()) == (timeline, environment)
    assert (again.read_faults(), again.read_jobs()) == (faults, jobs)
    kept = again.read_target()
    assert kept.folder == str(folder.path)
    for invariant in kept.invariants.values():
        assert (folder.path / invariant.file).read_text() == (BILLING / invariant.file).read_text()
    assert not list(folder.path.rglob("*.part"))


def test_empty_records_keep_their_columns(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "r1")
    folder.write_faults(())
    assert folder.read_faults() == () and pq.read_schema(folder.evidence / "faults.parquet").names[0] == "id"


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text("old")
    with pytest.raises(RuntimeError), whole_file(file) as place:
        place.write_text("half")
        raise RuntimeError
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


def test_what_is_no_run_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"experiment\.json"):
        RunFolder.open(tmp_path)
    RunFolder.create(tmp_path, "r1")
    with pytest.raises(EnvironmentBroken, match="r1"):
        RunFolder.create(tmp_path, "r1")
    folder = RunFolder.create(tmp_path, "r2")
    (folder.evidence / "windows.json").write_text("{}")
    with pytest.raises(InputError, match=r"windows\.json"):
        folder.read_timeline()


@pytest.mark.parametrize("file", ["../README.md", "/etc/passwd", "invariants/none.sql"])
def test_a_target_cannot_name_files_outside(tmp_path: Path, file: str) -> None:
    spec = target_spec().model_copy(update={"invariants": {"X": Invariant(id="X", title="x", file=file)}})
    with pytest.raises(TargetError):
        RunFolder.create(tmp_path, "r1").copy_target(spec)


def test_samples_come_from_many_threads_and_survive_a_death(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "r1")
    log = folder.open_samples()

    def sample(name: str) -> None:
        for n in range(200):
            log.append(Sample(at_ns=n, name=name, subject="s", value=None, text="line\nbreak"))

    threads = [threading.Thread(target=sample, args=(str(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len((folder.evidence / "samples.jsonl").read_text().splitlines()) == 800  # before any close
    assert log.close() == 800 and log.close() == 0
    table = pq.read_table(folder.samples)
    assert table.num_rows == 800 and set(table.column("name").to_pylist()) == {"0", "1", "2", "3"}
    with pytest.raises(EnvironmentBroken):
        log.append(Sample(at_ns=1, name="late", subject="s", value=1))
