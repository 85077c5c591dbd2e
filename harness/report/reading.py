"""The one place of this room that reads: a run folder -> ``Run``, all that a report may show.

A folder may be incomplete: the run was aborted, the harness was killed, evidence was trimmed. What
is there is shown; what is not there, or cannot be read, is named in ``Run.missing``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import duckdb
from pydantic import ValidationError

from harness.check.verdict import Verdict
from harness.errors import InputError
from harness.evidence.folder import RunFolder
from harness.evidence.model import Environment, FaultRecord, JobRecord, Timeline
from harness.experiment.target import Frozen
from harness.report.masking import masked
from harness.report.series import Axis, Series, read_series

T = TypeVar("T")
Record = TypeVar("Record", bound=Frozen)

_UNREADABLE = (InputError, OSError, ValueError, duckdb.Error)


@dataclass(frozen=True)
class Run:
    """A stored run. ``logs`` are paths relative to the folder; ``missing`` are sentences for people.

    What is None is not known; what is empty is known to be nothing.
    """

    path: Path
    name: str
    title: str
    verdict: Verdict | None
    timeline: Timeline | None
    environment: Environment | None
    faults: tuple[FaultRecord, ...] | None
    jobs: tuple[JobRecord, ...] | None
    series: Series | None
    logs: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def zero_ns(self) -> int | None:
        """The start of load, from which reports count seconds; None when nobody knows it."""
        if self.timeline:
            return self.timeline.load_started_ns
        return self.series.zero_ns if self.series else None


def read_run(path: Path) -> Run:
    """Read everything a report shows. Raises nothing for a missing or damaged file."""
    folder, missing = RunFolder(path), list[str]()

    def tried(file: Path, what: str, read: Callable[[], T], otherwise: T) -> T:
        name = file.relative_to(path).as_posix()
        if not file.is_file():
            missing.append(f"{name} is missing: {what} cannot be shown")
            return otherwise
        try:
            return read()
        except _UNREADABLE as error:
            cause = _cause(error).replace(f"{path}/", "")  # a report travels; this machine's paths do not
            missing.append(f"{name} cannot be read: {what} cannot be shown ({cause})")
            return otherwise

    def record(file: Path, what: str, read: Callable[[], Record]) -> Record | None:
        return tried(file, what, lambda: _masked(read()), None)

    verdict = record(folder.verdict, "the verdict", lambda: _verdict(folder))
    experiment = record(path / "experiment.json", "the experiment's title", folder.read_experiment)
    timeline = record(folder.evidence / "windows.json", "the phases", folder.read_timeline)
    target = record(path / "target.json", "the grouping by function", folder.read_target)
    axis = Axis(timeline.load_started_ns, timeline.load_ended_ns) if timeline else Axis()
    functions = target.functions if target else {}
    known = verdict or experiment
    name = known.name if known else path.name
    return Run(
        path=path,
        name=name,
        title=experiment.title if experiment else name,
        verdict=verdict,
        timeline=timeline,
        environment=record(path / "environment.json", "the environment", folder.read_environment),
        faults=tried(
            folder.evidence / "faults.parquet",
            "what was observed of the faults",
            lambda: tuple(map(_masked, folder.read_faults())),
            None,
        ),
        jobs=tried(
            folder.evidence / "jobs.parquet",
            "the batch jobs",
            lambda: tuple(map(_masked, folder.read_jobs())),
            None,
        ),
        series=tried(
            folder.operations,
            "what customers felt",
            lambda: read_series(folder.operations, functions, axis),
            None,
        ),
        logs=_logs(path),
        missing=tuple(missing),
    )


def _verdict(folder: RunFolder) -> Verdict:
    return Verdict.model_validate_json(folder.verdict.read_bytes())


def _masked(record: Record) -> Record:
    """The same record with secrets masked in its texts."""
    return type(record).model_validate(masked(record.model_dump(by_alias=True)))


def _logs(path: Path) -> tuple[str, ...]:
    files = (file for file in (path / "logs").rglob("*") if file.is_file())
    return tuple(sorted(file.relative_to(path).as_posix() for file in files))


def _cause(error: Exception) -> str:
    """The first line of the innermost error, which names the cause."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
    return next(iter(str(error).splitlines()), type(error).__name__)
