"""Reading a target folder: ``compose.yaml``, the heads of its invariants, its mutants.

Every error names file, line and column, what was found and the nearest right spelling; all that is
wrong in the file is told at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from harness.experiment import target as spec_of
from harness.experiment.names import suggestion
from harness.experiment.problems import Problems
from harness.experiment.target import Endpoint, Mutant, TargetSpec
from harness.experiment.units import WRITTEN
from harness.experiment.yaml_reader import Document, KeyPath, read_yaml, target_error
from harness.target import compose
from harness.target.builds import builds_of, image_of
from harness.target.compose import WrittenEndpoint, WrittenFile, WrittenService, WrittenTarget
from harness.target.cross_checks import cross_check
from harness.target.heads import read_figures, read_invariants

M = TypeVar("M", bound=BaseModel)
EXTENSION = "x-ledgerquake"


def load_target(folder: Path) -> TargetSpec:
    """Read ``compose.yaml`` and the invariants of a target folder. Raises TargetError."""
    folder = folder.resolve()
    document = read_yaml(folder / "compose.yaml", target_error)
    problems = Problems(document)
    file = _valid(WrittenFile, _named(document, folder), (), problems)
    problems.raise_any()
    assert file is not None
    spec = _Reader(file, folder, problems).read()
    problems.raise_any()
    cross_check(spec, file, problems)
    problems.raise_any()
    return spec


def _named(document: Document, folder: Path) -> Any:
    """As with Compose, a file without a ``name`` has that of its folder. (Compose 1 refuses the key.)"""
    data = document.data
    if not isinstance(data, Mapping) or "name" in data:
        return data
    if not re.fullmatch(compose.TARGET_NAME, folder.name):
        raise document.error(
            f"no name is written, and that of the folder, {folder.name!r}, can be none",
            (),
            hint="name: with small letters, digits and hyphens only, at most 60",
        )
    return {"name": folder.name, **data}


def load_mutants(spec: TargetSpec) -> dict[str, Mutant]:
    """The broken variants in ``mutants/*.yaml`` by name. Raises TargetError."""
    mutants: dict[str, Mutant] = {}
    for path in sorted((Path(spec.folder) / "mutants").glob("*.yaml")):
        document = read_yaml(path, target_error)
        problems = Problems(document)
        mutant = _valid(Mutant, document.data, (), problems)
        problems.raise_any()
        assert mutant is not None
        _check_mutant(mutant, path, spec, document)
        mutants[mutant.name] = mutant
    return mutants


def _check_mutant(mutant: Mutant, path: Path, spec: TargetSpec, document: Document) -> None:
    if mutant.name != path.stem:
        raise document.error(f"the name {mutant.name!r} is not that of the file, {path.stem!r}", ("name",))
    if mutant.service not in spec.services:
        hint = suggestion(mutant.service, spec.services)
        raise document.error(f"no service {mutant.service!r}", ("service",), hint=hint)
    if spec.services[mutant.service].witness:
        raise document.error(f"{mutant.service!r} is a witness: it stands outside", ("service",))
    if mutant.caught_by not in spec.invariants:
        hint = suggestion(mutant.caught_by, spec.invariants)
        raise document.error(f"no invariant {mutant.caught_by!r}", ("caught_by",), hint=hint)


def _valid(model: type[M], data: Any, at: KeyPath, problems: Problems) -> M | None:
    if not isinstance(data, Mapping):
        problems.add("a mapping (key: value) is expected here", at)
        return None
    try:
        return model.model_validate(data, context=WRITTEN)
    except ValidationError as error:
        problems.take_invalid(error, at, model)
        return None


class _Reader:
    """Turns the written form into the spec; what is wrong goes to ``problems``."""

    def __init__(self, file: WrittenFile, folder: Path, problems: Problems) -> None:
        self._file = file
        self._folder = folder
        self._problems = problems

    def read(self) -> TargetSpec:
        written = self._file.extension
        services = self._each(WrittenService, self._file.services, ("services",))
        builds = builds_of(services, self._file.name, self._folder, self._file.services, self._problems)
        at: KeyPath = (EXTENSION,)
        links = self._each(compose.WrittenLink, written.links, (*at, "links"))
        roles = self._each(compose.WrittenRole, written.roles, (*at, "roles"))
        jobs = self._each(compose.WrittenCall, written.jobs, (*at, "jobs"))
        moments = self._each(compose.WrittenMoment, written.moments, (*at, "moments"))
        probes = self._each(compose.WrittenCall, written.probes, (*at, "probes"))
        pending = self._each(compose.WrittenCall, written.pending, (*at, "pending"))
        witnesses = self._each(
            compose.WrittenWitness, written.evidence.witnesses, (*at, "evidence", "witnesses")
        )
        return TargetSpec(
            name=self._file.name,
            folder=str(self._folder),
            services={name: self._service(name, one, builds) for name, one in services.items()},
            links={name: link for name, one in links.items() if (link := self._link(name, one)) is not None},
            roles={
                name: spec_of.Role(members=one.members, endpoint=_endpoint(one))
                for name, one in roles.items()
            },
            jobs={
                name: spec_of.Job(service=one.service, endpoint=_endpoint(one)) for name, one in jobs.items()
            },
            moments={name: spec_of.Moment(sql=one.sql) for name, one in moments.items()},
            pending=tuple(
                spec_of.Pending(name=name, service=one.service, endpoint=_endpoint(one))
                for name, one in pending.items()
            ),
            probes=tuple(
                spec_of.Probe(name=name, service=one.service, endpoint=_endpoint(one))
                for name, one in probes.items()
            ),
            witness_logs=tuple(
                spec_of.WitnessLog(
                    service=name, endpoint=_endpoint(one), table=one.table, columns=one.columns
                )
                for name, one in witnesses.items()
            ),
            invariants=read_invariants(self._folder),
            figures=read_figures(self._folder),
            **_plain_parts(written),
        )

    def _each(self, model: type[M], parts: Mapping[str, Any], at: KeyPath) -> dict[str, M]:
        """Every named part by itself, so that each error has its own place."""
        valid = {name: _valid(model, data, (*at, name), self._problems) for name, data in parts.items()}
        return {name: one for name, one in valid.items() if one is not None}

    def _service(
        self, name: str, written: WrittenService, builds: Mapping[str, spec_of.Build]
    ) -> spec_of.Service:
        extension = written.extension
        image = image_of(self._file.name, name, written)
        place: KeyPath = ("services", name, EXTENSION, "advertise")
        advertise = {}
        for port, peer in extension.advertise.items():
            if port.isdigit():
                advertise[int(port)] = peer
            else:
                self._problems.add(f"{port!r} is not a port", (*place, port), key=True)
        return spec_of.Service(
            name=name,
            process=extension.process,
            image=image,
            build=None if image is None else builds.get(image),
            init=written.init,
            cpus=written.cpus,
            memory_bytes=written.mem_limit,
            read_only=written.read_only,
            user=written.user,
            command=written.command,
            environment=written.environment,
            ports=written.expose,
            volumes=written.volumes,
            ready=_endpoint(extension.ready) if extension.ready else None,
            depends_on=written.depends_on,
            advertise=advertise,
            witness=extension.witness,
            stop_grace_s=written.stop_grace_period,
        )

    def _link(self, name: str, written: compose.WrittenLink) -> spec_of.Link | None:
        """``client->server`` or ``client->server:port``."""
        client, arrow, rest = name.partition("->")
        server, _, port = rest.partition(":")
        if not (client and arrow and server) or (port and port != str(written.port)):
            self._problems.add(
                f"{name!r} does not name a link on port {written.port}",
                (EXTENSION, "links", name),
                key=True,
                hint=f"client->server, or client->server:{written.port}",
            )
            return None
        return spec_of.Link(
            name=name, client=client, server=server, port=written.port, protocol=written.protocol
        )


def _endpoint(written: WrittenEndpoint) -> Endpoint:
    return Endpoint(port=written.port, path=written.path, method=written.method)


def _plain_parts(written: WrittenTarget) -> dict[str, Any]:
    """What goes into the spec as it is written, or nearly."""
    switchover, sql = written.switchover, written.evidence.sql
    return {
        "functions": written.functions,
        "entry": written.entry,
        "entries": written.entries,
        "locustfile": written.locustfile,
        "python_path": written.python_path,
        "max_subscribers": written.max_subscribers,
        "ready_when": written.ready_when,
        "versions": written.versions,
        "mode": written.mode,
        "settled": tuple(spec_of.Settled(name=name, sql=text) for name, text in written.settled.items()),
        "measures": {name: spec_of.Measure(file=file) for name, file in written.measures.items()},
        "impact": written.impact,
        "sql": spec_of.SqlSource(**dict(sql)) if sql else None,
        "switchover": spec_of.Switchover(
            role=switchover.role,
            candidate_role=switchover.candidate_role,
            endpoint=_endpoint(switchover),
        )
        if switchover
        else None,
    }
