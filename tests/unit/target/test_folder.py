"""A target folder is read whole, and what is wrong in it is told with its place."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from harness.errors import TargetError
from harness.experiment.target import TargetSpec
from harness.fault.load import Surge, SurgeParams
from harness.target.docker.layout import lay_out
from harness.target.folder import load_mutants, load_target

ROOT = Path(__file__).parents[3]
TINY = ROOT / "tests" / "conformance" / "runtime" / "target"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the tiny target, to be spoilt."""
    return Path(shutil.copytree(TINY, tmp_path / "tiny"))


def change(folder: Path, old: str, new: str) -> None:
    file = folder / "compose.yaml"
    text = file.read_text()
    assert old in text, old
    file.write_text(text.replace(old, new, 1))


def test_the_reference_stack_is_read_whole() -> None:
    spec = load_target(ROOT / "targets" / "billing")
    assert TargetSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.links["db-1->db-2:8008"].model_dump() == {
        "name": "db-1->db-2:8008",
        "client": "db-1",
        "server": "db-2",
        "port": 8008,
        "protocol": "http",
    }
    assert spec.services["db-1"].advertise == {5432: "db-2", 8008: "db-2"}
    assert spec.services["db-1"].volumes == {"db-1-data": "/data"}
    assert spec.services["psp-a"].witness and not spec.services["payments"].witness
    assert spec.services["payments"].depends_on == ("db-1", "db-2", "broker")
    assert spec.jobs["tap-in"].endpoint.path == "/emit?files=5&events=40&period=P1"
    assert spec.roles["db-primary"].members == ("db-1", "db-2")
    assert {log.table for log in spec.witness_logs} == {"psp", "gateway", "partner"}
    assert spec.invariants["PAY1"].file == "invariants/PAY1.sql" and spec.invariants["PAY1"].applies
    assert load_mutants(spec)


MISTAKES = {
    "a key of Compose that is not supported": (
        "    expose: [8080]\n    volumes:",
        "    privileged: true\n    expose: [8080]\n    volumes:",
        r"compose\.yaml:10:5: unknown key 'privileged' in services\.store",
    ),
    "a misspelt key": ("depends_on: [store]", "depend_on: [store]", r"did you mean 'depends_on'"),
    "a misspelt key within the extension": ("ready: {port: 8080", "ready: {prot: 8080", r":14:15: .*'prot'"),
    "a misspelt key of a role": ("path: /lead}", "pathh: /lead}", r"'pathh' in x-ledgerquake\.roles\.leader"),
    "a service that does not exist": (
        "depends_on: [store]",
        "depends_on: [stor]",
        r":22:18: no service 'stor'",
    ),
    "a port that is not exposed": (
        "front->store: {port: 8080}",
        "front->store: {port: 80}",
        "not expose port 80",
    ),
    "a link from nowhere": ("back->store:", "bac->store:", "no service 'bac'"),
    "an address that is no declared link": (
        "http://store:8080",
        "http://back:8080",
        "back:8080 is no declared link",
    ),
    "an unknown entry": ("entry: client->front", "entry: client->fron", "did you mean 'client->front'"),
    "a role of strangers": ("members: [front, back]", "members: [front, bac]", "no service 'bac'"),
    "one edge twice": ("links:\n", 'links:\n    "back->store:8080": {port: 8080}\n', "the same edge as"),
    "a folder of the machine": ('["store-data:/data"]', '["./data:/data"]', "a named volume is written"),
    "a volume that is not declared": (
        '["store-data:/data"]',
        '["stored-data:/data"]',
        "no volume 'stored-data'",
    ),
    "a variable of the caller": ("/data/kept", "$HOME/kept", "variables are not supported"),
    "a circle": (
        "    expose: [8080]\n    volumes",
        "    depends_on: [front]\n    expose: [8080]\n    volumes",
        "circle",
    ),
    "a missing part": ("  entry: client->front\n", "", "'entry' is missing"),
    "an alias": ("[front, back]", "&all [front, back]", "an anchor"),
    "a file outside": ("  entry:", "  locustfile: ../../x.py\n  entry:", "outside the target folder"),
    "a file that is not there": (
        "  entry:",
        "  locustfile: locustfil.py\n  entry:",
        "there is no 'locustfil.py'",
    ),
    "text for a number": (
        "expose: [8080]",
        "expose: ['8080']",
        "'8080' is not a whole number; write it without quotes",
    ),
    "a list for the services": ("services:\n", "services: []\nx:\n", "is not a mapping"),
    "SQL without a database": (
        "  functions:",
        "  moments: {late: {sql: select true}}\n  functions:",
        r"evidence\.sql is missing",
    ),
}


