"""Images: looked for, built, pulled, told when stale; against an engine that is a few prepared answers."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError, ImageNotFound

from harness.errors import EnvironmentBroken
from harness.experiment.target import Build
from harness.target.docker import images as room
from harness.target.docker.building import BASE, FILES, build_target, outside
from harness.target.docker.context import Context, folder_context
from harness.target.docker.endpoint import Docker
from harness.target.docker.progress import events
from harness.target.folder import load_target
from harness.toxiproxy.image import builtin_files

TINY = Path(__file__).parents[2] / "conformance" / "runtime" / "target"
DOCKERFILE = "ARG BASE_IMAGE=python:3.11-slim\nFROM ${BASE_IMAGE}\nARG PIP_INDEX_URL\nCOPY app app\n"


class Engine:
    """``held``: reference (a_1 for a:1) -> labels. ``report``: what a build or a pull says."""

    def __init__(self, **held: Mapping[str, str]) -> None:
        self.held = {name.replace("_", ":"): dict(labels) for name, labels in held.items()}
        self.report: list[dict[str, str]] = []
        self.built: list[dict[str, Any]] = []
        self.sent: list[list[str]] = []
        self.pulled: list[tuple[str, str]] = []
        self.removed: list[str] = []
        self.ids: dict[str, str] = {}  # where it is not that of the name
        self.tags: dict[str, list[str]] = {}

    def inspect_image(self, ref: str) -> dict[str, Any]:
        name = ref.removeprefix("sha256:")
        name = name if ":" in name else f"{name}:latest"
        if ref.removeprefix("sha256:") in self.tags:
            return {"Id": ref, "RepoTags": self.tags[ref.removeprefix("sha256:")]}
        if name not in self.held:
            raise ImageNotFound(f"no such image: {ref}")
        return {
            "Id": self.ids.get(name, f"sha256:{name}"),
            "Config": {"Labels": self.held[name]},
            "RepoTags": [name],
        }

    def images(self, name: str) -> list[dict[str, Any]]:
        found = [ref for ref in self.held if ref == name or ref.split(":")[0] == name]
        return [{"Id": f"sha256:{ref}", "RepoTags": [ref]} for ref in found]

    def remove_image(self, image: str) -> None:
        self.removed.append(image)

    def build(self, fileobj: io.BufferedReader, tag: str, **options: Any) -> Iterator[dict[str, str]]:
        with tarfile.open(fileobj=fileobj) as tar:
            self.sent.append(tar.getnames())
        self.built.append({"tag": tag, **options})
        yield from self.report
        if not any("error" in event for event in self.report):
            name = tag if ":" in tag else f"{tag}:latest"
            self.held[name] = options["labels"]
            self.ids.pop(name, None)

    def pull(self, repository: str, tag: str, **options: Any) -> Iterator[dict[str, str]]:
        self.pulled.append((repository, tag))
        yield from self.report
        if not self.report:
            self.held[f"{repository}:{tag}"] = {}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / ".dockerignore").write_text("# only what is copied\n*\n!app\n**/__pycache__\n")
    (tmp_path / "app" / "__pycache__").mkdir(parents=True)
    (tmp_path / "app" / "__pycache__" / "main.pyc").write_bytes(b"old")
    (tmp_path / "app" / "main.py").write_text("print('here')\n")
    (tmp_path / "secret.txt").write_text("not for an image")
    return tmp_path


def docker(engine: Engine) -> Docker:
    return Docker(engine, "unix:///nowhere.sock", "ID", "20.10", "1.41")  # type: ignore[arg-type]


def quiet(line: str) -> None:
    pass


def quiet_only(line: str) -> None:
    pytest.fail(f"nothing is to be said: {line}")


def test_only_what_is_needed_is_sent(folder: Path) -> None:
    names = set(folder_context(folder).files)
    assert {"Dockerfile", "app/main.py"} <= names <= {"Dockerfile", "app/main.py", ".dockerignore"}


def test_the_same_content_is_the_same_context(folder: Path) -> None:
    before = folder_context(folder)
    packed = [io.BytesIO(), io.BytesIO()]
    before.tar(packed[0])
    told = before.digest()
    (folder / "app" / "main.py").touch()
    (folder / "app" / "main.py").chmod(0o600)
    folder_context(folder).tar(packed[1])
    assert packed[0].getvalue() == packed[1].getvalue() and folder_context(folder).digest() == told
    (folder / "app" / "main.py").write_text("print('there')\n")
    assert folder_context(folder).digest() != told
    (folder / "app" / "main.py").write_text("print('here')\n")
    (folder / "app" / "main.py").chmod(0o700)  # may be run now
    assert folder_context(folder).digest() != told


def test_what_python_compiles_is_never_sent(folder: Path) -> None:
    (folder / ".dockerignore").unlink()
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "top.cpython-311.pyc").write_bytes(b"old")
    (folder / "app" / "bare.pyc").write_bytes(b"old")
    assert set(folder_context(folder).files) == {"Dockerfile", "app/main.py", "secret.txt"}


def test_an_empty_folder_is_sent_and_told(folder: Path) -> None:
    told = folder_context(folder).digest()
    (folder / "app" / "data" / "in").mkdir(parents=True, mode=0o700)
    packed = io.BytesIO()
    context = folder_context(folder)
    context.tar(packed)
    with tarfile.open(fileobj=packed) as tar:
        sent = tar.getmember("app/data/in")
    assert sent.isdir() and sent.mode == 0o755 and context.digest() != told
    assert "app" not in context.files


def test_what_cannot_be_read_is_told_by_name(folder: Path) -> None:
    gone = Context({"Dockerfile": folder / "Dockerfile", "x": folder / "gone.bin"})
    for attempt in (gone.digest, lambda: gone.tar(io.BytesIO())):
        with pytest.raises(
            EnvironmentBroken, match=r"gone\.bin to a build: No such file.*\n.*\.dockerignore"
        ):
            attempt()
    with pytest.raises(EnvironmentBroken, match="nowhere"):
        folder_context(folder / "nowhere")
    (folder / ".dockerignore").write_bytes(b"\xff\n")
    with pytest.raises(EnvironmentBroken, match=r"\.dockerignore is no text in UTF-8"):
        folder_context(folder)


@pytest.mark.parametrize(
    "now", [{"args": {"COLOUR": "blue"}}, {"args": {}}, {"dockerfile": "app/main.py"}], ids=str
)
def test_another_recipe_makes_an_image_stale(folder: Path, now: dict[str, Any]) -> None:
    (folder / ".dockerignore").unlink()  # the same files are sent, whichever is the Dockerfile
    engine = Engine()
    build = Build(context=str(folder), args={"COLOUR": "red", "SHAPE": "round"})
    image = build_target(docker(engine), "a:1", build, quiet)
    turned = Build(context=str(folder), args={"SHAPE": "round", "COLOUR": "red"})
    assert not room.is_stale(image, turned)
    assert room.is_stale(image, build.model_copy(update=now))


def test_an_image_that_is_here_is_taken_as_it_is(folder: Path) -> None:
    engine = Engine(a_1={})
    image = room.obtain(docker(engine), "a:1", Build(context=str(folder)), quiet)
    assert image == room.Image("a:1", "sha256:a:1") and not engine.built and not engine.pulled


def test_an_absent_image_is_built_where_that_is_said_and_pulled_elsewhere(folder: Path) -> None:
    engine = Engine()
    said: list[str] = []
    room.obtain(docker(engine), "a:1", Build(context=str(folder), args={"COLOUR": "red"}), said.append)
    assert engine.built[0]["tag"] == "a:1" and engine.built[0]["buildargs"]["COLOUR"] == "red"
    assert engine.built[0]["rm"] and engine.built[0]["forcerm"]
    assert said == [f"building a:1 from {folder}"]
    room.obtain(docker(engine), "b", None, quiet)
    assert engine.pulled == [("b", "latest")]


def test_nothing_is_built_where_that_is_not_allowed(folder: Path) -> None:
    engine = Engine()
    with pytest.raises(EnvironmentBroken, match=r"image a:1 is not here\n.*ledgerquake images build"):
        room.obtain(docker(engine), "a:1", Build(context=str(folder)), quiet, may_build=False)
    with pytest.raises(EnvironmentBroken, match=r"image b is not here\n.*docker pull b"):
        room.obtain(docker(engine), "b", None, quiet, may_build=False)
    assert not engine.built and not engine.pulled


def test_a_whole_target_is_built_unless_that_is_not_allowed(folder: Path) -> None:
    tiny = load_target(TINY)
    recipe = Build(context=str(folder))
    services = {
        name: service.model_copy(update={"image": "a:1", "build": recipe})
        for name, service in tiny.services.items()
    }
    spec = tiny.model_copy(update={"services": services})
    engine = Engine()
    with pytest.raises(EnvironmentBroken, match="is not here"):
        room.obtain_all(docker(engine), spec, quiet, may_build=False)
    images = room.obtain_all(docker(engine), spec, quiet)
    assert set(images) == set(services) and len(engine.built) == 1


def test_an_image_that_was_built_elsewhere_is_told(folder: Path) -> None:
    said: list[str] = []
    room.obtain(docker(Engine(a_1={})), "a:1", Build(context=str(folder)), said.append)
    assert said == [f"a:1 was built elsewhere: nobody knows whether {folder} has changed since"]
    room.obtain(docker(Engine(a_1={})), "a:1", None, quiet_only)
    current = {FILES: folder_context(folder).digest()}
    room.obtain(docker(Engine(a_1=current)), "a:1", Build(context=str(folder)), quiet_only)


def test_an_image_of_other_files_is_built_again_or_refused(folder: Path) -> None:
    build = Build(context=str(folder))
    engine = Engine()
    room.obtain(docker(engine), "a:1", build, quiet)
    room.obtain(docker(engine), "a:1", build, quiet)
    assert len(engine.built) == 1
    (folder / "app" / "main.py").write_text("print('changed')\n")
    with pytest.raises(EnvironmentBroken, match="a:1 was built from other files than"):
        room.obtain(docker(engine), "a:1", build, quiet, may_build=False)
    room.obtain(docker(engine), "a:1", build, quiet)
    assert len(engine.built) == 2


def test_a_stale_image_on_a_base_of_its_own_is_not_built_on_another(folder: Path) -> None:
    engine = Engine(a_1={FILES: "other", BASE: "ledgerquake/base:bookworm"})
    with pytest.raises(EnvironmentBroken, match="--offline"):
        room.obtain(docker(engine), "a:1", Build(context=str(folder)), quiet)
    assert not engine.built


def test_offline_the_base_is_named_and_the_wheels_are_sent(folder: Path, tmp_path: Path) -> None:
    wheels = tmp_path / "collected"
    wheels.mkdir()
    (wheels / "pip-1-py3-none-any.whl").write_bytes(b"")
    (wheels / "notes.txt").write_bytes(b"")
    engine = Engine()
    build_target(docker(engine), "a:1", Build(context=str(folder)), quiet, base="mine:1", wheels=wheels)
    assert engine.built[0]["buildargs"]["BASE_IMAGE"] == "mine:1"
    assert [name for name in engine.sent[0] if "wheels" in name] == ["wheels/pip-1-py3-none-any.whl"]
    assert engine.built[0]["labels"][FILES] == folder_context(folder).digest()  # wheels are no content


def test_a_dockerfile_with_a_base_of_its_own_cannot_have_another(folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM python:3.11\n")
    with pytest.raises(EnvironmentBroken, match=r"has a base of its own\n.*ARG BASE_IMAGE"):
        build_target(docker(Engine()), "a:1", Build(context=str(folder)), quiet, base="mine:1")


def test_a_step_that_fails_is_told_with_its_last_lines(folder: Path) -> None:
    engine = Engine()
    engine.report = [
        {"stream": "Step 1/2 : FROM x\n"},
        {"stream": " ---> 12ab\n"},
        {"stream": "Step 2/2 : RUN make\n"},
        *({"stream": f"line {number}\n"} for number in range(40)),
        {"stream": "\x1b[91mno such rule\n\x1b[0m"},
        {"error": "The command '/bin/sh -c make' returned a non-zero code: 2"},
    ]
    with pytest.raises(EnvironmentBroken) as failed:
        build_target(docker(engine), "a:1", Build(context=str(folder)), quiet)
    text = str(failed.value)
    assert text.startswith("cannot build a:1: 'RUN make' failed: The command")
    assert text.endswith("line 39\n    no such rule") and "line 20" not in text
    assert failed.value.exit_code == 4


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        ("write /var/lib/docker/x: no space left on device", "docker system df"),
        ('Get "https://registry/v2/": dial tcp: lookup registry: no such host', "--offline"),
        ("pull access denied for mine, repository does not exist", "--offline"),
    ],
)
def test_what_would_help_is_told(folder: Path, error: str, hint: str) -> None:
    engine = Engine()
    engine.report = [{"error": error}]
    for attempt in (Build(context=str(folder)), None):
        with pytest.raises(EnvironmentBroken, match=hint) as failed:
            room.obtain(docker(engine), "a:1", attempt, quiet)
        assert error in failed.value.message and "a:1" in failed.value.message


def test_silence_ends_the_wait() -> None:
    def never() -> Iterator[dict[str, str]]:
        yield {"status": "waiting"}
        time.sleep(30)

    started = time.monotonic()
    with pytest.raises(EnvironmentBroken, match="cannot pull x: the Docker engine has said nothing for 0 s"):
        list(events(never, "pull x", 0.05))
    assert time.monotonic() - started < 5


def test_what_the_request_raises_reaches_whoever_waits() -> None:
    def broken() -> Iterator[dict[str, str]]:
        raise APIError("refused")

    with pytest.raises(APIError, match="refused"):
        list(events(broken, "build x", 5))


OUTSIDE = {
    "HTTPS_PROXY": "http://proxy.example:3128",
    "http_proxy": "http://127.0.0.1:3128",
    "NO_PROXY": "localhost,.example",
    "PIP_INDEX_URL": "https://index.example/simple",
    "PIP_TRUSTED_HOST": "index.example",
}


def test_the_way_out_is_told_to_a_build_and_nothing_else_of_the_environment() -> None:
    found = outside(DOCKERFILE, {**OUTSIDE, "PASSWORD": "x"}, quiet_only)
    proxy = OUTSIDE["HTTPS_PROXY"]
    assert found == {
        "https_proxy": proxy,
        "HTTPS_PROXY": proxy,
        "no_proxy": OUTSIDE["NO_PROXY"],
        "NO_PROXY": OUTSIDE["NO_PROXY"],
        "PIP_INDEX_URL": OUTSIDE[
            "PIP_INDEX_URL"
        ],  # the Dockerfile asks for it; for the trusted host it does not
    }


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:3128", "http://127.8.0.1", "localhost:3128", "http://LOCALHOST/simple", "http://[::1]:80"],
)
def test_what_listens_on_loopback_is_out_of_reach_of_a_build(host: str) -> None:
    environment = {"https_proxy": host, "PIP_INDEX_URL": host, "no_proxy": "localhost"}
    assert set(outside(DOCKERFILE, environment, quiet_only)) == {"no_proxy", "NO_PROXY"}


@pytest.mark.parametrize("host", ["localhost.example:3128", "http://[10.0.0.1"])
def test_what_is_not_known_to_be_on_loopback_is_passed_on(host: str) -> None:
    assert outside(DOCKERFILE, {"https_proxy": host}, quiet_only)["HTTPS_PROXY"] == host


def test_a_password_of_an_index_is_told_and_not_needed_with_wheels(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    index = "https://me:secret@index.example/simple"
    monkeypatch.setenv("PIP_INDEX_URL", index)
    engine, said = Engine(), list[str]()
    build_target(docker(engine), "a:1", Build(context=str(folder)), said.append)
    assert engine.built[0]["buildargs"]["PIP_INDEX_URL"] == index
    assert len(said) == 1 and "PIP_INDEX_URL has a password" in said[0] and "secret" not in said[0]
    build_target(docker(engine), "a:1", Build(context=str(folder)), quiet_only, wheels=folder)
    assert "PIP_INDEX_URL" not in engine.built[1]["buildargs"]


CURRENT = {FILES: Context(builtin_files()).digest()}


@pytest.fixture
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(room.ENGINE_VARIABLE, raising=False)


@pytest.mark.usefixtures("unnamed")
def test_the_newest_real_server_comes_before_the_built_in_one() -> None:
    engine = Engine()
    with pytest.raises(EnvironmentBroken, match="ledgerquake images build"):
        room.find_engine_image(docker(engine))
    engine.held[f"{room.BUILTIN}:2.12.0-builtin"] = CURRENT
    assert room.find_engine_image(docker(engine)).label == "builtin"
    with pytest.raises(EnvironmentBroken, match="Toxiproxy server"):
        room.find_engine_image(docker(engine), "server")
    engine.held |= {f"{room.SERVER}:2.9.0": {}, f"{room.SERVER}:2.12.0": {}}
    found = room.find_engine_image(docker(engine))
    assert (found.ref, found.kind, found.label) == (f"{room.SERVER}:2.12.0", "server", "server 2.12.0")
    assert found.arguments == ("-proxy-metrics",)
    assert room.find_engine_image(docker(engine), "builtin").arguments == ()


@pytest.mark.usefixtures("unnamed")
@pytest.mark.parametrize("labels", [{}, {FILES: "those of last week"}])
def test_a_built_in_engine_of_other_files_is_refused(labels: dict[str, str]) -> None:
    engine = Engine()
    engine.held[f"{room.BUILTIN}:1"] = labels
    with pytest.raises(room.Stale, match=r"built from other files than the harness has now\n.*images build"):
        room.find_engine_image(docker(engine))


@pytest.mark.parametrize(
    ("said", "version"),
    [("toxiproxy-server version 2.11.0", "2.11.0"), ("toxiproxy-server version git", "9")],
)
def test_the_image_named_in_the_environment_comes_first(
    monkeypatch: pytest.MonkeyPatch, said: str, version: str
) -> None:
    monkeypatch.setenv(room.ENGINE_VARIABLE, "official:9")
    monkeypatch.setattr(room, "output_of", lambda *_: said)
    engine = Engine()
    engine.held[f"{room.SERVER}:2.12.0"] = {}
    found = room.find_engine_image(docker(engine))
    assert (found.ref, found.version, engine.pulled) == ("official:9", version, [("official", "9")])


def test_a_report_that_is_no_answer_is_not_taken_for_an_image() -> None:
    engine = Engine()
    engine.report = [{"status": "Downloading"}]
    with pytest.raises(EnvironmentBroken, match="does not have it"):
        room.pull(docker(engine), "a:1", quiet)


@pytest.mark.parametrize("other_name", [False, True])
def test_what_a_build_supersedes_goes_unless_another_name_holds_it(folder: Path, other_name: bool) -> None:
    engine = Engine(a_1={})
    engine.tags["old"] = ["b:1"] if other_name else []
    engine.ids["a:1"] = "sha256:old"
    build_target(docker(engine), "a:1", Build(context=str(folder)), quiet)
    assert engine.removed == ([] if other_name else ["sha256:old"])


def test_a_name_without_a_tag_supersedes_its_latest_and_no_other(folder: Path) -> None:
    engine = Engine(a_1={}, a_latest={})
    engine.ids = {"a:1": "sha256:other", "a:latest": "sha256:old"}
    engine.tags = {"other": [], "old": []}
    build_target(docker(engine), "a", Build(context=str(folder)), quiet)
    assert engine.removed == ["sha256:old"]


def test_an_image_without_a_base_of_its_own_inherits_no_offline_one(folder: Path) -> None:
    engine = Engine()
    image = build_target(docker(engine), "a:1", Build(context=str(folder)), quiet)
    assert image.labels[BASE] == ""
    (folder / "app" / "main.py").write_text("print('changed')\n")
    room.obtain(docker(engine), "a:1", Build(context=str(folder)), quiet)
    assert len(engine.built) == 2


@pytest.mark.parametrize("fresh", [True, False])
def test_fresh_takes_nothing_from_earlier_builds(folder: Path, fresh: bool) -> None:
    engine = Engine()
    build_target(docker(engine), "a:1", Build(context=str(folder)), quiet, fresh=fresh)
    assert engine.built[0]["nocache"] is fresh


def test_a_pull_that_goes_on_and_on_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PULL_S", 0.0)
    engine = Engine()
    engine.report = [{"status": "Downloading"}] * 3
    with pytest.raises(EnvironmentBroken, match="cannot pull image a:1: not here after 0 s"):
        room.pull(docker(engine), "a:1", quiet)
