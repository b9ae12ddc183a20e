"""What can be set in a settings file, for editors and readers: JSON Schema and a page, made of the sections themselves.

The description of a key is its entry under ``Attributes:`` in the docstring of its section; default and range are the
field's own.
"""

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter

from xautolm_hpc.catalogue import Model
from xautolm_hpc.config import ClusterProfile, SearchFile
from xautolm_hpc.hyperparameters import METHODS, SAME_AS, ParamRule, rules_of

FileKind = Literal["search", "profile"]
SECTIONS: Mapping[FileKind, type[BaseModel]] = {"search": SearchFile, "profile": ClusterProfile}
"""Kind of settings file -> what it is as a whole."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TITLES: Mapping[FileKind, str] = {"search": "The search file", "profile": "The cluster profile"}
ENTRY = re.compile(r"^    (\w+): (.+(?:\n {8}.+)*)", flags=re.MULTILINE)
DISTRIBUTION = {
    "anyOf": [
        {"type": "array", "minItems": 1, "items": {"type": ["number", "string", "boolean"]}},
        {"const": "bool"},
        {
            "type": "object",
            "required": ["low", "high"],
            "additionalProperties": False,
            "properties": {
                "low": {"type": "number", "description": "Smallest value."},
                "high": {"type": "number", "description": "Largest value."},
                "log": {"type": "boolean", "description": "Whether to draw on a logarithmic scale."},
                "integer": {"type": "boolean", "description": "Whether to draw whole numbers."},
            },
        },
    ]
}
"""Schema of what a hyperparameter is drawn from."""


def describe_keys(section: type) -> dict[str, str]:
    """Read what a section, or another class, says of its keys: key -> a sentence or two, with code in backticks."""
    attributes = inspect.getdoc(section) or ""
    _, _, attributes = attributes.partition("Attributes:\n")
    found = ENTRY.findall(attributes.partition("\n\n")[0])
    return {key: " ".join(text.split()).replace("``", "`") for key, text in found}


def json_schema(kind: FileKind) -> dict[str, Any]:
    """Build the JSON Schema of a settings file, with a description of every key.

    Args:
        kind: ``search`` or ``profile``.
    """
    root = SECTIONS[kind]
    schema = root.model_json_schema()
    sections = {section.__name__: section for section in sections_of(root)}
    for name, part in [(root.__name__, schema), *schema["$defs"].items()]:
        _describe(part, sections[name])
    if kind == "search":
        schema["properties"]["model"]["items"] = _model_table()
        schema["$defs"]["Distribution"] = DISTRIBUTION
        schema["$defs"]["SpaceSection"]["properties"]["params"] = _params_schema(sections["SpaceSection"])
    return {"$schema": DIALECT, "title": TITLES[kind], **{key: part for key, part in schema.items() if key != "title"}}


def schema_text(kind: FileKind) -> str:
    """Write the JSON Schema of a settings file, as the file that comes with the package."""
    return json.dumps(json_schema(kind), indent=1) + "\n"


def schema_line(kind: FileKind) -> str:
    """Write the comment by which editors find the schema that comes with the package."""
    file = resources.files("xautolm_hpc").joinpath("packaged", f"{kind}.schema.json")
    with resources.as_file(file) as path:
        return f"#:schema {path.as_uri()}"


def reference_page(kind: FileKind) -> str:
    """Write the page that lists every key of a settings file, in Markdown.

    Args:
        kind: ``search`` or ``profile``.
    """
    schema = json_schema(kind)
    lines = [
        f"# {TITLES[kind]}: every key",
        "",
        f"Made by `xautolm-hpc schema {kind} --markdown`; `xautolm-hpc schema {kind}` prints the same as JSON Schema.",
        "Keys are checked when the file is read: an unknown key or a wrong value is refused, with what is valid.",
        "",
        *_section_lines("Top of the file", SECTIONS[kind], part=schema, schema=schema),
    ]
    for key, part in _tables(schema):
        lines += _section_lines(f"`[{key}]`", _section_of(SECTIONS[kind], key), part=part, schema=schema)
    if kind == "search":
        lines += _model_lines() + _hyperparameter_lines()
    return "\n".join(lines).rstrip() + "\n"


def sections_of(section: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Walk a section and those within it.

    Args:
        section: The section, or the whole of a file.
    """
    yield section
    for field in section.model_fields.values():
        for choice in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(choice, type) and issubclass(choice, BaseModel):
                yield from sections_of(choice)


def _section_of(root: type[BaseModel], key: str) -> type[BaseModel]:
    annotation = root.model_fields[key].annotation
    choices = (annotation, *getattr(annotation, "__args__", ()))
    return next(choice for choice in choices if isinstance(choice, type) and issubclass(choice, BaseModel))


def _describe(part: dict[str, Any], section: type[BaseModel]) -> None:
    """Add the descriptions of a section's keys to its schema, and leave out what TOML or a reader has no use for."""
    texts = describe_keys(section)
    part["description"] = _summary(section)
    part.pop("title", None)
    for key, found in part["properties"].items():
        described = _without_null({name: value for name, value in found.items() if name != "title"})
        if described.get("default") in (None, {}, [], sys.executable) or isinstance(described["default"], dict):
            described.pop("default", None)
        part["properties"][key] = {**described, "description": texts[key]}


