"""The committed JSON Schema, and the catalogue of experiments against it."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from harness.experiment.schema import schema_text
from harness.experiment.written import COMMON_KEYS
from harness.experiment.yaml_reader import experiment_error, parse_yaml, read_yaml
from harness.fault.registry import FAULTS
from tests.unit.experiment.test_loader import MISTAKES
from tests.unit.experiment.words import GOOD, ROOT

COMMITTED = ROOT / "experiments" / "schema.json"
FILES = sorted((ROOT / "experiments").rglob("*.yaml"))


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json.loads(COMMITTED.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_committed_schema_is_what_the_code_makes() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == schema_text(FAULTS), (
        "experiments/schema.json is stale: run python -m harness.cli.schema"
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_committed_file_is_valid_by_the_schema(file: Any, validator: Any) -> None:
    validator.validate(read_yaml(file, experiment_error).data)


def test_the_schema_takes_what_the_loader_takes(validator: Any) -> None:
    validator.validate(parse_yaml(GOOD, "good", experiment_error).data)


# Mistakes an editor can see: those in the shape of the file, not in names of the target or in sums of times.
SHAPE = (
    "unknown key",
    "unknown fault",
    "no unit",
    "is not a duration",
    "is not one of",
    "is missing",
    "takes no",
)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [(right, wrong) for right, wrong, _, says, _ in MISTAKES if any(shape in says for shape in SHAPE)],
    ids=lambda text: text[:24],
)
def test_the_schema_refuses_mistakes_of_shape(right: str, wrong: str, validator: Any) -> None:
    data = parse_yaml(GOOD.replace(right, wrong, 1), "bad", experiment_error).data
    assert not validator.is_valid(data)


@pytest.mark.parametrize("name", FAULTS)
def test_no_fault_has_a_key_that_all_faults_share(name: str) -> None:
    assert not set(FAULTS[name].Params.model_fields) & set(COMMON_KEYS)


def test_the_examples_of_the_documentation_are_valid(validator: Any) -> None:
    page = (ROOT / "docs" / "writing-experiments.md").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in page.split("```yaml\n")[1:]]
    assert len(blocks) == 3
    whole, faults, suite = (parse_yaml(block, "doc", experiment_error).data for block in blocks)
    validator.validate(whole)
    validator.validate({**whole, "faults": faults["faults"]})
    validator.validate(suite)
    assert {line["fault"] for line in faults["faults"]} == set(FAULTS), "each fault has an example"
