"""The process runtime: a target's services as plain processes on 127.0.0.1, no Docker.

Each service is one supervised process tree (see ``harness.target.supervisor``) with a clean environment
in which every declared link is the address of its proxy. Ports and volumes stay the same over restarts.
A service's PYTHONPATH is what the target says, and nothing of the harness.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from harness.errors import EnvironmentBroken
from harness.experiment.target import Service, TargetSpec
from harness.experiment.vocabulary import Ability, abilities_of
from harness.target.deployment import Deployment, process_of, read_versions, split
from harness.target.ports import PortBlock
from harness.target.rewrite import rewrite_environment
from harness.target.runtime import Address, LinkEnds, RuntimeName
from harness.target.scratch import SERVICE_VARIABLE
from harness.target.supervisor import SupervisedChild, Supervisor

HOST = "127.0.0.1"
VERSIONS_TIMEOUT_S = 20.0
SPARE_PORTS = 8


class ProcessRuntime(Deployment[SupervisedChild]):
    """A target deployed as processes. Satisfies ``harness.target.runtime.Runtime``."""

    name: RuntimeName = "process"
    abilities: frozenset[Ability] = abilities_of("process")

    def __init__(
        self, spec: TargetSpec, *, run_id: str, scratch: Path, supervisor: Supervisor, seed: int
    ) -> None:
        commands = {name: process_of(service) for name, service in spec.services.items()}
        super().__init__(spec, commands, scratch / "logs")
        self._run_id = run_id
        self._scratch = scratch
        self._supervisor = supervisor
        self._seed = seed
        self._folder = Path(spec.folder).resolve()
        self._ports: PortBlock | None = None
        self._volumes: dict[str, Path] = {}
        self._nowhere: Address | None = None  # where nobody listens

    # --- coming up ------------------------------------------------------------------------------
    def prepare(self) -> Mapping[str, LinkEnds]:
        """Reserve ports, make folders, work out every environment. Raises TargetError."""
        if self._ports is None:
            own = [(name, port) for name, service in self.spec.services.items() for port in service.ports]
            self._ports = PortBlock.reserve(len(own) + len(self.spec.links) + SPARE_PORTS, self._run_id)
            self._addresses = {key: Address(HOST, self._ports.take()) for key in own}
            for name, link in self.spec.links.items():
                listen, upstream = Address(HOST, self._ports.take()), self.address(link.server, link.port)
                self._links[name] = LinkEnds(name, listen, upstream)
            self._nowhere = Address(HOST, self._ports.take())
            self._volumes = self._make_folders()
            for managed in self._services.values():
                managed.environment = self._environment(managed.spec, None)
        return dict(self._links)

    def spare_port(self) -> int:
        """A port of this run's own for something else of the run, such as the Toxiproxy engine."""
        self.prepare()
        assert self._ports is not None
        return self._ports.take()

    def _make_folders(self) -> dict[str, Path]:
        names = {volume for service in self.spec.services.values() for volume in service.volumes}
        volumes = {name: self._scratch / "volumes" / name for name in sorted(names)}
        for folder in [*volumes.values(), self._scratch / "logs", self._scratch / "tmp"]:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return volumes

    def environment_of(self, service: Service) -> dict[str, str]:
        self.prepare()
        return self._environment(service, str(self._nowhere))

    def _environment(self, service: Service, nowhere: str | None) -> dict[str, str]:
        own = rewrite_environment(
            self.spec,
            service,
            own=lambda name, port: str(self.address(name, port)),
            proxy=lambda name: str(self.link(name).listen),
            volumes=self._volumes,
            nowhere=nowhere,
        )
        return {**self._base_environment(), SERVICE_VARIABLE: service.name, **own}

    def _base_environment(self) -> dict[str, str]:
        """Little, and nothing of the caller's but PATH: no proxies, no secrets, no settings of Python."""
        return {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "PYTHONPATH": os.pathsep.join(str(self._folder / part) for part in self.spec.python_path),
            "PYTHONUNBUFFERED": "1",
            "PYTHONHASHSEED": str(self._seed % 2**32),
            "HOME": str(self._scratch / "tmp"),
            "TMPDIR": str(self._scratch / "tmp"),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
        }

    # --- how things are -------------------------------------------------------------------------
    def connections(self, service: str) -> tuple[Address, ...]:
        life = self._one(service).running
        found: set[tuple[str, int]] = set()
        for process in life.child.tree() if life is not None else ():
            found.update(_remote_ends(process.pid))
        return tuple(Address(host, port) for host, port in sorted(found))

    def environment(self, service: str) -> Mapping[str, str]:
        pid = self._needs_running(service).child.pid
        try:
            return psutil.Process(pid).environ()
        except (psutil.Error, OSError) as problem:
            raise EnvironmentBroken(f"the environment of {service} cannot be read: {problem}") from problem

    def alive(self, pid: int) -> bool:
        return _status(pid) not in (None, psutil.STATUS_ZOMBIE)

    def stands_still(self, service: str) -> bool:
        life = self._one(service).running
        tree = life.child.tree() if life is not None else []
        return bool(tree) and all(_status(one.pid) in (psutil.STATUS_STOPPED, None) for one in tree)

    def versions(self) -> Mapping[str, str]:
        python = ".".join(str(part) for part in sys.version_info[:3])
        return {"python": python, **(self._ask_versions() if self.spec.versions else {})}

    def _ask_versions(self) -> dict[str, str]:
        assert self.spec.versions is not None
        log = self._scratch / "logs" / "versions.log"
        child = self._supervisor.spawn(
            "versions", _argv(self.spec.versions), env=self._base_environment(), cwd=self._folder, log=log
        )
        code = child.wait(VERSIONS_TIMEOUT_S)
        child.kill_tree()
        return read_versions(self.spec.versions, code, log.read_text(errors="replace"))

    # --- life and death -------------------------------------------------------------------------
    def start(self, service: str) -> None:
        """Start it; does not wait for readiness. Raises EnvironmentBroken when it runs already."""
        self.prepare()
        one = self._one(service)
        with one.lock:
            if one.running is not None:
                raise EnvironmentBroken(f"{service} runs already (process {one.running.child.pid})")
            one.keep_last_words()
            child = self._supervisor.spawn(
                service, _argv(one.process), env=one.environment, cwd=self._folder, log=one.log
            )
            one.begin(child)

    def teardown(self) -> None:
        """Kill every service, remove the volumes, give the ports back. Logs stay: they are evidence.

        They go with the scratch folder, when the supervisor is closed.
        """
        for name in self._services:
            self.kill(name)
        try:
            for folder in (self._scratch / "volumes", self._scratch / "tmp"):
                if folder.exists():
                    shutil.rmtree(folder)
        except OSError as problem:
            raise EnvironmentBroken(f"{problem.filename} cannot be removed: {problem.strerror}") from problem
        if self._ports is not None:
            self._ports.release()


def _argv(process: str) -> list[str]:
    """A command line as a list; ``python`` is the interpreter that runs the harness."""
    argv = split(process)
    return [sys.executable, *argv[1:]] if argv[0] in ("python", "python3") else argv


def _status(pid: int) -> str | None:
    try:
        return str(psutil.Process(pid).status())
    except psutil.NoSuchProcess:
        return None


def _remote_ends(pid: int) -> list[tuple[str, int]]:
    """Remote ends of a process's TCP connections; nothing when it has just gone."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []
    wanted = (psutil.CONN_ESTABLISHED, psutil.CONN_SYN_SENT)
    return [(one.raddr.ip, one.raddr.port) for one in connections if one.raddr and one.status in wanted]
