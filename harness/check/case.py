"""All that was recorded about a run, but its tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import duckdb

from harness.errors import InputError
from harness.evidence.folder import RunFolder
from harness.evidence.model import Environment, FaultRecord, JobRecord, Timeline
from harness.experiment.model import Experiment
from harness.experiment.target import TargetSpec
from harness.plan import Plan

T = TypeVar("T")
NOWHERE = "none"  # runtime and engine of a run that never came up


@dataclass(frozen=True)
class Case:
    """The typed records of one run folder."""

    folder: RunFolder
    experiment: Experiment
    spec: TargetSpec
    environment: Environment
    timeline: Timeline
    faults: tuple[FaultRecord, ...]
    jobs: tuple[JobRecord, ...]
    plan: Plan | None

    @classmethod
    def read(cls, folder: RunFolder) -> Case:
        """InputError when a file is missing, but for those that an aborted run may never have had."""
        timeline = folder.read_timeline()
        aborted = timeline.aborted is not None
        return cls(
            folder,
            folder.read_experiment(),
            folder.read_target(),
            _or(aborted, folder.read_environment, lambda: _nowhere(folder)),
            timeline,
            _or(aborted, folder.read_faults, tuple),
            _or(aborted, folder.read_jobs, tuple),
            _or(True, folder.read_plan, lambda: None),
        )

    @property
    def ended_ns(self) -> int:
        """The end of load, as far as it got."""
        return self.timeline.load_ended_ns or self.timeline.steady_ended_ns

    def present(self, connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
        """The kinds, faults and jobs of this experiment, for which invariants may apply.

        Kinds that were sent count, too: a repetition that finds nothing to repeat becomes what it repeats.
        """
        kinds = {kind for kind, weight in self.experiment.load.mix.items() if weight > 0}
        try:
            sent = connection.execute("select distinct kind from operations").fetchall()
        except duckdb.Error:  # unreadable operations are a doubt of their own
            sent = []
        faults = {fault.fault for fault in self.experiment.faults}
        jobs = {job.run for job in self.experiment.jobs}
        return frozenset(kinds | {kind for (kind,) in sent} | faults | jobs)


def _or(excused: bool, read: Callable[[], T], otherwise: Callable[[], T]) -> T:
    try:
        return read()
    except InputError:
        if not excused:
            raise
        return otherwise()


def _nowhere(folder: RunFolder) -> Environment:
    """Of a run that was aborted before it came up."""
    return Environment(
        run_id=folder.path.name, seed=folder.read_plan().seed, runtime=NOWHERE, toxiproxy=NOWHERE
    )
