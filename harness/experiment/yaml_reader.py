"""The one door by which YAML comes in: safe, bounded, strict, and it remembers where everything stood.

Experiments, suites and a target's ``compose.yaml`` are read here. What may not pass: files over
1 MiB, more than 50,000 nodes, nesting deeper than 64, anchors, aliases, merge keys, tags, duplicate
keys, tabs between tokens, control characters, anything that is not UTF-8. Plain scalars follow the
core schema of YAML 1.2, so ``NO``, ``on`` and ``12:30:45`` stay text.

The tree is built from PyYAML's events rather than by its composer, because that one recurses before
anybody can count. Which exception is raised is the caller's choice: pass ``experiment_error`` or
``target_error``.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from harness.errors import ExperimentError, InputError, Mark, TargetError

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
MAX_NODES = 50_000
MAX_INTEGER_DIGITS = 18

KeyPath = tuple[str | int, ...]
Place = tuple[int, int]  # line, column; both from 1
ErrorAt = Callable[[str, Mark, str | None], InputError]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def experiment_error(message: str, mark: Mark, hint: str | None) -> ExperimentError:
    """For experiments and suites."""
    return ExperimentError(message, mark, hint=hint)


def target_error(message: str, mark: Mark, hint: str | None) -> TargetError:
    """For a target's ``compose.yaml``: the place goes into the message."""
    return TargetError(f"{mark}: {message}", hint=hint)


@dataclass(frozen=True)
class Document:
    """A YAML file as plain data (dicts with text keys, lists, str, int, float, bool, None) with places.

    ``values`` and ``keys`` give the place of the value, and of its key, at a path such as
    ``("faults", 0, "for")``; of a quoted text, of its first character. ``literal`` are the texts that
    stand in the file letter by letter: not folded over lines, without escapes. ``spelt`` is how plain
    values that are no text (a number, true, nothing) are written. ``overridden`` are the places of values
    that were set from elsewhere (the command line).
    """

    file: str
    data: Any
    error_at: ErrorAt
    values: Mapping[KeyPath, Place] = field(default_factory=dict)
    keys: Mapping[KeyPath, Place] = field(default_factory=dict)
    literal: Collection[KeyPath] = frozenset()
    spelt: Mapping[KeyPath, str] = field(default_factory=dict)
    overridden: Mapping[KeyPath, Mark] = field(default_factory=dict)

    def mark(self, path: KeyPath, *, key: bool = False) -> Mark:
        """Where the value (or its key) at ``path`` stands; the nearest parent when it does not exist."""
        parents = [path[:length] for length in range(len(path), -1, -1)]
        for here in parents:
            if here in self.overridden:
                return self.overridden[here]
        for here in parents:
            table = self.keys if key and here in self.keys else self.values
            if here in table:
                return Mark(self.file, *table[here])
        return Mark(self.file, 1, 1)

    def error(
        self, message: str, path: KeyPath = (), *, key: bool = False, hint: str | None = None
    ) -> InputError:
        """An error of the document's own class at ``path``, to be raised by the caller."""
        return self.error_at(message, self.mark(path, key=key), hint)


def read_yaml(path: Path, error_at: ErrorAt) -> Document:
    """Read one YAML document from a regular file. Raises what ``error_at`` makes, with the place."""
    return parse_yaml(_read_text(path, error_at), str(path), error_at)


def parse_yaml(text: str, file: str, error_at: ErrorAt) -> Document:
    """Parse one YAML document; ``file`` is only for messages."""
    bad = _CONTROL.search(text)
    if bad:
        raise error_at(
            f"a control character ({bad.group()!r})",
            _mark_of_offset(file, text, bad.start()),
            "an experiment is plain UTF-8 text",
        )
    try:
        return _Builder(text, file, error_at).build()
    except yaml.MarkedYAMLError as problem:
        raise _syntax_error(problem, text, file, error_at) from None
    except (yaml.YAMLError, ValueError, OverflowError) as problem:
        raise error_at(f"this is not YAML: {problem}", Mark(file, 1, 1), None) from None


