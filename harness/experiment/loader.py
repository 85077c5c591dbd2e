"""An experiment file -> ``Experiment``, or every mistake in it at once, each with its place.

Nothing is started, resolved or evaluated here; the words a file may use come with the
``Vocabulary``. The target must be known before an experiment can be checked, so reading is in two
steps: ``read_experiment`` gives the document, ``target_of`` the target's name in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from harness.experiment import checks
from harness.experiment.model import Experiment, FaultSpec, JobSpec, LoadSpec
from harness.experiment.names import suggestion
from harness.experiment.overrides import apply_overrides
from harness.experiment.problems import Problems, shown
from harness.experiment.settings import SETTINGS, check_settings, with_spelt_settings
from harness.experiment.timeline import check_timeline
from harness.experiment.units import WRITTEN
from harness.experiment.vocabulary import Vocabulary
from harness.experiment.written import WrittenExperiment, WrittenFault, WrittenJob, WrittenLoad, WrittenSuite
from harness.experiment.yaml_reader import Document, KeyPath, experiment_error, read_yaml

M = TypeVar("M", bound=BaseModel)


def load_experiment(path: Path, vocabulary: Vocabulary, overrides: Sequence[str] = ()) -> Experiment:
    """Read and check one file. Raises ExperimentError, or ExperimentErrors when there are several."""
    return check_experiment(read_experiment(path, overrides), vocabulary)


def read_experiment(path: Path, overrides: Sequence[str] = ()) -> Document:
    """Read one file without checking what it says. ``overrides`` as in ``--set``."""
    document = read_yaml(path, experiment_error)
    if not isinstance(document.data, dict):
        raise document.error(
            f"{shown(document.data)} is not an experiment",
            hint="a mapping is expected: name, title, target ...",
        )
    return with_spelt_settings(apply_overrides(document, overrides))


def is_suite(document: Document) -> bool:
    """Whether it lists experiments rather than being one."""
    return "suite" in document.data or ("experiments" in document.data and "load" not in document.data)


@dataclass(frozen=True)
class Suite:
    """A list of experiments; each entry with its place for errors."""

    title: str | None
    entries: tuple[tuple[str, KeyPath], ...]


def read_suite(document: Document) -> Suite:
    """Read what a suite says. Raises the document's error."""
    problems = Problems(document)
    suite = _valid(WrittenSuite, document.data, (), problems)
    problems.raise_any()
    assert suite is not None  # an invalid one has just been raised
    entries = tuple((entry, ("experiments", index)) for index, entry in enumerate(suite.experiments))
    return Suite(suite.title, entries)


def target_of(document: Document) -> str:
    """The target that an experiment names. Raises its error when it names none."""
    target = document.data.get("target")
    if isinstance(target, str) and target:
        return target
    if "target" in document.data:
        raise document.error(f"target: {shown(target)} is not the name of a target", ("target",))
    near = suggestion("target", document.data)
    hint = near.partition("?")[0] + "?" if near.startswith("did you mean") else "target: billing"
    raise document.error("the key 'target' is missing", (), hint=hint)


def check_experiment(document: Document, vocabulary: Vocabulary) -> Experiment:
    """Check everything a document says. Raises ExperimentError or ExperimentErrors."""
    problems = Problems(document)
    data = document.data
    _refuse_nothing(data, (), problems)
    written = _valid(WrittenExperiment, data, (), problems)
    load = _quiet(WrittenLoad, data.get("load"))
    if load is not None:
        checks.check_load(load, vocabulary.target, problems)
    check_settings(data.get(SETTINGS), vocabulary.target, problems)
    faults = _faults(data, vocabulary, problems)
    jobs = [(path, job) for path, raw in _items(data, "jobs") if (job := _quiet(WrittenJob, raw))]
    for path, job in jobs:
        checks.check_job(job, path, vocabulary.target, problems)
    if written is not None:
        check_timeline(faults, jobs, written.recovered, vocabulary, problems)
        checks.check_surges(written.load.rate, faults, vocabulary.faults, problems)
    lines = [(path, text) for path, text in _items(data, "expect") if isinstance(text, str) and text]
    mix = load.mix if load is not None and set(load.mix) <= set(vocabulary.target.operation_kinds) else {}
    expect = checks.check_expectations(lines, vocabulary.target, mix, bool(data.get("faults")), problems)
    problems.raise_any()
    assert written is not None  # what is wrong with it has just been raised
    return Experiment(
        name=written.name,
        title=written.title,
        concerns=written.concerns,
        target=written.target,
        load=LoadSpec(
            rate_per_s=written.load.rate,
            arrivals=written.load.arrivals,
            mix=written.load.mix,
            subscribers=written.load.subscribers,
        ),
        steady_s=written.steady,
        faults=tuple(fault for _, fault in faults),
        jobs=tuple(JobSpec(at_s=job.at, run=job.run) for job in written.jobs),
        recover_within_s=written.recover_within,
        recovered_s=written.recovered,
        settle_within_s=written.settle_within,
        expect=expect,
        settings=written.settings,
    )


def _faults(data: Any, vocabulary: Vocabulary, problems: Problems) -> list[tuple[KeyPath, FaultSpec]]:
    found = []
    for path, raw in _items(data, "faults"):
        written = _quiet(WrittenFault, raw) if isinstance(raw, dict) and None not in raw.values() else None
        if written and (fault := checks.check_fault(written, path, vocabulary, problems)):
            found.append((path, fault))
    return found


def _items(data: Any, key: str) -> list[tuple[KeyPath, Any]]:
    items = data.get(key)
    return [((key, index), item) for index, item in enumerate(items)] if isinstance(items, list) else []


def _refuse_nothing(value: Any, path: KeyPath, problems: Problems) -> None:
    """A key without a value is a slip of the pen, never a wish."""
    if value is None:
        problems.add(f"{'.'.join(map(str, path))} has no value", path)
    elif isinstance(value, dict):
        for key, inner in value.items():
            _refuse_nothing(inner, (*path, key), problems)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _refuse_nothing(inner, (*path, index), problems)


def _valid(model: type[M], data: Any, at: KeyPath, problems: Problems) -> M | None:
    try:
        return model.model_validate(data, context=WRITTEN)
    except ValidationError as error:
        problems.take_invalid(error, at, model)
        return None


def _quiet(model: type[M], data: Any) -> M | None:
    """A part by itself; what is wrong with it has been reported with the whole."""
    try:
        return model.model_validate(data, context=WRITTEN)
    except ValidationError:
        return None
