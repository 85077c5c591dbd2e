"""``--set load.rate=50/s``: another value for one key, before anything is checked.

The path goes by keys and, in lists, by numbers from 0 (``faults.0.for=5s``). The value is YAML, so
lists and mappings can be set too: ``load.mix={topup: 1}``. A setting of the target needs nothing above it
in the file: ``settings.edge.LOG_LEVEL=debug`` makes the mappings that are not there.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.errors import InputError, Mark
from harness.experiment.names import suggestion
from harness.experiment.settings import SETTINGS
from harness.experiment.yaml_reader import MAX_INTEGER_DIGITS, Document, KeyPath, parse_yaml


def apply_overrides(document: Document, overrides: Sequence[str]) -> Document:
    """A document with the values replaced, in order. Raises the document's error, naming the key."""
    for text in overrides:
        document = _apply(document, text)
    return document


def _apply(document: Document, text: str) -> Document:
    file = f"--set {text}"
    name, equals, written = text.partition("=")

    def wrong(message: str, hint: str | None = None, column: int = 1) -> InputError:
        return document.error_at(message, Mark(file, 1, column), hint)

    if not equals or not name.strip():
        raise wrong("expected key=value", "such as load.rate=50/s or faults.0.for=5s")
    if not written.strip():
        raise wrong(f"{name!r} gets no value", f"{name}=VALUE", len(name) + 2)
    try:
        given = parse_yaml(written, file, document.error_at)
    except InputError as error:
        raise wrong(error.message, error.hint, len(name) + 2) from None
    data = copy.deepcopy(document.data)
    path: KeyPath = ()
    made: list[KeyPath] = []
    parts = name.strip().split(".")
    here = data
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if parts[0] == SETTINGS and not last and isinstance(here, dict) and part not in here:
            here[part] = {}
            made.append((*path, part))
        step = _step(here, part, ".".join(parts[:index]), last, wrong)
        path = (*path, step)
        if last:
            here[step] = given.data
        else:
            here = here[step]
    mark = Mark(file, 1, len(name) + 2)
    spelt = {at: text for at, text in document.spelt.items() if at[: len(path)] != path}
    spelt |= {(*path, *at): text for at, text in given.spelt.items()}
    marks = dict.fromkeys((*made, path), mark)
    return replace(document, data=data, spelt=spelt, overridden={**document.overridden, **marks})


def _step(here: Any, part: str, parents: str, last: bool, wrong: Any) -> str | int:
    """The key or index that ``part`` means in ``here``."""
    place = repr(parents) if parents else "the file"
    if isinstance(here, list):
        if not part.isdecimal() or len(part) > MAX_INTEGER_DIGITS or int(part) >= len(here):
            known = f"0 to {len(here) - 1}" if here else "nothing: it is empty"
            raise wrong(f"{place} has no element {part!r}", f"a list; its elements are {known}")
        return int(part)
    if not isinstance(here, dict):
        raise wrong(f"{place} is a single value, it has no {part!r} in it")
    if part not in here and not last:
        raise wrong(f"{place} has no key {part!r}", suggestion(part, here))
    return part
