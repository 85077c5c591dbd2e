"""What must fit together in a target: names that exist, ports that are exposed, files that are there."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from harness.experiment.names import suggestion
from harness.experiment.problems import Problems
from harness.experiment.target import Link, Service, TargetSpec
from harness.experiment.yaml_reader import KeyPath
from harness.target.compose import WrittenFile
from harness.target.docker.layout import LINK_ENGINE, LINK_ENGINE_PORT
from harness.target.rewrite import link_between, wrong_addresses

_X = "x-ledgerquake"
# A service's name is its host name in Docker, and part of the names of its image and its networks. All
# runtimes take the same files, so it holds for each of them.
_HOST_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")


def cross_check(spec: TargetSpec, file: WrittenFile, problems: Problems) -> None:
    """Add everything that does not fit to ``problems``."""
    check = _Checker(spec, problems)
    for service in spec.services.values():
        check.service(service, file.volumes)
    check.circles()
    check.links()
    check.extension()
    check.files(load="locustfile" in file.extension.model_fields_set)


class _Checker:
    def __init__(self, spec: TargetSpec, problems: Problems) -> None:
        self._spec = spec
        self._problems = problems

    def _known(self, what: str, name: str, known: Collection[str], at: KeyPath, key: bool = False) -> bool:
        if name in known:
            return True
        self._problems.add(f"no {what} {name!r}", at, key=key, hint=suggestion(name, known))
        return False

    def _endpoint(self, service: str, port: int, at: KeyPath, port_at: KeyPath) -> None:
        """The service exists and exposes the port."""
        if not self._known("service", service, self._spec.services, at):
            return
        ports = self._spec.services[service].ports
        if port not in ports:
            exposed = ", ".join(map(str, ports)) or "none"
            self._problems.add(f"{service} does not expose port {port}", port_at, hint=f"exposed: {exposed}")

    def service(self, service: Service, volumes: Mapping[str, object]) -> None:
        at: KeyPath = ("services", service.name)
        self._host_name(service.name, at)
        for index, needed in enumerate(service.depends_on):
            self._known("service", needed, self._spec.services, (*at, "depends_on", index))
        for volume in service.volumes:
            self._known("volume", volume, volumes, (*at, "volumes"))
        if service.ready is not None:
            ready: KeyPath = (*at, _X, "ready")
            self._endpoint(service.name, service.ready.port, ready, (*ready, "port"))
        for port, peer in service.advertise.items():
            place: KeyPath = (*at, _X, "advertise", str(port))
            if (
                self._known("service", peer, self._spec.services, place)
                and link_between(self._spec, peer, service.name, port) is None
            ):
                self._problems.add(
                    f"{peer} has no link to {service.name} on port {port}",
                    place,
                    hint=f"declare {peer}->{service.name} with port {port} under {_X}.links",
                )
        self._environment(service, at)

    def _environment(self, service: Service, at: KeyPath) -> None:
        """Every address in it must be a declared link."""
        for key, problem in wrong_addresses(self._spec, service):
            self._problems.add(problem.message, (*at, "environment", key), hint=problem.hint)

    def _host_name(self, name: str, at: KeyPath) -> None:
        if name == LINK_ENGINE:
            self._problems.add(f"{name!r} is the link engine's own name", at, key=True, hint="choose another")
        elif _HOST_NAME.fullmatch(name) is None:
            self._problems.add(
                f"{name!r} can be no host name",
                at,
                key=True,
                hint="small letters, digits, - and _ between them, at most 63",
            )

    def circles(self) -> None:
        """Services that wait for one another would never start."""
        waiting = dict(self._spec.services)
        while ready := [name for name, one in waiting.items() if not set(one.depends_on) & set(waiting)]:
            for name in ready:
                del waiting[name]
        for name in waiting:
            circle = ", ".join(sorted(waiting))
            self._problems.add(f"waits in a circle: {circle}", ("services", name, "depends_on"))

    def links(self) -> None:
        seen: dict[tuple[str, str, int], str] = {}
        for link in self._spec.links.values():
            at: KeyPath = (_X, "links", link.name)
            if link.name in self._spec.ways_in:
                self._way_in(link, at)
            elif link.client == self._begins():
                self._problems.add(
                    f"load enters from {link.client!r}, and neither entry nor entries names this link",
                    at,
                    key=True,
                    hint=f"entries: {{{link.server}: {link.name}}}",
                )
            else:
                self._known("service", link.client, self._spec.services, at, key=True)
            if self._known("service", link.server, self._spec.services, at, key=True):
                self._endpoint(link.server, link.port, at, (*at, "port"))
            first = seen.setdefault((link.client, link.server, link.port), link.name)
            if first != link.name:
                self._problems.add(f"the same edge as {first}", at, key=True)

    def _begins(self) -> str | None:
        """What load enters from; None where that is no name of its own."""
        entry = self._spec.links.get(self._spec.entry)
        return None if entry is None or entry.client in self._spec.services else entry.client

    def _way_in(self, link: Link, at: KeyPath) -> None:
        """Where load enters stands nobody but the harness and the link engine; it is one place."""
        begins = self._begins()
        if begins is not None and link.client != begins:
            self._problems.add(
                f"load enters from {begins!r}", at, key=True, hint=f"{begins}->{link.server} is expected"
            )
            return
        if link.client in self._spec.services:
            self._problems.add(
                f"load enters here, and {link.client!r} is a service", at, key=True, hint="for example client"
            )
        else:
            self._host_name(link.client, at)
        if link.port == LINK_ENGINE_PORT:
            self._problems.add(
                f"port {LINK_ENGINE_PORT} of the entry is the link engine's own",
                (*at, "port"),
                hint="let that service listen elsewhere",
            )

    def extension(self) -> None:
        spec = self._spec
        self._known("link", spec.entry, spec.links, (_X, "entry"))
        for name, link in spec.entries.items():
            self._known("link", link, spec.links, (_X, "entries", name))
        for name, role in spec.roles.items():
            for index, member in enumerate(role.members):
                at: KeyPath = (_X, "roles", name)
                self._endpoint(member, role.endpoint.port, (*at, "members", index), (*at, "port"))
        for index, role_name in enumerate(spec.ready_when):
            self._known("role", role_name, spec.roles, (_X, "ready_when", index))
        for name, job in spec.jobs.items():
            at = (_X, "jobs", name)
            self._endpoint(job.service, job.endpoint.port, (*at, "service"), (*at, "port"))
        for part, asked in (("probes", spec.probes), ("pending", spec.pending)):
            for one in asked:
                at = (_X, part, one.name)
                self._endpoint(one.service, one.endpoint.port, (*at, "service"), (*at, "port"))
        for log in spec.witness_logs:
            at = (_X, "evidence", "witnesses", log.service)
            self._endpoint(log.service, log.endpoint.port, at, (*at, "port"))
        self._operations()
        self._single_parts()

    def _operations(self) -> None:
        """An operation kind belongs to one function."""
        seen: dict[str, str] = {}
        for function, kinds in self._spec.functions.items():
            for index, kind in enumerate(kinds):
                if seen.setdefault(kind, function) != function:
                    place: KeyPath = (_X, "functions", function, index)
                    self._problems.add(f"{kind!r} belongs to {seen[kind]} already", place)

    def _single_parts(self) -> None:
        spec = self._spec
        if spec.switchover is not None:
            for key in ("role", "candidate_role"):
                self._known("role", getattr(spec.switchover, key), spec.roles, (_X, "switchover", key))
        if spec.mode is not None:
            at: KeyPath = (_X, "mode")
            self._endpoint(spec.mode.service, spec.mode.port, (*at, "service"), (*at, "port"))
        if spec.sql is not None:
            at = (_X, "evidence", "sql", "role")
            self._known("role or service", spec.sql.role, {*spec.roles, *spec.services}, at)
        elif spec.moments or spec.settled:
            part = "moments" if spec.moments else "settled"
            self._problems.add(f"{part} are asked in SQL, and evidence.sql is missing", (_X, part), key=True)

    def files(self, load: bool) -> None:
        """Files that the target names, all within its folder. Without load it can still be deployed."""
        folder = Path(self._spec.folder)
        named: list[tuple[str, KeyPath]] = [(self._spec.locustfile, (_X, "locustfile"))] if load else []
        named += [(one.file, (_X, "measures", name)) for name, one in self._spec.measures.items()]
        named += [(part, (_X, "python_path", index)) for index, part in enumerate(self._spec.python_path)]
        for name, at in named:
            path = (folder / name).resolve()
            if not path.is_relative_to(folder):
                self._problems.add(f"{name!r} lies outside the target folder", at)
            elif not path.exists():
                self._problems.add(f"there is no {name!r} in {folder.name}/", at)
