"""From what a user names to checked input: experiments, suites, targets, runs.

An experiment is named by its file, or by its bare name when it lies in ``experiments/``; a target by
its bare name (``targets/<name>``, upwards from the experiment, then from the current folder) or by a
path. Nothing is started here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from harness.errors import ExitCode, ExperimentError, ExperimentErrors, InputError
from harness.experiment.advice import advice
from harness.experiment.loader import (
    Suite,
    check_experiment,
    is_suite,
    read_experiment,
    read_suite,
    target_of,
)
from harness.experiment.model import Experiment
from harness.experiment.names import suggestion
from harness.experiment.problems import Problems
from harness.experiment.settings import SETTINGS, with_settings
from harness.experiment.target import TargetSpec
from harness.experiment.vocabulary import Vocabulary
from harness.experiment.yaml_reader import Document

_TARGET_LINE = re.compile(r"^target:.*$", re.MULTILINE)
_WORST_FIRST = (
    ExitCode.ABORTED,
    ExitCode.BROKEN,
    ExitCode.BAD_INPUT,
    ExitCode.FAIL,
    ExitCode.INCONCLUSIVE,
)


@dataclass(frozen=True)
class Loaded:
    """A checked experiment with the file it came from."""

    path: Path
    experiment: Experiment
    vocabulary: Vocabulary  # the target with the experiment's settings
    source: str  # the file as its author wrote it; with overrides, the whole that came of it

    @property
    def spec(self) -> TargetSpec:
        return self.vocabulary.target

    @property
    def advice(self) -> tuple[str, ...]:
        """For people: what it will be sorry for. No errors."""
        return tuple(f"{self.path}: warning: {text}" for text in advice(self.experiment, self.spec))


@dataclass
class Outcome:
    """What became of one named file: experiments, or errors, or both (a suite)."""

    loaded: list[Loaded]
    errors: list[InputError]
    title: str | None = None  # of a suite


def load_all(names: Sequence[str], overrides: Sequence[str] = ()) -> list[Loaded]:
    """Every experiment of the files and suites named. Raises all their errors together."""
    found = [load_one(name, overrides) for name in names]
    raise_together(error for outcome in found for error in outcome.errors)
    return [loaded for outcome in found for loaded in outcome.loaded]


def load_one(name: str, overrides: Sequence[str] = ()) -> Outcome:
    """The experiment, or the experiments of the suite, that ``name`` means."""
    outcome = Outcome([], [])
    try:
        path = find_experiment(name)
        # A suite's own keys cannot be set: --set is about the experiments in it.
        document = read_experiment(path)
        if not is_suite(document):
            outcome.loaded.append(
                _check(path, document if not overrides else read_experiment(path, overrides))
            )
            return outcome
        suite = read_suite(document)
        outcome.title = suite.title
        members = list(_members(path, document, suite))
    except InputError as error:
        outcome.errors.append(error)
        return outcome
    for member in members:
        try:
            document = read_experiment(member, overrides)
            if is_suite(document):
                raise document.error("a suite within a suite", hint="list the experiments themselves")
            outcome.loaded.append(_check(member, document))
        except InputError as error:
            outcome.errors.append(error)
    return outcome


def raise_together(errors: Iterable[InputError]) -> None:
    """Raise one error, or several as one."""
    found = list(errors)
    flat: list[ExperimentError] = []
    for error in found:
        if isinstance(error, ExperimentErrors):
            flat += error.errors
        elif isinstance(error, ExperimentError):
            flat.append(error)
    if len(found) == 1:
        raise found[0]
    if flat and all(isinstance(error, ExperimentError) for error in found):
        raise ExperimentErrors(flat)
    if found:
        raise InputError("\n".join(dict.fromkeys(str(error) for error in found)))


def _members(path: Path, document: Document, suite: Suite) -> Iterator[Path]:
    for entry, place in suite.entries:
        bare = Path(entry)
        name = entry if bare.suffix else f"{entry}.yaml"
        candidates = [folder / name for folder in (path.parent, path.parent.parent)]
        file = next((candidate for candidate in candidates if _there(candidate.is_file)), None)
        if file is None:
            known = sorted(
                {other.stem for folder in {path.parent, path.parent.parent} for other in _yaml_in(folder)}
            )
            raise document.error(f"no experiment {entry!r}", place, hint=suggestion(bare.stem, known))
        yield file


def _check(path: Path, document: Document) -> Loaded:
    folder = find_target(target_of(document), path, document)
    vocabulary = _vocabulary(folder)
    experiment = check_experiment(document, vocabulary)
    if experiment.settings:
        spec = with_settings(vocabulary.target, experiment.settings)
        _check_addresses(document, spec, experiment)
        vocabulary = replace(vocabulary, target=spec)
    return Loaded(path, experiment, vocabulary, _source(path, document, folder))


def _check_addresses(document: Document, spec: TargetSpec, experiment: Experiment) -> None:
    """No setting leads past the proxies."""
    from harness.target.rewrite import wrong_addresses

    problems = Problems(document)
    for name, values in experiment.settings.items():
        for variable, problem in wrong_addresses(spec, spec.services[name]):
            if variable in values:
                problems.add(problem.message, (SETTINGS, name, variable), hint=problem.hint)
    problems.raise_any()


def _source(path: Path, document: Document, target: Path) -> str:
    """What repeats the run: with overrides, the values they came to (as JSON, which is YAML too).

    It is kept in another folder, so a target named by a relative path is written as a whole one.
    """
    data = dict(document.data)
    name = target_of(document)
    if len(Path(name).parts) > 1 and not Path(name).is_absolute():
        data["target"] = str(target.resolve())
    if not document.overridden:
        text = path.read_text(encoding="utf-8-sig")
        if data["target"] == name:
            return text
        whole, times = _TARGET_LINE.subn(lambda _: f"target: {json.dumps(data['target'])}  # {name}", text)
        if times == 1:
            return whole
    marks = dict.fromkeys(f"# {' '.join(mark.file.split())}\n" for mark in document.overridden.values())
    return f"# {path.name} with\n{''.join(marks)}{json.dumps(data, indent=2, ensure_ascii=False)}\n"


@cache
def _vocabulary(folder: Path) -> Vocabulary:
    from harness.fault.registry import FAULTS
    from harness.target.folder import load_target

    return Vocabulary(faults=FAULTS, target=load_target(folder))


# --- finding ----------------------------------------------------------------------------------------
def find_experiment(name: str) -> Path:
    """The file of an experiment or suite named by path or by bare name."""
    path = Path(name)
    if _there(path.exists) or path.suffix or len(path.parts) != 1:
        return path  # the reader says what is wrong with it
    for file in experiment_files(Path.cwd()):
        if file.stem == name:
            return file
    known = [file.stem for file in experiment_files(Path.cwd())]
    raise InputError(
        f"no experiment is called {name!r}", hint=suggestion(name, known) if known else "name a file"
    )


def _there(probe: Callable[[], bool]) -> bool:
    """What cannot even be looked for (a name that is too long) is not there."""
    try:
        return probe()
    except (OSError, ValueError):
        return False


def experiment_files(start: Path) -> list[Path]:
    """Files in the nearest ``experiments/`` at or above ``start``, suites last."""
    for folder in (start, *start.parents):
        home = folder / "experiments"
        if home.is_dir():
            return [*_yaml_in(home), *_yaml_in(home / "suites")]
    return []


def find_target(name: str, experiment: Path, document: Document) -> Path:
    """The folder of the target that an experiment names. Raises the document's error."""
    tried = [base / name for base in _target_bases(name, experiment)]
    for folder in tried:
        if _there((folder / "compose.yaml").is_file):
            return folder
    known = sorted({folder.name for base in _target_bases("", experiment) for folder in _targets_in(base)})
    raise document.error(
        f"no target {name!r}: no folder of that name with a compose.yaml",
        ("target",),
        hint=suggestion(name, known),
    )


