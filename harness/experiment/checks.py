"""What the types alone cannot tell: names of the target and of the faults, and what each fault needs.

Times against each other stand in ``timeline.py``.

Every function takes parts that are well-formed in themselves and adds what it finds to ``Problems``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from harness.errors import ExperimentError
from harness.experiment.expect import ExpectError, parse_expectation
from harness.experiment.model import Expectation, FaultSpec, Objective
from harness.experiment.names import suggestion
from harness.experiment.problems import Problems
from harness.experiment.target import TargetSpec
from harness.experiment.timeline import TOLERANCE_S, check_repetition
from harness.experiment.units import WRITTEN, show_duration
from harness.experiment.vocabulary import FaultKind, Vocabulary
from harness.experiment.written import COMMON_KEYS, MAX_RATE_PER_S, WrittenFault, WrittenJob, WrittenLoad
from harness.experiment.yaml_reader import KeyPath

DEFAULT_WITHIN_S = 15.0


def check_load(load: WrittenLoad, spec: TargetSpec, problems: Problems) -> None:
    """Kinds of the mix, and the number of subscribers."""
    kinds = spec.operation_kinds
    for kind in load.mix:
        if kind not in kinds:
            problems.add(
                f"unknown kind of operation {kind!r} in load.mix",
                ("load", "mix", kind),
                key=True,
                hint=suggestion(kind, kinds),
            )
    if not any(load.mix.values()):
        problems.add("load.mix: all weights are 0, so there is nothing to do", ("load", "mix"))
    if load.subscribers > spec.max_subscribers:
        problems.add(
            f"load.subscribers: {load.subscribers} is more than the target has",
            ("load", "subscribers"),
            hint=f"at most {spec.max_subscribers}",
        )


def check_fault(
    fault: WrittenFault, path: KeyPath, vocabulary: Vocabulary, problems: Problems
) -> FaultSpec | None:
    """One line of ``faults``; None when there is no such fault."""
    kind = vocabulary.faults.get(fault.fault)
    if kind is None:
        problems.add(
            f"unknown fault {fault.fault!r}",
            (*path, "fault"),
            hint=suggestion(fault.fault, vocabulary.faults),
        )
        return None
    if _check_params(fault.own, kind, path, vocabulary.target, problems):
        _check_duration(fault, kind, path, problems)
        _check_moment(fault, kind, path, vocabulary.target, problems)
        check_repetition(fault, kind, path, problems)
    return FaultSpec(
        fault=fault.fault,
        at_s=fault.at,
        for_s=fault.for_,
        when=fault.when,
        within_s=fault.within if fault.within is not None else DEFAULT_WITHIN_S,
        every_s=fault.every,
        repeat=fault.repeat or 1,
        jitter_s=fault.jitter or 0.0,
        params=fault.own,
    )


def _check_params(
    own: Mapping[str, Any], kind: type[FaultKind], path: KeyPath, spec: TargetSpec, problems: Problems
) -> bool:
    """The fault's own keys. False when they do not parse: a common key may be misspelt among them."""
    try:
        params = kind.Params.model_validate(own, context=WRITTEN)
    except ValidationError as error:
        problems.take_invalid(error, path, kind.Params, COMMON_KEYS)
        return False
    try:
        kind.touches(params, spec)
    except ValueError as error:
        problems.add(f"{kind.name}: {error}", place_named(str(error), own, path))
    return True


def place_named(sentence: str, own: Mapping[str, Any], path: KeyPath) -> KeyPath:
    """Where a sentence about a fault's keys points: at a quoted value, else at a key it names."""
    leaves = [*_leaves(own, path)]
    for leaf, value in leaves:
        if re.search(rf"['\"]{re.escape(value)}['\"]", sentence):
            return leaf
    for leaf, value in leaves:
        if re.search(rf"(?<![\w-]){re.escape(value)}(?![\w-])", sentence):
            return leaf
    for key in own:
        if re.search(rf"\b{re.escape(key)}\b", sentence):
            return (*path, key)
    return (*path, "fault")


def _leaves(value: Any, path: KeyPath) -> Sequence[tuple[KeyPath, str]]:
    if isinstance(value, Mapping):
        return [leaf for key, inner in value.items() for leaf in _leaves(inner, (*path, key))]
    if isinstance(value, list):
        return [leaf for index, inner in enumerate(value) for leaf in _leaves(inner, (*path, index))]
    return [(path, value)] if isinstance(value, str) else []


