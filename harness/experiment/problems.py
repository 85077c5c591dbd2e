"""From what pydantic found to what a person needs: the place, the value, and what would be right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from harness.errors import ExperimentError, ExperimentErrors, InputError, Mark
from harness.experiment.names import nearest, suggestion
from harness.experiment.yaml_reader import Document, KeyPath

_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
    "tuple_type": "a list",
    "list_type": "a list",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


class Problems:
    """Collects errors of one document, so that all of them can be told at once."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._found: list[InputError] = []
        self._seen: set[str] = set()

    def add(self, message: str, path: KeyPath, *, key: bool = False, hint: str | None = None) -> None:
        self.take(self._document.error(message, path, key=key, hint=hint))

    def mark_in(self, path: KeyPath, offset: int) -> Mark:
        """Where character ``offset`` of the text at ``path`` stands; its start where that is not known."""
        mark = self._document.mark(path)
        literal = path in self._document.literal and path not in self._document.overridden
        return replace(mark, column=mark.column + offset) if literal else mark

    def take(self, error: InputError) -> None:
        """Add an error that was made elsewhere; the same one twice counts once."""
        if str(error) not in self._seen:
            self._seen.add(str(error))
            self._found.append(error)

    def take_invalid(
        self, error: ValidationError, at: KeyPath, model: type[BaseModel], also: Sequence[str] = ()
    ) -> None:
        """All of a pydantic error's findings; ``at`` is where the validated value stands.

        ``also``: keys that are known besides the model's own, for suggestions.
        """
        for details in error.errors(include_url=False):
            self._take_details(details, at, model, also)

    def _take_details(
        self, details: ErrorDetails, at: KeyPath, model: type[BaseModel], also: Sequence[str]
    ) -> None:
        path: KeyPath = (*at, *details["loc"])
        kind = details["type"]
        if kind == "extra_forbidden":
            known = [*keys_of(model, details["loc"][:-1]), *also]
            name = str(path[-1])
            self.add(f"unknown key {name!r}{_in(path[:-1])}", path, key=True, hint=suggestion(name, known))
        elif kind == "missing":
            self._take_missing(path, model, details["loc"][:-1], also)
        else:
            path = _existing(self._document, path)
            written = value_at(self._document.data, path)
            if written is not None:  # a key without a value is reported by itself
                self.add(f"{_dotted(path)}: {explain(details, written)}", path)

    def _take_missing(
        self, path: KeyPath, model: type[BaseModel], loc: Sequence[str | int], also: Sequence[str]
    ) -> None:
        """A missing key; where an unknown one beside it was meant for it, that one is the mistake."""
        known = [*keys_of(model, loc), *also]
        parent = value_at(self._document.data, path[:-1])
        unknown = [key for key in parent if key not in known] if isinstance(parent, Mapping) else []
        name = str(path[-1])
        meant = nearest(name, unknown)
        if meant is None:
            self.add(f"the key {name!r} is missing{_in(path[:-1])}", path[:-1])
        else:
            place = (*path[:-1], meant)
            self.add(f"unknown key {meant!r}{_in(path[:-1])}", place, key=True, hint=suggestion(meant, known))

    def raise_any(self) -> None:
        """Raise what was found, in the order of the file; nothing when nothing was."""
        others = [error for error in self._found if not isinstance(error, ExperimentError)]
        if len(others) > 1:  # a target's file: the places stand in the messages
            raise type(others[0])("\n".join(str(error) for error in others))
        if others:
            raise others[0]
        errors = [error for error in self._found if isinstance(error, ExperimentError)]
        errors.sort(key=lambda error: (error.mark.line, error.mark.column))
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise ExperimentErrors(errors)


def keys_of(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The keys a file may have at ``loc`` below ``model``."""
    for part in loc:
        inner = _model_at(model, part)
        if inner is None:
            break
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_at(model: type[BaseModel], part: str | int) -> type[BaseModel] | None:
    if isinstance(part, int):
        return model
    for name, field in model.model_fields.items():
        if part in (name, field.alias):
            return _model_in(field.annotation)
    return None


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model within ``Model``, ``tuple[Model, ...]`` or ``Model | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None


def explain(details: ErrorDetails, value: object) -> str:
    """One finding of pydantic about ``value`` (as it was written) as a sentence."""
    kind, context = details["type"], details.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind in _KINDS:
        return f"{shown(value)} is not {_KINDS[kind]}{_quote_hint(kind, value)}"
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"{shown(value)} is out of range: {words} {context[key]:g} is expected"
    if kind == "literal_error":
        near = nearest(str(value), [word.strip("'") for word in _words(context["expected"])])
        hint = f"; did you mean {near!r}?" if near else ""
        return f"{shown(value)} is not one of {context['expected']}{hint}"
    if kind == "string_pattern_mismatch":
        return f"{shown(value)} may hold small letters, digits and hyphens only, at most 60"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    return f"{shown(value)}: {details['msg'][:1].lower()}{details['msg'][1:]}"


def _words(expected: str) -> list[str]:
    return expected.replace(" or ", ", ").split(", ")


def _quote_hint(kind: str, value: object) -> str:
    if kind == "string_type" and isinstance(value, int | float):
        return "; put it in quotes"
    if kind in ("int_type", "float_type") and isinstance(value, str):
        return "; write it without quotes" if value.replace(".", "", 1).isdigit() else ""
    return ""


def shown(value: object) -> str:
    """A value for a message: short, and as YAML writes it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def value_at(data: Any, path: KeyPath) -> Any:
    """The value at a path, or None."""
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _existing(document: Document, path: KeyPath) -> KeyPath:
    """Union and tuple locations have parts of pydantic's own at the end; cut them off."""
    while path and path not in document.values:
        path = path[:-1]
    return path


def _dotted(path: KeyPath) -> str:
    return ".".join(str(part) for part in path) or "the file"


def _in(path: KeyPath) -> str:
    return f" in {_dotted(path)}" if path else ""