def target_folders(start: Path) -> list[Path]:
    """All targets at or above ``start``, the nearest ``targets/`` only."""
    for folder in (start, *start.parents):
        found = _targets_in(folder / "targets")
        if found:
            return found
    return []


def _target_bases(name: str, experiment: Path) -> list[Path]:
    near = experiment.resolve().parent
    if len(Path(name).parts) > 1:
        return [near, Path.cwd()]
    bases = [folder / "targets" for folder in (near, *near.parents)]
    return [*bases, Path.cwd() / "targets"]


def _targets_in(base: Path) -> list[Path]:
    try:
        return sorted(folder for folder in base.iterdir() if (folder / "compose.yaml").is_file())
    except OSError:
        return []


def _yaml_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.yaml"))


def find_run(name: str, reports: Path) -> Path:
    """The folder of a stored run named by path, by id, or ``latest``."""
    path = Path(name)
    if _there(path.is_dir):
        return path
    runs = run_folders(reports)
    if name == "latest" and runs:
        return runs[-1]
    if _there((reports / name).is_dir):
        return reports / name
    known = [run.name for run in runs]
    raise InputError(
        f"no stored run {name!r}", hint=suggestion(name, known) if known else f"none in {reports}/"
    )


def run_folders(reports: Path) -> list[Path]:
    """Stored runs, oldest first (an id begins with its time)."""
    try:
        return sorted(folder for folder in reports.iterdir() if (folder / "experiment.json").is_file())
    except OSError:
        return []


def worst_exit(codes: Iterable[int]) -> int:
    """The exit code of several experiments: the worst of them, in the order of ``_WORST_FIRST``."""
    present = set(codes)
    return next((code for code in _WORST_FIRST if code in present), ExitCode.PASS)