NAMES = {
    "toxiproxy": r"compose\.yaml:37:3: 'toxiproxy' is the link engine's own name",
    "Back": r"compose\.yaml:37:3: 'Back' can be no host name",
    "back.one": r"'back\.one' can be no host name\n.*small letters, digits, - and _ between them, at most 63",
    "back-": r"'back-' can be no host name",
    "b" * 64: r"'b{64}' can be no host name",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_service_that_docker_could_not_call_so(folder: Path, name: str) -> None:
    file = folder / "compose.yaml"
    head = "  back:\n"
    line = file.read_text().split(head)[0].count("\n") + 1
    file.write_text(re.sub(r"\bback\b", name, file.read_text()))
    with pytest.raises(TargetError, match=NAMES[name].replace("37", str(line))):
        load_target(folder)


@pytest.mark.parametrize("name", ["b" * 63, "back_2-b", "9b"])
def test_a_service_that_docker_can_call_so(folder: Path, name: str) -> None:
    file = folder / "compose.yaml"
    file.write_text(re.sub(r"\bback\b", name, file.read_text()))
    assert name in load_target(folder).services


def test_where_load_enters_stands_no_service(folder: Path) -> None:
    change(folder, "entry: client->front", "entry: back->front")
    change(folder, "    client->front: {port: 8080}", "    back->front: {port: 8080}")
    with pytest.raises(TargetError, match=r":\d+:5: load enters here, and 'back' is a service"):
        load_target(folder)


def test_where_load_enters_the_link_engine_has_its_port(folder: Path) -> None:
    file = folder / "compose.yaml"
    own = file.read_text().replace("8080", "8474")
    file.write_text(own)
    with pytest.raises(TargetError, match=r":\d+:\d+: port 8474 of the entry is the link engine's own"):
        load_target(folder)
    front = file.read_text().replace("client->front: {port: 8474}", "client->front: {port: 80}")
    file.write_text(front.replace("expose: [8474]", "expose: [8474, 80]"))
    assert load_target(folder).links["front->store"].port == 8474  # another network: nobody minds


ANOTHER_WAY = "entry: client->front\n  entries: {side: client->back}"
BACK = "    client->front: {port: 8080}\n    client->back: {port: 8080}"


def another_way_in(folder: Path) -> None:
    change(folder, "entry: client->front", ANOTHER_WAY)
    change(folder, "    client->front: {port: 8080}", BACK)


def test_more_than_one_way_in(folder: Path) -> None:
    assert load_target(folder).ways_in == ("client->front",)
    another_way_in(folder)
    spec = load_target(folder)
    assert spec.entries == {"side": "client->back"}
    assert spec.ways_in == ("client->front", "client->back")
    layout = lay_out(spec)  # one port, two servers: each way in a network of its own
    assert layout.of_link["client->back"] != layout.of_link["client->front"]
    assert {layout.of_link[link].client for link in spec.ways_in} == {"client"}
    assert Surge.touches(SurgeParams(factor=2), spec) == spec.ways_in


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "{side: client->back}",
            "{side: client->bak}",
            r":\d+:19: no link 'client->bak'\n.*mean 'client->back'",
        ),
        (
            "  entries: {side: client->back}\n",
            "",
            r":\d+:5: load enters from 'client', and neither entry nor",
        ),
        (
            "{side: client->back}",
            "{side: back->store}",
            r":\d+:5: load enters from 'client'\n.*client->store is",
        ),
        ("    client->back: {port: 8080}", "    clint->back: {port: 8080}", "no service 'clint'"),
    ],
)
def test_a_wrong_way_in_is_told_with_its_place(folder: Path, old: str, new: str, said: str) -> None:
    another_way_in(folder)
    change(folder, old, new)
    with pytest.raises(TargetError, match=said):
        load_target(folder)