def _without_null(found: dict[str, Any]) -> dict[str, Any]:
    """Leave out that a value may be null: an absent key is what TOML has for it."""
    choices = [choice for choice in found.get("anyOf", ()) if choice != {"type": "null"}]
    rest = {name: value for name, value in found.items() if name != "anyOf"}
    if not choices:
        return found
    return {**rest, **choices[0]} if len(choices) == 1 else {**rest, "anyOf": choices}


def _summary(section: type) -> str:
    text = (inspect.getdoc(section) or "").partition("\n\n")[0]
    return " ".join(re.sub(r"^``\[\w+\]``: (.)", lambda found: found[1].upper(), text).split()).replace("``", "`")


def _model_table() -> dict[str, Any]:
    """Build the schema of a ``[[model]]`` table, all of whose keys may be left out."""
    texts = describe_keys(Model)
    properties = TypeAdapter(Model).json_schema()["properties"]
    for key, found in properties.items():
        kept = {name: value for name, value in found.items() if name not in ("title", "default")}
        properties[key] = {**_without_null(kept), "description": texts[key]}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _params_schema(section: type[BaseModel]) -> dict[str, Any]:
    """Build the schema of ``[space.params]``: a table for each method, with its hyperparameters."""
    tables = {
        method: {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                name: {"$ref": "#/$defs/Distribution", "description": f"Values: {rule.expected}."}
                for name, rule in rules_of(method).items()
                if name not in SAME_AS
            },
        }
        for method in METHODS
    }
    return {"type": "object", "description": describe_keys(section)["params"], "properties": tables}


def _tables(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Walk the tables of a file: key -> schema."""
    for key, found in schema["properties"].items():
        if "$ref" in found:
            yield key, schema["$defs"][found["$ref"].rpartition("/")[2]]


def _section_lines(
    title: str, section: type[BaseModel], *, part: Mapping[str, Any], schema: Mapping[str, Any]
) -> list[str]:
    """Write the keys of a section as a table; of the whole file without its tables, which have their own."""
    keys = {key: found for key, found in part["properties"].items() if part is not schema or "$ref" not in found}
    needed = part.get("required", ())
    rows = [
        f"| `{key}` | {_values_text(found, schema=schema)} | {_default_text(found, is_needed=key in needed)} | "
        f"{_cell(found['description'])} |"
        for key, found in keys.items()
    ]
    return [
        f"## {title}",
        "",
        _summary(section),
        "",
        "| key | values | default | meaning |",
        "|---|---|---|---|",
        *rows,
        "",
    ]


def _values_text(found: Mapping[str, Any], *, schema: Mapping[str, Any]) -> str:
    """Write what values a key has."""
    if "anyOf" in found:
        return " or ".join(_values_text(choice, schema=schema) for choice in found["anyOf"])
    if "enum" in found:
        return ", ".join(f"`{value}`" for value in found["enum"])
    match found.get("type"):
        case "array":
            return f"array of {_values_text(found.get('items', {}), schema=schema)}"
        case "object":
            return "table"
        case "boolean":
            return "true or false"
        case "integer" | "number" as kind:
            return ("whole number" if kind == "integer" else "number") + _range_text(found)
    return "text"


def _range_text(found: Mapping[str, Any]) -> str:
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    said = [f"{text} {found[key]:g}" for key, text in words.items() if key in found]
    return f", {' and '.join(said)}" if said else ""


def _default_text(found: Mapping[str, Any], *, is_needed: bool) -> str:
    if is_needed:
        return "must be given"
    return f"`{json.dumps(found['default'])}`" if "default" in found else "–"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _model_lines() -> list[str]:
    """Write the keys of ``[[model]]``."""
    rows = [f"| `{key}` | {_cell(text)} |" for key, text in describe_keys(Model).items()]
    head = "A model of your own: `repo` or `path` alone is enough, the rest is read from its files."
    return ["## `[[model]]`", "", head, "", "| key | meaning |", "|---|---|", *rows, ""]


def _hyperparameter_lines() -> list[str]:
    """Write the hyperparameters of every method, with what they may be."""
    found: dict[str, tuple[ParamRule, list[str]]] = {}
    for method in METHODS:
        for name, rule in rules_of(method).items():
            found.setdefault(name, (rule, []))[1].append(method)
    rows = [
        f"| `{name}` | {'all' if len(methods) == len(METHODS) else ', '.join(methods)} | {rule.expected} | "
        f"{_rule_default(rule)} |"
        for name, (rule, methods) in found.items()
        if name not in SAME_AS
    ]
    return [
        "## `[space.params.METHOD]`",
        "",
        'What each hyperparameter is drawn from: a list of values, `"bool"`, or a range such as',
        "`{ low = 1e-5, high = 1e-3, log = true }` (with `integer = true` whole numbers). The default is what a",
        "method is trained with where the space does not draw the hyperparameter.",
        "",
        "| hyperparameter | methods | values | default |",
        "|---|---|---|---|",
        *rows,
    ]


def _rule_default(rule: ParamRule) -> str:
    if rule.is_required:
        return "must be drawn"
    return "–" if rule.default is None else f"`{json.dumps(rule.default)}`"
