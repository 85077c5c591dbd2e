"""Removing what a dead run left: its processes, its scratch folder, its containers.

Normally the run's own supervisor has done that already. This is for the cases in which it could not:
both were killed at once, or the folder could not be removed then. A process belongs to a run when its
environment says so; before it is killed its start time is compared, so that a reused id is left alone.
A container, network or volume belongs to the run that its label names, with the owner who may be dead.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from harness.errors import EnvironmentBroken
from harness.target import proctree
from harness.target.scratch import RUN_VARIABLE, base_folder, check_private, read_owner, remove_scratch

SUPERVISOR_PATIENCE_S = 25.0
KILL_PATIENCE_S = 10.0
UNOWNED_AGE_S = 10.0  # a folder without an owner may be just coming into being


def cleanup(docker_host: str | None = None, tell: Callable[[str], object] = lambda note: None) -> list[str]:
    """Remove what is left of dead runs of this user; one line per thing removed.

    ``tell`` is given what could not be looked at: an engine that is there and does not answer.
    Living runs are not touched. Raises EnvironmentBroken naming all that could not be removed, after
    everything else has been.
    """
    done: list[str] = []
    failed: list[str] = []
    dead = _dead_folders(failed)
    _clean_engine(docker_host, done, failed, tell)  # first: frozen in a container, none hears SIGKILL
    for folder in dead:
        _clean_run(folder, done, failed)
    if failed:
        raise EnvironmentBroken("could not remove: " + "; ".join(failed), hint=_removed(done))
    return done


def _dead_folders(failed: list[str]) -> list[Path]:
    """The scratch folders of runs that are over, each after its supervisor has had time to finish."""
    base = base_folder()
    if not base.exists():
        return []
    check_private(base)
    dead: list[Path] = []
    for folder in sorted(path for path in base.iterdir() if path.is_dir()):
        try:
            if _is_dead(folder):
                dead.append(folder)
        except EnvironmentBroken as problem:
            failed.append(problem.message)
    return dead


def _clean_engine(
    docker_host: str | None, done: list[str], failed: list[str], tell: Callable[[str], object]
) -> None:
    """What dead runs left on the Docker engine of this machine, where there is one."""
    from harness.target.docker.endpoint import connect, is_there
    from harness.target.docker.labels import RUN, Claim
    from harness.target.docker.sweep import sweep, things, things_of

    try:
        docker = connect(docker_host)
    except EnvironmentBroken as problem:
        if is_there(docker_host):
            tell(f"containers were not looked for: {problem.message}")
        return
    try:
        claims = {thing.labels.get(RUN, ""): Claim.read(thing.labels) for thing in things(docker)}
        dead = [run_id for run_id, claim in claims.items() if claim is not None and claim.is_dead()]
        for run_id in sorted(dead):
            before = [str(thing) for thing in things_of(docker, run_id)]
            left = [str(thing) for thing in sweep(docker, run_id)]
            done += [f"{thing} of run {run_id}" for thing in before if thing not in left]
            failed += [f"{thing} of run {run_id}" for thing in left]
    except EnvironmentBroken as problem:
        failed.append(problem.message)


def _removed(done: list[str]) -> str | None:
    return f"removed: {'; '.join(done)}" if done else None


def _is_dead(folder: Path) -> bool:
    """Whether the run of that folder has ended. Gives a supervisor at work time to finish."""
    owner = read_owner(folder)
    if owner is None:
        return time.time() - folder.stat().st_mtime > UNOWNED_AGE_S
    if owner.harness_lives():
        return False
    deadline = time.monotonic() + SUPERVISOR_PATIENCE_S
    while owner.supervisor_lives() and folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return folder.exists()


def _clean_run(folder: Path, done: list[str], failed: list[str]) -> None:
    run_id = folder.name
    killed, left = _kill_run(run_id)
    done += [f"process {pid} of run {run_id}" for pid in killed]
    if left:
        failed.append(f"processes {left} of run {run_id} outlive SIGKILL")
        return
    try:
        remove_scratch(folder)
        done.append(f"folder {folder}")
    except OSError as problem:
        failed.append(f"folder {folder}: {problem}")


def _kill_run(run_id: str) -> tuple[list[int], list[int]]:
    """Kill every process of that run and its descendants: (killed, still alive)."""
    killed: dict[int, None] = {}
    deadline = time.monotonic() + KILL_PATIENCE_S
    while members := _members(run_id):
        if time.monotonic() > deadline:
            return list(killed), [process.pid for process in members]
        for process in members:
            if proctree.send(process, signal.SIGKILL):
                killed[process.pid] = None
        time.sleep(0.02)
    return list(killed), []


def _members(run_id: str) -> list[proctree.Process]:
    """Processes whose environment names the run, with what is below them (it may have cleared its own)."""
    marked = [
        process
        for process in proctree.everything()
        if process.state not in "ZX" and process.pid != os.getpid() and _run_of(process.pid) == run_id
    ]
    below = [child for process in marked for child in proctree.descendants(process.pid)]
    return list({process.pid: process for process in [*marked, *below]}.values())


def _run_of(pid: int) -> str | None:
    prefix = f"{RUN_VARIABLE}=".encode()
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None  # gone, or another user's: not ours in either case
    for entry in environment.split(b"\0"):
        if entry.startswith(prefix):
            return entry[len(prefix) :].decode(errors="replace")
    return None