@pytest.mark.parametrize(("old", "new", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_told_with_its_place(folder: Path, old: str, new: str, said: str) -> None:
    change(folder, old, new)
    with pytest.raises(TargetError, match=said) as caught:
        load_target(folder)
    assert f"{folder / 'compose.yaml'}:" in str(caught.value)


def test_all_mistakes_are_told_at_once(folder: Path) -> None:
    change(folder, "depends_on: [store]", "depends_on: [stor]")
    change(folder, "members: [front, back]", "members: [front, bac]")
    with pytest.raises(TargetError) as caught:
        load_target(folder)
    assert "'stor'" in str(caught.value) and "'bac'" in str(caught.value)


def test_a_file_without_a_name_has_that_of_its_folder(folder: Path) -> None:
    change(folder, "name: tiny\n", "")
    assert load_target(folder.rename(folder.with_name("small"))).name == "small"
    with pytest.raises(TargetError, match="no name is written, and that of the folder, 'Of Mine'"):
        load_target(folder.with_name("small").rename(folder.with_name("Of Mine")))


def test_a_folder_without_a_compose_file(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="there is no such file"):
        load_target(tmp_path)


def test_heads_of_invariants(folder: Path) -> None:
    (folder / "invariants").mkdir()
    (folder / "invariants" / "a.sql").write_text(
        "-- id: X1\n-- title: It holds\n-- applies: relay, crash\n-- needs: select 1\nselect 1 -- id: Y\n"
    )
    invariant = load_target(folder).invariants["X1"]
    assert (invariant.title, invariant.applies, invariant.file) == (
        "It holds",
        ("relay", "crash"),
        "invariants/a.sql",
    )
    (folder / "invariants" / "b.sql").write_text("-- id: X1\n-- title: Again\n-- needs: select 1\nselect 1\n")
    with pytest.raises(TargetError, match=r"b\.sql: the id 'X1' is that of invariants/a\.sql too"):
        load_target(folder)
    (folder / "invariants" / "b.sql").write_text("-- titel: Again\nselect 1\n")
    with pytest.raises(TargetError, match=r"b\.sql:1:1: the head lacks id and title and needs"):
        load_target(folder)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("service: frnt", r"bug\.yaml:3:10: no service 'frnt'\n.*did you mean 'front'"),
        ("caught_by: X2", "no invariant 'X2'"),
        ("name: other", "is not that of the file, 'bug'"),
        ("severity: high", "unknown key 'severity'"),
    ],
)
def test_mutants(folder: Path, line: str, said: str) -> None:
    (folder / "invariants").mkdir()
    (folder / "invariants" / "a.sql").write_text(
        "-- id: X1\n-- title: It holds\n-- needs: select 1\nselect 1\n"
    )
    (folder / "mutants").mkdir()
    good = {
        "name": "bug",
        "title": "A bug",
        "service": "front",
        "process": "python -m bug",
        "caught_by": "X1",
        "experiment": "crash",
    }
    file = folder / "mutants" / "bug.yaml"
    file.write_text("".join(f"{key}: {value}\n" for key, value in good.items()))
    spec = load_target(folder)
    assert load_mutants(spec)["bug"].process == "python -m bug"
    key, _, value = line.partition(": ")
    file.write_text("".join(f"{key}: {value}\n" for key, value in {**good, key: value}.items()))
    with pytest.raises(TargetError, match=said):
        load_mutants(spec)
