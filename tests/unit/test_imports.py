"""Who may import whom, beyond the layers of the harness: the judge and the judged share no code.

Read from the sources, so that an import inside a function counts like any other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HARNESS = sorted((ROOT / "harness").rglob("*.py"))
TARGETS = sorted((ROOT / "targets").rglob("*.py"))
BILLING = ROOT / "targets" / "billing"

# Everything that must be imported first in a process, for it patches it, lives in the load child.
PATCHING = ("locust", "gevent", "geventhttpclient")
CHILD = tuple(f"harness.load.{name}" for name in ("child", "engine", "recorder", "sessions", "workload"))


def imported(source: str) -> Iterator[str]:
    """Every name that a source imports, with its module: ``from a import b`` gives ``a.b``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full, so that they can be checked"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def within(name: str, modules: Iterable[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def taken(files: Iterable[Path], modules: Iterable[str]) -> set[str]:
    """``file: name`` of all imports of these modules, or of something in them."""
    modules = tuple(modules)
    return {
        f"{file.relative_to(ROOT)}: {name}"
        for file in files
        for name in imported(file.read_text(encoding="utf-8"))
        if within(name, modules)
    }


def top_level_of_targets() -> set[str]:
    """What a target's code is imported as: packages and modules in its folder and in ``services``."""
    folders = [folder for target in (ROOT / "targets").iterdir() for folder in (target, target / "services")]
    places = [place for folder in folders if folder.is_dir() for place in folder.iterdir()]
    return {"targets"} | {p.stem for p in places if p.suffix == ".py" or (p / "__init__.py").is_file()}


def sources(*packages: str) -> list[Path]:
    return [file for package in packages for file in sorted((BILLING / package).rglob("*.py"))]


def test_the_harness_imports_nothing_of_a_target() -> None:
    judged = top_level_of_targets()
    assert {"targets", "billing", "witnesses", "infra", "mutants", "locustfile", "traffic"} <= judged
    assert taken(HARNESS, judged) == set()


def test_targets_import_of_the_harness_only_what_a_locustfile_is_written_with() -> None:
    # A locustfile may be made of several modules, in a package ``traffic`` beside it.
    locustfiles = [file for file in TARGETS if file.stem == "locustfile" or file.parent.name == "traffic"]
    others = [file for file in TARGETS if file not in locustfiles]
    assert taken(others, ["harness"]) == set()
    allowed = {use for use in taken(locustfiles, ["harness"]) if ": harness.load.workload." in use}
    assert allowed and taken(locustfiles, ["harness"]) == allowed


def test_only_the_load_child_is_patched() -> None:
    inside = [ROOT / (name.replace(".", "/") + ".py") for name in CHILD]
    others = [file for file in HARNESS if file not in inside]
    assert taken(inside, ["locust"])
    assert taken(others, PATCHING) == set()
    assert taken(others, CHILD) == set(), "to import one of these is to import Locust"


@pytest.mark.parametrize(
    ("packages", "strangers"),
    [
        (("witnesses",), ("billing", "infra", "mutants")),
        (("services",), ("witnesses", "infra", "mutants")),
        (("infra",), ("witnesses", "billing", "mutants")),
        (("mutants",), ("witnesses", "infra")),
    ],
)
def test_the_oracle_shares_no_code_with_the_system(
    packages: tuple[str, ...], strangers: tuple[str, ...]
) -> None:
    files = sources(*packages)
    assert len(files) > 1
    assert taken(files, strangers) == set()


def test_every_way_to_import_is_seen() -> None:
    source = "import a.b, c as d\nfrom e.f import g\ndef h():\n    from i import j\nclass K:\n    import l\n"
    assert sorted(imported(source)) == ["a.b", "c", "e.f.g", "i.j", "l"]
    assert within("billing.edge.mode", ["billing"]) and not within("billings.edge", ["billing"])
