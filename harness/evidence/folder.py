"""A run folder: the typed way to write and to read every file of a run.

Every file is written beside its place and renamed onto it, so that a reader, or a harness that died
in between, sees a whole file or none. The three phases are saved as they finish: plan (what was
asked), evidence (what was seen), verdict (what it means). Nothing here judges.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from harness.errors import EnvironmentBroken, InputError, TargetError
from harness.evidence.model import Environment, FaultRecord, JobRecord, Timeline
from harness.evidence.samples import SampleLog
from harness.experiment.model import Experiment
from harness.experiment.target import Frozen, TargetSpec
from harness.plan import Plan

Record = TypeVar("Record", bound=Frozen)

# Nested values lie as JSON text, so that any Parquet reader can show them.
FAULT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("fault", pa.string()),
        ("touches", pa.string()),
        ("params", pa.string()),
        ("injected_ns", pa.int64()),
        ("healed_ns", pa.int64()),
        ("proof", pa.string()),
        ("error", pa.string()),
        ("heal_error", pa.string()),
    ]
)
JOB_SCHEMA = pa.schema(
    [
        ("job", pa.string()),
        ("started_ns", pa.int64()),
        ("ended_ns", pa.int64()),
        ("attempts", pa.int64()),
        ("done", pa.bool_()),
        ("answer", pa.string()),
    ]
)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a place to write to; what was written there becomes ``path`` in one step.

    An error inside leaves ``path`` as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with whole_file(path) as place:
        place.write_text(text, encoding="utf-8")


class RunFolder:
    """One run's folder. ``create`` makes a new one, ``open`` takes one that exists."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.evidence = path / "evidence"
        self.sql = self.evidence / "sql"
        self.witness = self.evidence / "witness"
        self.logs = path / "logs"
        self.operations = self.evidence / "operations.parquet"
        self.samples = self.evidence / "samples.parquet"
        self.verdict = path / "verdict.json"

    @classmethod
    def create(cls, reports: Path, run_id: str) -> RunFolder:
        """A new, empty folder ``reports/run_id``. EnvironmentBroken when it exists or cannot be made."""
        folder = cls(reports / run_id)
        try:
            folder.path.mkdir(parents=True)
            for inner in (folder.sql, folder.witness, folder.logs):
                inner.mkdir(parents=True)
        except OSError as error:
            raise EnvironmentBroken(f"cannot make the run folder {folder.path}: {error.strerror}") from error
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """A folder that exists. InputError when it is no run folder."""
        if not (path / "experiment.json").is_file():
            raise InputError(
                f"{path} is not a run folder: it has no experiment.json",
                hint="give the folder of one run, below reports/",
            )
        return cls(path)

    # --- plan: what was asked -------------------------------------------------------------------
    def write_experiment(self, source: str, experiment: Experiment) -> None:
        """The file as it was written by its author, and as it was understood."""
        write_text(self.path / "experiment.yaml", source)
        self._write(self.path / "experiment.json", experiment)

    def read_experiment(self) -> Experiment:
        return self._read(self.path / "experiment.json", Experiment)

    def copy_target(self, spec: TargetSpec) -> None:
        """Keep all of the target that judging needs, so that the run can be judged without it."""
        source = Path(spec.folder)
        files = [invariant.file for invariant in spec.invariants.values()]
        files += [measure.file for measure in spec.measures.values()]
        files += [figure.file for figure in spec.figures.values()]
        for name in files:
            relative = _inside(Path(name), source)
            with whole_file(self.path / relative) as place:
                shutil.copyfile(source / relative, place)
        self._write(self.path / "target.json", spec.model_copy(update={"folder": "."}))

    def read_target(self) -> TargetSpec:
        """The target as it was; ``folder`` is this folder."""
        spec = self._read(self.path / "target.json", TargetSpec)
        return spec.model_copy(update={"folder": str(self.path)})

    def write_plan(self, plan: Plan) -> None:
        self._write(self.path / "plan.json", plan)

    def read_plan(self) -> Plan:
        return self._read(self.path / "plan.json", Plan)

    def write_environment(self, environment: Environment) -> None:
        self._write(self.path / "environment.json", environment)

    def read_environment(self) -> Environment:
        return self._read(self.path / "environment.json", Environment)

    # --- evidence: what was seen ----------------------------------------------------------------
    def write_timeline(self, timeline: Timeline) -> None:
        self._write(self.evidence / "windows.json", timeline)

    def read_timeline(self) -> Timeline:
        return self._read(self.evidence / "windows.json", Timeline)

    def write_faults(self, faults: Sequence[FaultRecord]) -> None:
        self._write_rows(self.evidence / "faults.parquet", FAULT_SCHEMA, faults)

    def read_faults(self) -> tuple[FaultRecord, ...]:
        return self._read_rows(self.evidence / "faults.parquet", FaultRecord)

    def write_jobs(self, jobs: Sequence[JobRecord]) -> None:
        self._write_rows(self.evidence / "jobs.parquet", JOB_SCHEMA, jobs)

    def read_jobs(self) -> tuple[JobRecord, ...]:
        return self._read_rows(self.evidence / "jobs.parquet", JobRecord)

    def open_samples(self) -> SampleLog:
        """Append samples while the run lasts; its ``close`` writes ``samples.parquet``."""
        return SampleLog(self.evidence)

    def write_operations(self, table: pa.Table) -> None:
        """All operations, in the columns of OPERATION_COLUMNS."""
        with whole_file(self.operations) as place:
            pq.write_table(table, place)

    # --- verdict: what it means -----------------------------------------------------------------
    def write_verdict(self, verdict: Frozen) -> None:
        """``verdict.json``. The type belongs to ``harness.check``, which reads it back."""
        self._write(self.verdict, verdict)

    # --- how ------------------------------------------------------------------------------------
    def _write(self, path: Path, record: Frozen) -> None:
        write_text(path, record.model_dump_json(by_alias=True, indent=2) + "\n")

    def _read(self, path: Path, model: type[Record]) -> Record:
        try:
            return model.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        except ValidationError as error:
            raise InputError(f"{path} is not what a run folder of this version holds: {error}") from error

    def _write_rows(self, path: Path, schema: pa.Schema, records: Sequence[Frozen]) -> None:
        rows = [_flat(record) for record in records]
        with whole_file(path) as place:
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), place)

    def _read_rows(self, path: Path, model: type[Record]) -> tuple[Record, ...]:
        try:
            rows = pq.read_table(path).to_pylist()
            return tuple(model.model_validate(_nested(row)) for row in rows)
        except (OSError, pa.ArrowException, ValueError) as error:
            raise InputError(f"cannot read {path}: {error}") from error


_NESTED = ("touches", "params", "proof")


def _flat(record: Frozen) -> dict[str, Any]:
    row = record.model_dump(mode="json")
    return {name: json.dumps(value) if name in _NESTED else value for name, value in row.items()}


def _nested(row: dict[str, Any]) -> dict[str, Any]:
    return {name: json.loads(value) if name in _NESTED else value for name, value in row.items()}


def _inside(file: Path, folder: Path) -> Path:
    """``file`` relative to ``folder``; TargetError when it lies elsewhere."""
    whole = (folder / file).resolve()
    if not whole.is_file() or not whole.is_relative_to(folder.resolve()):
        raise TargetError(f"{file} is not a file inside the target folder {folder}")
    return whole.relative_to(folder.resolve())