def resolve_scalar(text: str) -> str | int | float | bool | None:
    """A plain scalar by the core schema of YAML 1.2. Raises ValueError for an absurdly long number."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        if len(text) > MAX_INTEGER_DIGITS + 2:
            raise ValueError(f"a number of {len(text)} digits")
        base = 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10
        return int(text, base)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _read_text(path: Path, error_at: ErrorAt) -> str:
    start = Mark(str(path), 1, 1)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise error_at("this is a folder, not a file", start, "name a .yaml file in it")
        if not stat.S_ISREG(status.st_mode):
            raise error_at("this is not a regular file", start, None)
        with path.open("rb") as source:
            raw = source.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise error_at("there is no such file", start, _similar_file(path)) from None
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise error_at(f"cannot be read: {reason}", start, None) from None
    if len(raw) > MAX_BYTES:
        raise error_at(
            f"the file is too large: {status.st_size:,} bytes", start, f"at most {MAX_BYTES:,} bytes are read"
        )
    return _decode(raw, path, error_at)


def _decode(raw: bytes, path: Path, error_at: ErrorAt) -> str:
    nul = raw.find(b"\0")
    if nul >= 0:
        line = raw.count(b"\n", 0, nul) + 1
        column = nul - raw.rfind(b"\n", 0, nul)
        raise error_at(
            "this is a binary file (it has a zero byte here)",
            Mark(str(path), line, column),
            "a YAML file in UTF-8 is expected",
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        good = problem.object[: problem.start].decode("utf-8", "replace")
        byte = problem.object[problem.start]
        raise error_at(
            f"byte 0x{byte:02x} is not UTF-8",
            _mark_of_offset(str(path), good, len(good)),
            "save the file as UTF-8",
        ) from None


def _similar_file(path: Path) -> str | None:
    from difflib import get_close_matches

    try:
        near = get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], 1)
    except (OSError, ValueError):
        return None
    return f"did you mean {path.parent / near[0]}?" if near else None


def _mark_of_offset(file: str, text: str, offset: int) -> Mark:
    before = text[:offset]
    return Mark(file, before.count("\n") + 1, offset - before.rfind("\n"))


def _syntax_error(problem: yaml.MarkedYAMLError, text: str, file: str, error_at: ErrorAt) -> InputError:
    where = problem.problem_mark or problem.context_mark
    if where is None:
        return error_at(f"this is not YAML: {problem.problem}", Mark(file, 1, 1), None)
    mark = Mark(file, where.line + 1, where.column + 1)
    lines = text.splitlines()
    line = lines[where.line] if where.line < len(lines) else ""
    indent = line[: len(line) - len(line.lstrip(" \t"))]
    if "\t" in indent:
        place = Mark(file, mark.line, indent.index("\t") + 1)
        return error_at("a tab in the indentation", place, "YAML is indented with spaces")
    context = f" ({problem.context})" if problem.context else ""
    shown = f": {line.strip()[:60]!r}" if line.strip() else ""
    hint = None
    if problem.problem and "mapping values are not allowed" in problem.problem:
        hint = "a colon inside a value needs quotes around the value, and keys of one level one indentation"
    return error_at(f"this is not YAML: {problem.problem}{context}{shown}", mark, hint)


@dataclass
class _Open:
    """A collection that is being filled. ``key`` is the key whose value comes next."""

    path: KeyPath
    content: dict[str, Any] | list[Any]
    key: str | None = None

    def next_path(self) -> KeyPath:
        if isinstance(self.content, list):
            return (*self.path, len(self.content))
        return (*self.path, self.key) if self.key is not None else self.path

    def add(self, value: Any) -> None:
        if isinstance(self.content, list):
            self.content.append(value)
        elif self.key is not None:
            self.content[self.key] = value
            self.key = None


class _Builder:
    """Builds the tree from events with an explicit stack, counting as it goes."""

    def __init__(self, text: str, file: str, error_at: ErrorAt) -> None:
        self._text = text
        self._lines = text.split("\n")
        self._file = file
        self._error_at = error_at
        self._values: dict[KeyPath, Place] = {}
        self._keys: dict[KeyPath, Place] = {}
        self._literal: set[KeyPath] = set()
        self._spelt: dict[KeyPath, str] = {}
        self._stack: list[_Open] = []
        self._root: list[Any] = []
        self._nodes = 0

    def build(self) -> Document:
        for event in self._events():
            self._take(event)
        if not self._root or (self._root[0] is None and not self._values):
            raise self._error_at("the file is empty", Mark(self._file, 1, 1), None)
        return Document(
            self._file,
            self._root[0],
            self._error_at,
            self._values,
            self._keys,
            frozenset(self._literal),
            self._spelt,
        )

    def _events(self) -> Iterator[Any]:
        loader = _Loader(self._text)
        try:
            while loader.check_event():
                yield loader.get_event()
        finally:
            loader.dispose()

    def _take(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent):
            raise self._fail(event, f"an alias (*{event.anchor})", "aliases are not allowed; write it out")
        if isinstance(event, yaml.DocumentStartEvent) and self._root:
            raise self._fail(event, "a second document in one file", "one file holds one document")
        if isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            self._close()
        elif isinstance(event, yaml.NodeEvent):
            self._check(event)
            self._node(event)

    def _check(self, event: Any) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._fail(event, f"more than {MAX_NODES:,} nodes", "split the file")
        if event.anchor:
            raise self._fail(event, f"an anchor (&{event.anchor})", "anchors and aliases are not allowed")
        if event.tag:
            raise self._fail(event, f"a tag ({event.tag})", "tags are not allowed; plain values only")
        before = self._line(event)[: event.start_mark.column]
        if "\t" in before[len(before.rstrip(" \t")) :]:
            column = before.rindex("\t") + 1
            raise self._error_at(
                "a tab before a value",
                Mark(self._file, event.start_mark.line + 1, column),
                "YAML is indented and separated with spaces",
            )

    def _node(self, event: Any) -> None:
        parent = self._stack[-1] if self._stack else None
        if parent is not None and isinstance(parent.content, dict) and parent.key is None:
            self._key(event, parent)
            return
        path = parent.next_path() if parent else ()
        line, column = _place_of(event)
        if isinstance(event, yaml.ScalarEvent) and event.style in ("'", '"'):
            column += 1
        self._values[path] = (line, column)
        if isinstance(event, yaml.ScalarEvent):
            if self._line(event).startswith(event.value, column - 1):
                self._literal.add(path)
            value = self._scalar(event)
            if not isinstance(value, str):
                self._spelt[path] = event.value
            self._place(value)
            return
        if len(self._stack) >= MAX_DEPTH:
            raise self._fail(event, f"nesting deeper than {MAX_DEPTH}", None)
        content: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._stack.append(_Open(path, content))

    def _key(self, event: Any, parent: _Open) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            raise self._fail(event, "a list or mapping as a key", "keys are plain text")
        key = self._clean(event)
        if key == "<<" and not event.style:
            raise self._fail(event, "a merge key (<<)", "merges are not allowed; write the keys out")
        path = (*parent.path, key)
        if path in self._keys:
            line, column = self._keys[path]
            raise self._fail(
                event, f"the key {key!r} stands twice", f"the first one is at line {line}, column {column}"
            )
        self._keys[path] = _place_of(event)
        parent.key = key

    def _scalar(self, event: Any) -> Any:
        text = self._clean(event)
        if event.style:
            return text
        try:
            return resolve_scalar(text)
        except ValueError as problem:
            raise self._fail(event, str(problem), None) from None

    def _clean(self, event: Any) -> str:
        text: str = event.value
        if _CONTROL.search(text):
            raise self._fail(event, f"a control character in {text[:40]!r}", None)
        return text

    def _close(self) -> None:
        self._place(self._stack.pop().content)

    def _place(self, value: Any) -> None:
        if self._stack:
            self._stack[-1].add(value)
        else:
            self._root.append(value)

    def _line(self, event: Any) -> str:
        """The line where it starts; YAML knows more line breaks than we, so there may be none."""
        number = event.start_mark.line
        return self._lines[number] if number < len(self._lines) else ""

    def _fail(self, event: Any, message: str, hint: str | None) -> InputError:
        return self._error_at(message, Mark(self._file, *_place_of(event)), hint)


def _place_of(event: Any) -> Place:
    return (event.start_mark.line + 1, event.start_mark.column + 1)
