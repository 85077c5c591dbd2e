"""A target's ``compose.yaml`` as it is written: the stated subset of Compose, and ``x-ledgerquake``.

What is not named here is an error, not ignored. ``healthcheck``, ``ports`` and ``restart`` are for plain
Compose alone: readiness is asked for at ``x-ledgerquake.ready``, and the harness publishes nothing and
starts again what it wants started. Converting and cross-checking is done in ``harness.target.folder``.
"""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from harness.experiment.target import Mode
from harness.experiment.units import Seconds

Text = Annotated[StrictStr, Field(min_length=1, max_length=4000)]
Name = Annotated[StrictStr, Field(min_length=1, max_length=100)]
Port = Annotated[StrictInt, Field(ge=1, le=65535)]
Method = Literal["GET", "POST", "PUT"]

TARGET_NAME = r"^[a-z0-9][a-z0-9-]{0,59}$"
_VOLUME = re.compile(r"([A-Za-z0-9][\w.-]*):(/[^:]*)")
_LOOPBACK = "127.0.0.1"
_PUBLISHED = re.compile(r"127\.0\.0\.1:[0-9]*:[0-9]+(/tcp)?")
_IMAGE = re.compile(  # [host[:port]/]name[/name...][:tag][@digest]
    r"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
    r"(?::\w[\w.-]{0,127})?(?:@[a-z0-9]+:[0-9a-f]{32,})?",
    re.ASCII,
)
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(b|kb?|mb?|gb?)", re.IGNORECASE)
_SIZE_UNITS = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_RESTART = re.compile(r"no|always|unless-stopped|on-failure(:[0-9]+)?")
FEWEST_CPUS = 0.01
LEAST_MEMORY = 6 * 2**20  # what the Docker engine demands


def _command(value: Any) -> Any:
    """A command as text or as a list."""
    if not isinstance(value, str):
        return value
    try:
        return shlex.split(_plain(value))
    except ValueError as problem:
        raise ValueError(f"cannot be split into words: {problem}") from None


def _environment(value: Any) -> Any:
    """A mapping, or a list of ``NAME=value``; every value becomes text, as Compose does it."""
    if isinstance(value, list):
        pairs = [str(item).partition("=") for item in value]
        value = {name: text if equals else None for name, equals, text in pairs}
    if not isinstance(value, dict):
        return value
    return {name: _as_text(name, item) for name, item in value.items()}


def _as_text(name: str, value: Any) -> str:
    if value is None:
        raise ValueError(f"{name} has no value; taking it from the caller's environment is not supported")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return _plain(str(value))
    raise ValueError(f"{name} is not text or a number")


def _plain(text: str) -> str:
    """``$$`` is a dollar; a variable of the caller's environment is not supported."""
    if "$" in text.replace("$$", ""):
        raise ValueError(f"{text!r}: variables are not supported; write $$ for a dollar")
    return text.replace("$$", "$")


def _volumes(value: Any) -> Any:
    """``name:/where`` of named volumes; nothing of the machine's own folders."""
    if not isinstance(value, list):
        return value
    mounts: dict[str, str] = {}
    for item in value:
        match = _VOLUME.fullmatch(str(item))
        if match is None:
            raise ValueError(f"{item!r} is not supported; a named volume is written name:/where/in/it")
        mounts[match[1]] = match[2]
    return mounts


def _depends_on(value: Any) -> Any:
    """A list, or a mapping with conditions: readiness is awaited either way."""
    return list(value) if isinstance(value, dict) else value


def _image(value: Any) -> Any:
    """A reference as an image registry has it."""
    if isinstance(value, str) and _IMAGE.fullmatch(value) is None:
        raise ValueError(f"{value!r} names no image; write name:tag or name@sha256:..., in small letters")
    return value


def _build(value: Any) -> Any:
    """A folder alone means its Dockerfile."""
    return {"context": value} if isinstance(value, str) else value


def _cpus(value: Any) -> Any:
    """``0.5``, or the same in quotes."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise ValueError(f"{value!r} is not a number of processors; write 0.5") from None
    return value


def _memory(value: Any) -> Any:
    """``512m`` as Compose writes it, or a number of bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"{value!r} is not an amount of memory; write 512m or 2g")
        size = int(float(match[1]) * _SIZE_UNITS[match[2][0].lower()])
    if size < LEAST_MEMORY:
        raise ValueError(f"{value!r} is less than a container can have; at least 6m is expected")
    return size


def _user(value: Any) -> Any:
    """A name, a number, or ``user:group``."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _restart(value: Any) -> Any:
    if not isinstance(value, str) or _RESTART.fullmatch(value) is None:
        raise ValueError(f"{value!r} is not one of 'no', 'always', 'unless-stopped' or 'on-failure'")
    return value


def _ports(value: Any) -> Any:
    """Published ports, in the short or the long form; on loopback and nowhere else."""
    for item in value if isinstance(value, list) else ():
        if isinstance(item, dict):
            good = item.get("host_ip") == _LOOPBACK
        else:
            good = _PUBLISHED.fullmatch(str(item)) is not None
        if not good:
            raise ValueError(
                f"{item!r} would be open to the network; publish on loopback: 127.0.0.1:8080:8080"
            )
    return value


class Written(BaseModel):
    """Base: the keys named here and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False)


