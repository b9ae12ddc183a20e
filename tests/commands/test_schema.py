"""``schema``: what an editor, or a reader, is told of the keys of a settings file."""

import json
import tomllib

import pytest

from tests.checks.source import ROOT_DIR
from xautolm_hpc import cli


def test_the_schema_of_a_search_file_describes_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["schema", "search"])

    schema = json.loads(capsys.readouterr().out)
    trial = schema["$defs"]["TrialSection"]["properties"]["time_limit_min"]
    assert status == 0
    assert schema["required"] == ["name", "task", "data", "budget"]
    assert trial["type"] == "number"
    assert trial["exclusiveMinimum"] == 0
    assert trial["default"] == 60.0
    assert "minutes" in trial["description"]


def test_the_schema_of_a_profile_holds_nothing_of_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["schema", "profile"])

    python = json.loads(capsys.readouterr().out)["properties"]["driver_python"]
    assert "default" not in python
    assert python["type"] == "string"


def test_the_schema_knows_every_key_of_the_examples(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["schema", "search"])
    schema = json.loads(capsys.readouterr().out)

    examples = {path.name: tomllib.loads(path.read_text()) for path in (ROOT_DIR / "examples").glob("*.toml")}

    assert examples
    unknown = {name: unknown_keys(written, schema, whole=schema) for name, written in examples.items()}
    assert unknown == {name: [] for name in examples}


def test_a_page_lists_the_keys(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["schema", "profile", "--markdown"])

    printed = capsys.readouterr().out
    assert printed.startswith("# The cluster profile: every key\n")
    assert "| `memory_gb` | number, above 0 | `4.0` | Memory in GiB. |" in printed


def unknown_keys(written: object, schema: dict[str, object], *, whole: dict[str, object]) -> list[str]:
    """List the keys of a file that its schema does not have."""
    if "$ref" in schema:
        definitions = whole["$defs"]
        assert isinstance(definitions, dict)
        schema = definitions[str(schema["$ref"]).rpartition("/")[2]]
    properties = schema.get("properties")
    if not isinstance(written, dict) or not isinstance(properties, dict):
        return []
    return [
        key if key not in properties else f"{key}.{inner}"
        for key, value in written.items()
        for inner in ([""] if key not in properties else unknown_keys(value, properties[key], whole=whole))
    ]
