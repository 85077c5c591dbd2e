"""The JSON Schema of experiments and suites, for editors; made from the models that check the files.

``experiments/schema.json`` is this function's output (``write_schema``); a test fails when it is
stale. Names of the target (kinds, services, moments) are not in it: it serves every target.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.experiment.units import DURATION_PATTERN, RATE_PATTERN, show_duration
from harness.experiment.vocabulary import FaultKind
from harness.experiment.written import WrittenExperiment, WrittenFault, WrittenSuite

_QUANTITIES = {"duration": DURATION_PATTERN, "rate": RATE_PATTERN}
_EXAMPLES = {"duration": ["250ms", "10s", "2m"], "rate": ["120/s", "90/min"]}
_DROPPED_FROM_QUANTITIES = (
    "ge", "gt", "le", "lt", "type", "pattern", "examples", "default", "title"
)  # fmt: skip


def experiment_schema(faults: Mapping[str, type[FaultKind]]) -> dict[str, Any]:
    """The schema as JSON data; one alternative of ``faults`` for each fault."""
    schema = WrittenExperiment.model_json_schema(by_alias=True)
    suite = WrittenSuite.model_json_schema(by_alias=True)
    definitions = schema.pop("$defs")
    common = WrittenFault.model_json_schema(by_alias=True)
    names = sorted(faults)
    for name in names:
        definitions[f"fault-{name}"] = _fault_schema(faults[name], common, definitions)
    definitions["WrittenFault"] = {
        "type": "object",
        "description": "One fault; its own keys depend on `fault`",
        "required": ["fault"],
        "properties": {"fault": {"enum": names}},
        "oneOf": [{"$ref": f"#/$defs/fault-{name}"} for name in names],
    }
    definitions["common"] = {"$comment": "Keys of every fault", **common["properties"]}
    definitions |= suite.pop("$defs", {})
    definitions["experiment"] = schema
    definitions["suite"] = suite
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A Ledgerquake experiment or suite",
        "type": "object",
        "if": {"required": ["suite"]},
        "then": {"$ref": "#/$defs/suite"},
        "else": {"$ref": "#/$defs/experiment"},
        "$defs": dict(sorted(definitions.items())),
    }
    cleaned: dict[str, Any] = _clean(document)
    for name, pattern in _QUANTITIES.items():
        cleaned["$defs"][name] = {"type": "string", "pattern": pattern, "examples": _EXAMPLES[name]}
    return cleaned


def schema_text(faults: Mapping[str, type[FaultKind]]) -> str:
    """The committed file's content."""
    return json.dumps(experiment_schema(faults), indent=2, ensure_ascii=False) + "\n"


def write_schema(path: Path, faults: Mapping[str, type[FaultKind]]) -> None:
    path.write_text(schema_text(faults), encoding="utf-8")


def _fault_schema(
    kind: type[FaultKind], common: Mapping[str, Any], definitions: dict[str, Any]
) -> dict[str, Any]:
    """One fault: the common keys and its own. Definitions its parameters need are added."""
    own = kind.Params.model_json_schema(by_alias=True)
    definitions |= own.pop("$defs", {})
    properties: dict[str, Any] = {key: {"$ref": f"#/$defs/common/{key}"} for key in common["properties"]}
    properties["fault"] = {"const": kind.name, "description": _first_line(kind.__doc__)}
    required = [*common["required"], *own.get("required", [])]
    if kind.duration == "none":
        del properties["for"]
    elif kind.duration == "required":
        required.append("for")
    properties |= own.get("properties", {})
    return {
        "type": "object",
        "description": _first_line(kind.__doc__),
        "properties": properties,
        "required": sorted(required),
        "additionalProperties": False,
    }


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def _clean(value: Any) -> Any:
    """Without what editors only show as noise, and with quantities as references.

    A quantity is text in a file (``10s``), so numeric bounds and defaults would say nothing about it.
    """
    if isinstance(value, list):
        return [_clean(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    options = [inner for inner in value.get("anyOf", []) if inner != {"type": "null"}]
    if len(options) == 1:
        value = {**{key: inner for key, inner in value.items() if key != "anyOf"}, **options[0]}
    for name, pattern in _QUANTITIES.items():
        if value.get("pattern") == pattern:
            return _reference(name, value)
    drop = {"title"} if isinstance(value.get("title"), str) and "$schema" not in value else set()
    if value.get("default", "") is None:
        drop.add("default")
    return {key: _clean(inner) for key, inner in value.items() if key not in drop}


def _reference(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: inner for key, inner in value.items() if key not in _DROPPED_FROM_QUANTITIES}
    default = value.get("default")
    if isinstance(default, int | float):
        kept["default"] = show_duration(default) if name == "duration" else f"{default:g}/s"
    return {"$ref": f"#/$defs/{name}", **kept}
