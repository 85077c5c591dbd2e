"""A target's ``compose.yaml`` as it is written: the stated subset of Compose, and ``x-ledgerquake``.

What is not named here is an error, not ignored. ``build`` and ``healthcheck`` are for plain Compose
alone: readiness is asked for at ``x-ledgerquake.ready``. Converting and cross-checking is done in
``harness.target.folder``.
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

_VOLUME = re.compile(r"([A-Za-z0-9][\w.-]*):(/[^:]*)")


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


class WrittenService(Written):
    image: Name | None = None
    build: Any = None
    command: Annotated[tuple[Text, ...], BeforeValidator(_command)] = ()
    environment: Annotated[dict[str, str], BeforeValidator(_environment)] = Field(default_factory=dict)
    expose: tuple[Port, ...] = ()
    volumes: Annotated[dict[str, str], BeforeValidator(_volumes)] = Field(default_factory=dict)
    depends_on: Annotated[tuple[Name, ...], BeforeValidator(_depends_on)] = ()
    healthcheck: Any = None
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
    evidence: WrittenEvidence = WrittenEvidence()
    probes: dict[str, Any] = Field(default_factory=dict)
    measures: dict[str, Name] = Field(default_factory=dict)
    impact: dict[str, float] = Field(default_factory=dict)


class WrittenFile(Written):
    """The whole file; services are validated one by one."""

    name: Annotated[StrictStr, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,59}$")]
    services: Annotated[dict[str, Any], Field(min_length=1)]
    volumes: dict[str, Any] = Field(default_factory=dict)
    extension: WrittenTarget = Field(alias="x-ledgerquake")
