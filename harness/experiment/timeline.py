"""Times that fit: repetitions, faults against each other, faults and jobs against the end.

A fault is *over* when it is healed for sure. Some kinds may take longer than their ``for``, by their own
keys or by the patience they have (``FaultKind.longest_s``); ``HEALING_S`` of that is a generous allowance
for the healing itself, for which ``GAP_S`` is enough between two faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from harness.experiment.model import FaultSpec
from harness.experiment.problems import Problems
from harness.experiment.target import TargetSpec
from harness.experiment.units import show_duration
from harness.experiment.vocabulary import HEALING_S, FaultKind, Lives, Vocabulary
from harness.experiment.written import WrittenFault, WrittenJob
from harness.experiment.yaml_reader import KeyPath

MAX_TIMELINE_S = 4 * 3600.0
TOLERANCE_S = 1e-6  # sums of what people wrote are floats
GAP_S = 2.0  # after a fault is over, before the next one on the same thing: it must be undone


def check_repetition(fault: WrittenFault, kind: type[FaultKind], path: KeyPath, problems: Problems) -> None:
    """One turn is healed before the next one comes."""
    repeat = fault.repeat or 1
    if repeat > 1 and fault.every is None:
        problems.add("'repeat' needs 'every': how far apart", (*path, "repeat"), key=True, hint="every: 10s")
    if fault.every is None:
        return
    if repeat == 1:
        problems.add(
            "'every' needs 'repeat': how many times in all", (*path, "every"), key=True, hint="repeat: 3"
        )
        return
    longest = (fault.for_ or 0.0) + (fault.jitter or 0.0)
    gap_s = GAP_S + _beyond_s(kind, fault.own, fault.for_)
    if longest + gap_s > fault.every + TOLERANCE_S:
        problems.add(
            f"every: the repetitions overlap: one comes each {show_duration(fault.every)}, may last until "
            f"{show_duration(longest)} after its turn (for + jitter), and is healed in the "
            f"{show_duration(gap_s)} after that",
            (*path, "every"),
            hint=f"every: {show_duration(longest + gap_s)} or more",
        )


def check_timeline(
    faults: Sequence[tuple[KeyPath, FaultSpec]],
    jobs: Sequence[tuple[KeyPath, WrittenJob]],
    recovered_s: float,
    vocabulary: Vocabulary,
    problems: Problems,
) -> None:
    """Times of faults and jobs against each other and against the end."""
    known = [_Timed.of(path, fault, vocabulary) for path, fault in faults]
    for one in known:
        if one.over_s > MAX_TIMELINE_S:
            problems.add(
                f"{one.fault.fault} would end {show_duration(one.over_s)} after steady, past the end",
                (*one.path, "at"),
                hint=f"a timeline is at most {show_duration(MAX_TIMELINE_S)} long",
            )
    for index, one in enumerate(known):
        for earlier in known[:index]:
            _check_pair(earlier, one, problems)
    last_s = max((end_of(fault) for _, fault in faults), default=0.0)
    for path, job in jobs:
        if job.at > last_s + recovered_s:
            problems.add(
                f"the job {job.run!r} would start after the end: load may be over "
                f"{show_duration(last_s + recovered_s)} after steady (last fault + recovered)",
                (*path, "at"),
                hint="start it earlier, or give a longer 'recovered'",
            )


def end_of(fault: FaultSpec, beyond_s: float = 0.0) -> float:
    """Seconds from the end of steady until the last repetition is to be healed.

    With the time that it may take ``beyond_s`` that: until it is healed at the latest. Without, load may
    be over ``recovered`` after it.
    """
    last = fault.at_s + (fault.repeat - 1) * (fault.every_s or 0.0) + fault.jitter_s
    waiting = fault.within_s if fault.when else 0.0
    return last + waiting + (fault.for_s or 0.0) + beyond_s


def _beyond_s(kind: type[FaultKind], own: Mapping[str, object], for_s: float | None) -> float:
    """What it may take beyond its ``for`` and an ordinary healing; 0 for parameters that are wrong anyway."""
    try:
        params = kind.Params.model_validate(own)
    except ValidationError:
        return 0.0
    return max(0.0, kind.longest_s(params, for_s) - HEALING_S)


@dataclass(frozen=True)
class _Timed:
    """A fault with what its kind says of its time, its links and the services that it hits."""

    path: KeyPath
    fault: FaultSpec
    beyond_s: float
    links: tuple[str, ...]  # that it may be on, whoever holds a role
    cuts: bool
    services: tuple[str, ...]  # that it may be on, whoever holds a role
    limits: bool
    lives: Lives | None
    sets: str | None  # what there is one of

    @classmethod
    def of(cls, path: KeyPath, fault: FaultSpec, vocabulary: Vocabulary) -> _Timed:
        kind, spec = vocabulary.faults[fault.fault], vocabulary.target
        touched = _touched(kind, fault, spec)
        params = kind.Params.model_validate(fault.params) if touched else None
        return cls(
            path=path,
            fault=fault,
            beyond_s=_beyond_s(kind, fault.params, fault.for_s),
            links=tuple(name for name in touched if name in spec.links) if kind.on_links else (),
            cuts=kind.on_links == "cut",
            services=_services(touched, spec),
            limits=params is not None and "limit" in kind.needs(params),
            lives=kind.lives(params) if params is not None else None,
            sets=kind.sets,
        )

    @property
    def free_s(self) -> float:
        """From when on another one may be on the same thing."""
        return self.over_s + self.after_s

    @property
    def after_s(self) -> float:
        """What must be free after it, so that the next one notes how things are without it."""
        return GAP_S if self.cuts or self.limits or self.lives or self.sets else 0.0

    @property
    def over_s(self) -> float:
        return end_of(self.fault, self.beyond_s)

    @property
    def gap_s(self) -> float:
        """From the end of its ``for``, or its start, until the next one on the same thing may come."""
        return GAP_S + self.beyond_s

    def turns(self) -> Iterator[tuple[float, float]]:
        """The spans within which each turn begins and is healed, whatever chance and the moment decide."""
        first = self.fault.model_copy(update={"repeat": 1})
        length_s = end_of(first, self.beyond_s) - first.at_s
        for turn in range(self.fault.repeat):
            start_s = first.at_s + turn * (self.fault.every_s or 0.0)
            yield start_s, start_s + length_s


def _touched(kind: type[FaultKind], fault: FaultSpec, spec: TargetSpec) -> tuple[str, ...]:
    """What it touches; nothing where its names, parameters or time are wrong: that is told elsewhere."""
    if fault.for_s is None and kind.duration == "required":
        return ()
    try:
        return tuple(kind.touches(kind.Params.model_validate(fault.params), spec))
    except ValueError:  # pydantic's own is one
        return ()


def _services(touched: Sequence[str], spec: TargetSpec) -> tuple[str, ...]:
    """The services among it; for a role, whoever may hold it."""
    held = (spec.roles[name].members if name in spec.roles else (name,) for name in touched)
    return tuple(dict.fromkeys(name for names in held for name in names if name in spec.services))


def _check_pair(earlier: _Timed, one: _Timed, problems: Problems) -> None:
    """``earlier`` is so in the file."""
    name, other = one.fault.fault, earlier.fault.fault
    if _same_at_once(earlier, one):
        gap = show_duration(_first(earlier, one).gap_s)
        problems.add(
            f"this {name} overlaps an equal one on the same thing, "
            f"or comes less than {gap} before or after it",
            (*one.path, "at"),
            hint=f"one of them says it all; else {gap} or more between them",
        )
    elif (clash := _clash(earlier, one)) and _meet(earlier, one):
        where = ".".join(map(str, earlier.path))
        problems.add(
            f"this {name} overlaps the {other} of {where} on {', '.join(clash.shared)}, or comes less than "
            f"{show_duration(GAP_S)} after {clash.after}: {clash.why_not}",
            (*one.path, "at"),
            hint=f"after the {other}, at: {show_duration(earlier.free_s)} or more; or {clash.instead}",
        )


@dataclass(frozen=True)
class _Clash:
    """Why two faults cannot be on the same things at once."""

    shared: Sequence[str]
    after: str  # what ends a while before the other one may begin
    why_not: str
    instead: str


def _clash(a: _Timed, b: _Timed) -> _Clash | None:
    if links := _shared_links(a, b):
        cutting = " and ".join(dict.fromkeys(each.fault.fault for each in (a, b) if each.cuts))
        return _Clash(
            links, "a cut", f"under a {cutting} nothing else can be proved on a link", "other links"
        )
    services = [name for name in b.services if name in a.services]
    if services and a.limits and b.limits:
        why_not = "the limits of a service are set, and lifted, all at once"
        return _Clash(services, "it", why_not, "another service")
    if services and a.sets and a.sets == b.sets:
        return _Clash(services, "it", f"both set {a.sets}, and there is only one", "one of them alone")
    if services and (pair := _needs_and_stops(a, b)):
        needs, stops = pair
        why_not = (
            f"the {needs.fault.fault} is proved only of a service that runs on, the same process, "
            f"until it is healed, and the {stops.fault.fault} stops it"
        )
        return _Clash(services, "it", why_not, "another service")
    return None


def _needs_and_stops(a: _Timed, b: _Timed) -> tuple[_Timed, _Timed] | None:
    """Which of the two needs a life that the other one ends."""
    for needs, stops in ((a, b), (b, a)):
        if needs.lives in ("needed", "replaced") and stops.lives in ("stopped", "replaced"):
            return needs, stops
    return None


def _first(a: _Timed, b: _Timed) -> _Timed:
    return a if a.fault.at_s <= b.fault.at_s else b


def _same_at_once(a: _Timed, b: _Timed) -> bool:
    if (a.fault.fault, a.fault.params, a.fault.when) != (b.fault.fault, b.fault.params, b.fault.when):
        return False
    gap_s = GAP_S - TOLERANCE_S
    return a.fault.at_s < b.over_s + gap_s and b.fault.at_s < a.over_s + gap_s


def _shared_links(a: _Timed, b: _Timed) -> list[str]:
    """Links on which one of them would find, or leave, the other one cut."""
    return [link for link in b.links if link in a.links] if a.cuts or b.cuts else []


def _meet(a: _Timed, b: _Timed) -> bool:
    """Whether a turn of one may begin before one of the other is over; some need a gap after it."""
    turns_a, turns_b = a.turns(), b.turns()
    now_a, now_b = next(turns_a, None), next(turns_b, None)
    while now_a is not None and now_b is not None:
        if now_a[1] + a.after_s <= now_b[0] + TOLERANCE_S:
            now_a = next(turns_a, None)
        elif now_b[1] + b.after_s <= now_a[0] + TOLERANCE_S:
            now_b = next(turns_b, None)
        else:
            return True
    return False
