"""Removing every container, network and volume of a run, whatever state they are in.

Run by the supervisor when the run is over (see ``Supervisor.bequeath``), and by ``ledgerquake cleanup``.
An engine may still be at work on a request of a harness that was killed in the middle of it, so after
such a death one look that finds nothing is not enough.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

from docker.errors import APIError

from harness.errors import EnvironmentBroken
from harness.target.docker.endpoint import Docker, asking, connect
from harness.target.docker.labels import RUN

SWEEP_S = 30.0
QUIET_S = 2.0  # after a death: so long nothing new must appear
ENGINE_BACK_S = {"ended": 5.0, "died": 120.0}  # nobody waits for the sweep of a dead harness
PATIENCE_S = {how: patience_s + SWEEP_S + 5.0 for how, patience_s in ENGINE_BACK_S.items()}
AT_ONCE = 16  # an engine mostly waits for the kernel meanwhile

# States, not errors: gone already, being removed, or held by what this very sweep removes.
_PASSING = (403, 404, 409, 500)


@dataclass(frozen=True)
class Thing:
    """Something that carries the run's label. ``networks``: names of those that a container is in."""

    kind: str
    id: str
    name: str
    networks: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def sweep(docker: Docker, run_id: str, *, quiet_s: float = 0.0, within_s: float = SWEEP_S) -> list[Thing]:
    """Remove all of a run; what is left after ``within_s`` is returned.

    Returns once nothing has been found for ``quiet_s`` seconds. Raises EnvironmentBroken when the engine
    refuses for another reason than the state of a thing, or is gone.
    """
    deadline = time.monotonic() + within_s
    clean_since: float | None = None
    while True:
        found = list(things_of(docker, run_id))
        now = time.monotonic()
        if found:
            clean_since = None
            if now > deadline:
                return found
            _remove(docker, found)
            continue
        clean_since = clean_since if clean_since is not None else now
        if now - clean_since >= quiet_s:
            return []
        time.sleep(0.1)


def things_of(docker: Docker, run_id: str) -> Iterator[Thing]:
    """What carries that run's label now, in the order in which it can be removed.

    The label itself counts, not the engine's word that it filtered.
    """
    return (thing for thing in things(docker, f"{RUN}={run_id}") if thing.labels.get(RUN) == run_id)


def things(docker: Docker, label: str = RUN) -> Iterator[Thing]:
    """All that some run made and that is still there: containers, networks, volumes.

    Raises EnvironmentBroken.
    """
    api, filters = docker.api, {"label": label}
    with asking("list what runs have made"):
        containers = api.containers(all=True, filters=filters)
        networks = api.networks(filters=filters)
        volumes = api.volumes(filters=filters)["Volumes"] or ()
    for one in containers:
        name = one["Names"][0].lstrip("/") if one["Names"] else one["Id"]
        joined = frozenset((one.get("NetworkSettings") or {}).get("Networks") or ())
        yield Thing("container", one["Id"], name, joined, one["Labels"] or {})
    for one in networks:
        yield Thing("network", one["Id"], one["Name"], labels=one["Labels"] or {})
    for one in volumes:
        yield Thing("volume", one["Name"], one["Name"], labels=one["Labels"] or {})


def _remove(docker: Docker, found: list[Thing]) -> None:
    """One pass: each network as soon as the last container in it is gone, volumes after all of them."""
    containers = [thing for thing in found if thing.kind == "container"]
    networks = [thing for thing in found if thing.kind == "network"]
    waiting = {net: {one.id for one in containers if net.name in one.networks} for net in networks}
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="sweep") as pool:

        def remove_free() -> None:
            for thing in [thing for thing, holders in waiting.items() if not holders]:
                del waiting[thing]
                others.append(pool.submit(remove, docker, thing))

        others: list[Future[None]] = []
        remove_free()
        doing = {pool.submit(remove, docker, container): container for container in containers}
        for done in as_completed(doing):
            done.result()
            for holders in waiting.values():
                holders.discard(doing[done].id)
            remove_free()
        others += [pool.submit(remove, docker, thing) for thing in found if thing.kind == "volume"]
        for other in others:
            other.result()


def remove(docker: Docker, thing: Thing) -> None:
    """Gone already, or not yet removable, is a state: the next look tells. Raises EnvironmentBroken."""
    api = docker.api
    ways: dict[str, Callable[[], object]] = {
        "container": lambda: api.remove_container(thing.id, force=True, v=True),
        "network": lambda: api.remove_network(thing.id),
        "volume": lambda: api.remove_volume(thing.id, force=True),
    }
    with asking(f"remove {thing}"):
        try:
            ways[thing.kind]()
        except APIError as refusal:
            if refusal.status_code not in _PASSING:
                raise
            time.sleep(0.05)


def main() -> None:
    """``run id, engine's URL, ended|died``: see ``harness.target.reaper`` for what is printed."""
    run_id, url, how = sys.argv[1:4]
    left: list[str]
    try:
        found = _sweep_when_it_is_back(url, run_id, ENGINE_BACK_S[how], QUIET_S if how == "died" else 0.0)
        left = [str(thing) for thing in found]
    except EnvironmentBroken as problem:
        left = [f"containers, networks or volumes of run {run_id} ({problem.message})"]
    print(json.dumps(left))


def _sweep_when_it_is_back(url: str, run_id: str, patience_s: float, quiet_s: float) -> list[Thing]:
    """An engine that is away may come back, and go again meanwhile."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return sweep(connect(url), run_id, quiet_s=quiet_s)
        except EnvironmentBroken:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


if __name__ == "__main__":
    main()
