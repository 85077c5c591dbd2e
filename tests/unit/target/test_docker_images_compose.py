"""What a target's file may say about images and containers, and how mistakes in it are told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.errors import TargetError
from harness.experiment.target import Build, Service
from harness.target.folder import load_target

ROOT = Path(__file__).parents[3]
TINY = ROOT / "tests" / "conformance" / "runtime" / "target"
STORE = "    expose: [8080]\n    volumes:"  # of the service `store`, line 9
FRONT = "depends_on: [store]"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(TINY, tmp_path / "tiny"))
    file = folder / "compose.yaml"
    text = "".join(
        line
        for line in file.read_text().splitlines(True)
        if not line.startswith(("    image:", "    build:"))
    )
    file.write_text(text)
    (folder / "Dockerfile").write_text("FROM scratch\n")
    return folder


def read(folder: Path, lines: str, where: str = STORE) -> Service:
    """The service ``store`` with these lines more."""
    file = folder / "compose.yaml"
    text = file.read_text()
    assert where in text
    file.write_text(text.replace(where, f"{lines}\n{where}", 1))
    return load_target(folder).services["store"]


GOOD = {
    "    init: true": {"init": True},
    "    cpus: 0.5": {"cpus": 0.5},
    '    cpus: "1.5"': {"cpus": 1.5},
    "    mem_limit: 512m": {"memory_bytes": 512 * 2**20},
    "    mem_limit: 1.5GB": {"memory_bytes": 3 * 2**29},
    "    mem_limit: 67108864": {"memory_bytes": 2**26},
    "    read_only: false": {"read_only": False},
    "    user: 1000": {"user": "1000"},
    '    user: "1000:1000"': {"user": "1000:1000"},
    "    restart: unless-stopped": {},
    "    restart: on-failure:3": {},
    '    ports: ["127.0.0.1:8080:8080"]': {},
    "    ports: [{target: 8080, host_ip: 127.0.0.1}]": {},
}


@pytest.mark.parametrize("lines", GOOD)
def test_what_compose_says_becomes_the_service(folder: Path, lines: str) -> None:
    service = read(folder, lines)
    assert {name: getattr(service, name) for name in GOOD[lines]} == GOOD[lines]


def test_nothing_said_is_a_read_only_root_without_limits(folder: Path) -> None:
    service = load_target(folder).services["store"]
    assert (service.build, service.init, service.cpus, service.memory_bytes) == (None, False, None, None)
    assert service.read_only and service.user is None


BAD = {
    "cpus: 0": r"compose\.yaml:\d+:\d+: services\.store\.cpus: 0 is out of range: at least 0\.01",
    "cpus: many": r":\d+:\d+: .*'many' is not a number of processors; write 0\.5",
    "mem_limit: 512": r":\d+:\d+: .*less than a container can have; at least 6m",
    "mem_limit: 64MiB": r"'64MiB' is not an amount of memory; write 512m or 2g",
    "mem_limit: 1m": r"'1m' is less than",
    "read_only: perhaps": r"'perhaps' is not true or false",
    "restart: sometimes": r"'sometimes' is not one of",
    'ports: ["8080:8080"]': r"would be open to the network; publish on loopback: 127\.0\.0\.1:8080:8080",
    'ports: ["0.0.0.0:8080:8080"]': r"would be open to the network",
    "ports: [{target: 8080}]": r"would be open to the network",
    "build: ./nowhere": r":\d+:\d+: no folder './nowhere' in ",
    "build: {context: ., dockerfile: Dokerfile}": r":\d+:\d+: no file 'Dokerfile' in ",
    "build: {context: ., dockerfile: ../Dockerfile}": (
        r":\d+:\d+: '\.\./Dockerfile' lies outside .*, and only that folder is sent"
    ),
    "image: Big:1": r":\d+:\d+: services\.store\.image: 'Big:1' names no image; write name:tag or",
    "image: tiny:${TAG}": r"'tiny:\$\{TAG\}' names no image",
    "image: tiny@sha256:12": r"names no image",
    "build: {contxt: .}": r"unknown key 'contxt' in services\.store\.build.*\n.*did you mean 'context'",
    "build: {args: [NAME]}": r"NAME has no value",
    "privileged: true": r"unknown key 'privileged'",
    "cap_add: [SYS_ADMIN]": r"unknown key 'cap_add'",
}


@pytest.mark.parametrize("line", BAD)
def test_a_mistake_is_told_with_its_place(folder: Path, line: str) -> None:
    with pytest.raises(TargetError, match=BAD[line]):
        read(folder, f"    {line}")


DIGEST = f"sha256:{'0123456789abcdef' * 4}"
REFERENCES = [
    "tiny",
    "mine/tiny_one:1.2-rc_3",
    f"registry.example.org:5000/a-quite-long-organisation/and-a-team-of-it/tiny:1.2@{DIGEST}",
]


@pytest.mark.parametrize("reference", REFERENCES)
def test_an_image_is_named_as_a_registry_names_it(folder: Path, reference: str) -> None:
    assert len(REFERENCES[-1]) > 100
    assert read(folder, f"    image: {reference}").image == reference


def test_one_service_says_how_the_image_of_several_is_built(folder: Path) -> None:
    file = folder / "compose.yaml"
    file.write_text(file.read_text().replace("    expose:", "    image: tiny:1\n    expose:"))
    store = read(folder, "    build: {context: ., args: {BASE_IMAGE: tiny-base}}")
    expected = Build(context=str(folder), args={"BASE_IMAGE": "tiny-base"})
    spec = load_target(folder)
    assert store.build == expected
    assert {service.build == expected for service in spec.services.values()} == {True}


def test_an_image_without_a_name_is_called_as_compose_calls_it(folder: Path) -> None:
    service = read(folder, "    build: .")
    assert service.image == f"{load_target(folder).name}-store"


def test_two_ways_to_build_one_image_are_an_error(folder: Path) -> None:
    file = folder / "compose.yaml"
    file.write_text(
        file.read_text().replace(FRONT, f"{FRONT}\n    image: one:1\n    build: {{args: {{A: b}}}}", 1)
    )
    with pytest.raises(TargetError, match=r":\d+:\d+: one:1 is built in another way"):
        read(folder, "    image: one:1\n    build: .")