def _check_duration(fault: WrittenFault, kind: type[FaultKind], path: KeyPath, problems: Problems) -> None:
    if kind.duration == "required" and fault.for_ is None:
        problems.add(f"{fault.fault}: the key 'for' is missing", path, hint="how long it lasts: for: 10s")
    if fault.for_ is None:
        return
    if kind.duration == "none":
        problems.add(
            f"{fault.fault} ends by itself, so it takes no 'for'", (*path, "for"), key=True, hint="drop it"
        )
    elif fault.for_ + TOLERANCE_S < (shortest_s := kind.shortest_s(kind.Params.model_validate(fault.own))):
        problems.add(
            f"for: {show_duration(fault.for_)} is too short for this {fault.fault}: its effect could not be "
            "seen, and a fault without proof does not count",
            (*path, "for"),
            hint=f"for: {show_duration(shortest_s)} or more",
        )


def _check_moment(
    fault: WrittenFault, kind: type[FaultKind], path: KeyPath, spec: TargetSpec, problems: Problems
) -> None:
    if fault.when is None:
        if fault.within is not None:
            problems.add(
                "'within' says how long to wait for 'when', but there is no 'when'",
                (*path, "within"),
                key=True,
            )
        return
    if fault.when not in spec.moments:
        problems.add(
            f"unknown moment {fault.when!r}", (*path, "when"), hint=suggestion(fault.when, spec.moments)
        )
    if fault.repeat is not None or fault.every is not None or fault.jitter is not None:
        problems.add(
            "a fault that is aimed with 'when' comes once, at that moment: no every, repeat, jitter",
            (*path, "when"),
            key=True,
        )
    if changes_rate(kind, fault.own):
        problems.add(
            f"{fault.fault} changes the load, which is planned beforehand, so it cannot be aimed with 'when'",
            (*path, "when"),
            key=True,
        )


def changes_rate(kind: type[FaultKind], own: Mapping[str, Any]) -> bool:
    """Whether it is a load fault; False for parameters that are wrong anyway."""
    try:
        return kind.rate_factor(kind.Params.model_validate(own)) != 1.0
    except ValidationError:
        return False


def check_surges(
    base_per_s: float,
    faults: Sequence[tuple[KeyPath, FaultSpec]],
    kinds: Mapping[str, type[FaultKind]],
    problems: Problems,
) -> None:
    """The rate at its highest, if all surges fell together, stays within the limit."""
    rate = base_per_s
    for path, fault in faults:
        kind = kinds[fault.fault]
        if not changes_rate(kind, fault.params):
            continue
        rate *= kind.rate_factor(kind.Params.model_validate(fault.params))
        if rate > MAX_RATE_PER_S:
            problems.add(
                f"{fault.fault}: the rate would come to {rate:g}/s",
                path,
                hint=f"at most {MAX_RATE_PER_S:g}/s",
            )


def check_job(job: WrittenJob, path: KeyPath, spec: TargetSpec, problems: Problems) -> None:
    if job.run not in spec.jobs:
        problems.add(f"unknown job {job.run!r}", (*path, "run"), hint=suggestion(job.run, spec.jobs))


def check_expectations(
    texts: Sequence[tuple[KeyPath, str]],
    spec: TargetSpec,
    mix: Mapping[str, float],
    has_faults: bool,
    problems: Problems,
) -> tuple[Expectation, ...]:
    """Parse the lines of ``expect``; those that cannot be are problems, at their very column.

    ``mix`` is empty, or all 0, where it is wrong in itself.
    """
    found: list[Expectation] = []
    for path, text in texts:
        try:
            expectation = parse_expectation(text, spec, has_faults=has_faults)
            _check_subject(expectation, spec, mix)
            found.append(expectation)
        except ExpectError as error:
            mark = problems.mark_in(path, error.offset)
            problems.take(ExperimentError(f"{error.message}, in {text!r}", mark, hint=error.hint))
    return tuple(found)


def _check_subject(expectation: Expectation, spec: TargetSpec, mix: Mapping[str, float]) -> None:
    """A function that the load never calls has no figures. Raises ExpectError."""
    if not isinstance(expectation, Objective) or not any(mix.values()):
        return
    kinds = spec.functions.get(expectation.subject, ())
    if kinds and not any(mix.get(kind) for kind in kinds):
        raise ExpectError(
            f"the load does nothing of {expectation.subject!r}",
            0,
            f"give one of these a weight in load.mix: {', '.join(kinds)}",
        )
