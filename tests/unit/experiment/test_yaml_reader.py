"""What may come in through the one YAML reader, and what it says of the rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.errors import ExperimentError, TargetError
from harness.experiment import yaml_reader
from harness.experiment.yaml_reader import experiment_error, parse_yaml, read_yaml, target_error


def parse(text: str) -> yaml_reader.Document:
    return parse_yaml(text, "f.yaml", experiment_error)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("NO", "NO"), ("on", "on"), ("yes", "yes"), ("12:30:45", "12:30:45"), ("2026-01-02", "2026-01-02"),
        ("1_000", "1_000"), ("010", 10), ("0o17", 15), ("0x1F", 31), ("-5", -5), ("1e3", 1000.0), (".5", 0.5),
        ("true", True), ("FALSE", False), ("~", None), ("null", None), ("'5'", "5"), ('"true"', "true"),
        ("0b11", "0b11"), (".inf", ".inf"), ("<<", "<<"),
    ],
)  # fmt: skip
def test_plain_scalars_follow_yaml_1_2(written: str, value: object) -> None:
    read = parse(f"key: {written}").data["key"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("a: 1\nb: 2\na: 3", 3, 1, "'a' stands twice"),
        ("x:\n  5: 1\n  '5': 2", 3, 3, "'5' stands twice"),
        ("a: &x 1\nb: 2", 1, 4, "an anchor (&x)"),
        ("a: 1\nb: *x", 2, 4, "an alias (*x)"),
        ("a: {b: 1}\nc:\n  <<: {d: 1}", 3, 3, "a merge key"),
        ("a: !!python/object/apply:os.system ['id']", 1, 4, "a tag"),
        ("a: !x 1", 1, 4, "a tag"),
        ("a:\n\tb: 1", 2, 1, "a tab"),
        ("a:\tb", 1, 3, "a tab"),
        ("? [1]\n: 2", 1, 3, "as a key"),
        ("a: 1\n---\nb: 1", 2, 1, "a second document"),
        ("a: b: c", 1, 5, "mapping values are not allowed"),
        ("a: 'x", 1, 6, "unexpected end"),
        ("a: x\x07", 1, 5, "control character"),
        ('a: "\\0"', 1, 4, "control character"),
        ("a: " + "9" * 5000, 1, 4, "5000 digits"),
        ("", 1, 1, "empty"),
        ("# nothing\n", 1, 1, "empty"),
        ("[" * 100_000, 1, 65, "deeper than 64"),
        ("- " * 100_000 + "x", 1, 129, "deeper than 64"),
        ("- 1\n" * 60_000, 50_000, 3, "more than 50,000 nodes"),
    ],
)  # fmt: skip
def test_what_is_refused_is_told_with_its_place(text: str, line: int, column: int, says: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        parse(text)
    assert (caught.value.mark.line, caught.value.mark.column) == (line, column)
    assert says in caught.value.message
    assert str(caught.value).startswith(f"f.yaml:{line}:{column}: ")


def test_a_duplicate_key_names_the_first_one() -> None:
    with pytest.raises(ExperimentError) as caught:
        parse("a: 1\nbb:\n  c: 1\n  d: 2\n  c: 3\n")
    assert caught.value.hint == "the first one is at line 3, column 3"


@pytest.mark.parametrize(
    ("content", "line", "column", "says"),
    [
        (b"\x7fELF\x02\x01\0\0", 1, 7, "binary"),
        (b"a: 1\nb: \xff\n", 2, 4, "0xff is not UTF-8"),
        ("ключ: ".encode() + b"\xc3(", 1, 7, "not UTF-8"),
        (b"a" * (1024 * 1024 + 1), 1, 1, "too large: 1,048,577 bytes"),
    ],
)
def test_files_that_are_not_yaml(tmp_path: Path, content: bytes, line: int, column: int, says: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(content)
    with pytest.raises(ExperimentError) as caught:
        read_yaml(file, experiment_error)
    assert (caught.value.mark.line, caught.value.mark.column) == (line, column)
    assert says in caught.value.message


def test_a_file_just_within_the_limit_is_read(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("a: " + "x" * (1024 * 1024 - 3))
    assert len(read_yaml(file, experiment_error).data["a"]) == 1024 * 1024 - 3


def test_paths_that_are_not_files(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text("a: 1")
    os.mkfifo(tmp_path / "pipe")
    for path, says in [
        (tmp_path, "folder"),
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path / "demo.yaml" / "x", "cannot be read"),
        (tmp_path / ("x" * 300), "cannot be read"),
        (tmp_path / "a\0b", "cannot be read"),
    ]:
        with pytest.raises(ExperimentError, match=says):
            read_yaml(path, experiment_error)
    with pytest.raises(ExperimentError) as caught:
        read_yaml(tmp_path / "dmeo.yaml", experiment_error)
    assert caught.value.hint == f"did you mean {tmp_path / 'demo.yaml'}?"


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xef\xbb\xbfname: x\n")
    assert read_yaml(file, experiment_error).data == {"name": "x"}


def test_places_of_values_keys_and_of_what_is_not_there() -> None:
    document = parse("a:\n  - x: 1\n    yy: 'two'\n")
    assert str(document.mark(("a", 0, "yy"))) == "f.yaml:3:10"  # the first character, not the quote
    assert str(document.mark(("a", 0, "yy"), key=True)) == "f.yaml:3:5"
    assert str(document.mark(("a", 0, "missing"))) == "f.yaml:2:5"


def test_the_error_class_is_the_callers_choice() -> None:
    with pytest.raises(TargetError, match=r"^compose.yaml:2:1: the key 'a' stands twice"):
        parse_yaml("a: 1\na: 2", "compose.yaml", target_error)


def test_the_pure_loader_refuses_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_reader, "_Loader", yaml_reader.yaml.SafeLoader)
    for text in ("a: &x 1", "a: 1\na: 2", "[" * 5000, "a:\n\tb: 1", 'a: "\\UFFFFFFFF"', "a: 'x"):
        with pytest.raises(ExperimentError):
            parse(text)
    assert parse("a: [NO, 1, {b: 12:30:45}]").data == {"a": ["NO", 1, {"b": "12:30:45"}]}