class WrittenEndpoint(Written):
    port: Port
    path: Text = "/"
    method: Method = "GET"


class WrittenExtension(Written):
    """``x-ledgerquake`` of a service."""

    process: Text | None = None
    ready: WrittenEndpoint | None = None
    advertise: dict[str, Name] = Field(default_factory=dict)
    witness: StrictBool = False


class WrittenBuild(Written):
    """How an image is made. ``context`` is a folder, seen from the target's own."""

    context: Text = "."
    dockerfile: Text = "Dockerfile"
    args: Annotated[dict[str, str], BeforeValidator(_environment)] = Field(default_factory=dict)


class WrittenService(Written):
    image: Annotated[Text | None, BeforeValidator(_image)] = None
    build: Annotated[WrittenBuild | None, BeforeValidator(_build)] = None
    command: Annotated[tuple[Text, ...], BeforeValidator(_command)] = ()
    environment: Annotated[dict[str, str], BeforeValidator(_environment)] = Field(default_factory=dict)
    expose: tuple[Port, ...] = ()
    volumes: Annotated[dict[str, str], BeforeValidator(_volumes)] = Field(default_factory=dict)
    depends_on: Annotated[tuple[Name, ...], BeforeValidator(_depends_on)] = ()
    init: StrictBool = False
    cpus: Annotated[float | None, Field(ge=FEWEST_CPUS), BeforeValidator(_cpus)] = None
    mem_limit: Annotated[int | None, BeforeValidator(_memory)] = None
    read_only: StrictBool = True
    user: Annotated[Name | None, BeforeValidator(_user)] = None
    healthcheck: dict[str, Any] = Field(default_factory=dict)
    ports: Annotated[list[Any], BeforeValidator(_ports)] = Field(default_factory=list)
    restart: Annotated[str, BeforeValidator(_restart)] = "no"
    stop_grace_period: Seconds = 10.0
    extension: WrittenExtension = Field(alias="x-ledgerquake", default=WrittenExtension())


class WrittenLink(Written):
    port: Port
    protocol: Literal["http", "postgres", "nats", "tcp"] = "http"


class WrittenRole(WrittenEndpoint):
    members: Annotated[tuple[Name, ...], Field(min_length=1)]


class WrittenCall(WrittenEndpoint):
    """An endpoint of a named service: a job, a probe."""

    service: Name


class WrittenMoment(Written):
    sql: Text


class WrittenSwitchover(WrittenEndpoint):
    role: Name
    candidate_role: Name


class WrittenSql(Written):
    role: Name
    port: Port = 5432
    database: Name
    user: Name
    password: StrictStr = ""
    tables: tuple[Annotated[StrictStr, Field(pattern=r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$")], ...] = ()


class WrittenWitness(WrittenEndpoint):
    table: Name
    columns: dict[str, Text] = Field(default_factory=dict)


class WrittenEvidence(Written):
    sql: WrittenSql | None = None
    witnesses: dict[str, Any] = Field(default_factory=dict)


class WrittenTarget(Written):
    """``x-ledgerquake`` of the file. Named parts are validated one by one (``PARTS``)."""

    entry: Name
    entries: dict[str, Name] = Field(default_factory=dict)
    locustfile: Name = "locustfile.py"
    python_path: tuple[Name, ...] = (".",)
    max_subscribers: Annotated[StrictInt, Field(ge=1)] = 1000
    links: dict[str, Any]
    roles: dict[str, Any] = Field(default_factory=dict)
    ready_when: tuple[Name, ...] = ()
    versions: Text | None = None
    switchover: WrittenSwitchover | None = None
    mode: Mode | None = None
    functions: dict[str, tuple[Name, ...]]
    jobs: dict[str, Any] = Field(default_factory=dict)
    moments: dict[str, Any] = Field(default_factory=dict)
    settled: dict[str, Text] = Field(default_factory=dict)
    pending: dict[str, Any] = Field(default_factory=dict)
    evidence: WrittenEvidence = WrittenEvidence()
    probes: dict[str, Any] = Field(default_factory=dict)
    measures: dict[str, Name] = Field(default_factory=dict)
    impact: dict[str, float] = Field(default_factory=dict)


class WrittenFile(Written):
    """The whole file; services are validated one by one."""

    name: Annotated[StrictStr, Field(pattern=TARGET_NAME)]
    services: Annotated[dict[str, Any], Field(min_length=1)]
    volumes: dict[str, Any] = Field(default_factory=dict)
    extension: WrittenTarget = Field(alias="x-ledgerquake")
