"""What an experiment may know of its target: the target's description as frozen data.

``harness.target.folder`` reads it from a target's ``compose.yaml``; everything above passes it
along, and the run folder keeps a copy (``target.json``) so that a stored run can be judged without
the target. No I/O here.

Shapes: a *link* is one dependency edge ``client->server`` on one port, with a proxy of its own; a
*role* is a name for whichever member answers 200 on ``path`` now; a *function* is a group of
operation kinds that people would miss together; a *moment* is a condition that faults are aimed at.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.experiment.figure_head import Unit


class Frozen(BaseModel):
    """Base of the typed data that passes between rooms: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Endpoint(Frozen):
    """An HTTP question to a service, asked out of band (never through a faulted link)."""

    port: int
    path: str = "/"
    method: Literal["GET", "POST", "PUT"] = "GET"


class Build(Frozen):
    """How an image is made: ``context`` is a folder's absolute path, ``dockerfile`` a file within it."""

    context: str
    dockerfile: str = "Dockerfile"
    args: dict[str, str] = Field(default_factory=dict)


class Service(Frozen):
    """One service: how a runtime starts it and when it counts as ready.

    In ``environment`` (plain Compose values) the process runtime rewrites, textually:
    ``<server>:<port>`` of a declared link from this service -> that link's proxy;
    ``0.0.0.0:<port>`` -> the loopback address this service shall listen on;
    ``<itself>:<port>`` -> how the service named in ``advertise[port]`` reaches it (that link's proxy);
    a path at or below a volume's mount point -> this run's folder for that volume.

    ``build`` and what follows it are for the Docker runtime: services with one image have one ``build``.
    """

    name: str
    process: str | None = None
    image: str | None = None
    command: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    ports: tuple[int, ...] = ()
    volumes: dict[str, str] = Field(default_factory=dict)  # volume name -> mount point
    ready: Endpoint | None = None
    depends_on: tuple[str, ...] = ()  # must be ready first
    advertise: dict[int, str] = Field(default_factory=dict)
    witness: bool = False  # outside the system under test: never faulted itself
    stop_grace_s: float = 10.0
    build: Build | None = None
    init: bool = False  # a little init as the first process: for those that leave zombies behind
    cpus: float | None = None
    memory_bytes: int | None = None
    read_only: bool = True  # the container's root; volumes and /tmp are writable all the same
    user: str | None = None  # name, number or user:group; None: the image's own


class Link(Frozen):
    """One dependency edge. ``name`` is ``client->server`` or ``client->server:port``."""

    name: str
    client: str
    server: str
    port: int
    protocol: Literal["http", "postgres", "nats", "tcp"] = "http"


class Role(Frozen):
    """Resolved at run time: the members whose ``endpoint`` answers 200."""

    members: tuple[str, ...]
    endpoint: Endpoint


class Job(Frozen):
    """A batch job: called out of band; 200 means done, 202 means still running (ask again)."""

    service: str
    endpoint: Endpoint


class Moment(Frozen):
    """A point in the target's work at which a fault can be aimed: true when ``sql`` is."""

    sql: str


class Switchover(Frozen):
    """How a planned switchover is asked for (Patroni's REST API)."""

    role: str
    candidate_role: str
    endpoint: Endpoint


class Mode(Frozen):
    """How the operating mode is changed, out of band, at ``service``.

    ``PUT set_path`` with ``{"mode", "reason", "retry_after_s"}`` answers ``{"epoch", "mode"}`` once what
    was in flight has drained; ``GET status_path`` answers them for the mode in force; an epoch only grows.
    ``POST announce_path`` publishes; ``POST canary_path`` with an empty object is a write of money that can
    have no effect: 4xx in normal mode, 503 with Retry-After otherwise.
    """

    service: str
    port: int
    set_path: str
    status_path: str
    announce_path: str
    canary_path: str


class SqlSource(Frozen):
    """Where the final state is read: the harness connects to ``role`` out of band."""

    role: str
    port: int = 5432
    database: str
    user: str
    password: str = ""
    tables: tuple[str, ...] = ()  # "schema.table"


class WitnessLog(Frozen):
    """An append-only log of a witness: ``GET`` gives JSON lines; becomes ``witness.<table>``.

    ``columns`` (name -> DuckDB type) exist even where no line has them: an empty log is evidence too.
    Without them the fields are those that the lines have, with the types of their values.
    """

    service: str
    endpoint: Endpoint
    table: str
    columns: dict[str, str] = Field(default_factory=dict)


class Settled(Frozen):
    """No work is pending when ``sql`` (one number) is 0."""

    name: str
    sql: str


class Pending(Frozen):
    """No work is pending when this answers 200 with ``{"pending": 0}``: what stands in no database."""

    name: str
    service: str
    endpoint: Endpoint


class Probe(Frozen):
    """Sampled twice a second during the run into ``samples`` under ``name``."""

    name: str
    service: str
    endpoint: Endpoint


class Measure(Frozen):
    """A figure of the target's own: a SQL file with columns ``at_ns`` and ``value_ms``."""

    file: str


class Invariant(Frozen):
    """An invariant's head, for validation and listing; the SQL stays in its file."""

    id: str
    title: str
    applies: tuple[str, ...] = ()
    file: str


class Figure(Frozen):
    """A business figure's head; the SQL stays in its file. See ``harness.experiment.figure_head``."""

    id: str
    title: str
    unit: Unit
    group: str
    model: bool = False
    applies: tuple[str, ...] = ()
    file: str


class TargetSpec(Frozen):
    """A whole target. Mappings are by name."""

    name: str
    folder: str
    services: dict[str, Service]
    links: dict[str, Link]
    roles: dict[str, Role] = Field(default_factory=dict)
    functions: dict[str, tuple[str, ...]]
    jobs: dict[str, Job] = Field(default_factory=dict)
    moments: dict[str, Moment] = Field(default_factory=dict)
    ready_when: tuple[str, ...] = ()  # roles that somebody must hold before the deployment is ready
    versions: str | None = None  # a command that prints one JSON object: component -> version
    switchover: Switchover | None = None
    mode: Mode | None = None
    entry: str  # the link that load enters by
    entries: dict[str, str] = Field(default_factory=dict)  # more ways in: name -> link
    locustfile: str = "locustfile.py"
    python_path: tuple[str, ...] = (".",)
    max_subscribers: int = 1000
    settled: tuple[Settled, ...] = ()
    pending: tuple[Pending, ...] = ()
    sql: SqlSource | None = None
    witness_logs: tuple[WitnessLog, ...] = ()
    probes: tuple[Probe, ...] = ()
    measures: dict[str, Measure] = Field(default_factory=dict)
    invariants: dict[str, Invariant] = Field(default_factory=dict)
    figures: dict[str, Figure] = Field(default_factory=dict)
    impact: dict[str, float] = Field(default_factory=dict)

    @property
    def operation_kinds(self) -> tuple[str, ...]:
        """All kinds of operations that a mix may name, in the order of the functions."""
        return tuple(kind for kinds in self.functions.values() for kind in kinds)

    @property
    def ways_in(self) -> tuple[str, ...]:
        """All links that load enters by, the main one first."""
        return (self.entry, *self.entries.values())

    @property
    def witnesses(self) -> frozenset[str]:
        """The services outside the system under test; what they do, and their end, is not its doing."""
        return frozenset(service.name for service in self.services.values() if service.witness)


class Mutant(Frozen):
    """A broken variant: the reference stack with one service started by another command."""

    name: str
    title: str
    service: str
    process: str
    caught_by: str  # invariant id
    experiment: str  # the experiment that exposes it
