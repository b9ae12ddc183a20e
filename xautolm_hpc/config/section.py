"""One section of a settings file: its base, how its TOML is read and its values are checked and explained."""

import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from xautolm_hpc.durable import read_toml_file
from xautolm_hpc.errors import ConfigError, InputError
from xautolm_hpc.records import to_json
from xautolm_hpc.space import find_refused

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
S = typing.TypeVar("S", bound="SettingsSection")


class SettingsSection(BaseModel):
    """A section of a file: no unknown keys, no values of another type, no infinities.

    Attributes:
        elsewhere: Key that is written here by mistake -> the file that it belongs to.
    """

    elsewhere: typing.ClassVar[Mapping[str, str]] = {}

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: It is missing or no TOML.
    """
    try:
        return read_toml_file(path)
    except InputError as error:
        raise ConfigError(str(error)) from error


def apply_setting(data: dict[str, Any], setting: str) -> None:
    """Apply one ``KEY=VALUE`` to the file's data, in place.

    Raises:
        ConfigError: It is no such pair, or goes through a value that is no table.
    """
    key, separator, text = setting.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {setting!r}: expected KEY=VALUE, for instance --set budget.generations=3")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text
    *parents, last = key.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise ConfigError(f"--set {setting!r}: {parent!r} is a value, not a table")
    data[last] = value


def check_section(section: type[S], data: dict[str, Any], *, path: Path) -> S:
    """Check the data of a file.

    Args:
        section: What the whole file is.
        data: What was read.
        path: The file, for messages.

    Raises:
        ConfigError: A key or value is not valid; a line for each.
    """
    try:
        return TypeAdapter(section).validate_python(_tuples(data))
    except ValidationError as error:
        lines = [_explain(section, e, path=path) for e in error.errors()]
        refused = find_refused(data.get("space")) if "space" in section.model_fields else []
        raise ConfigError("\n".join([*lines, *(f"`{path}`: {line}" for line in refused)])) from error


def _tuples(value: Any) -> Any:
    """Convert TOML arrays to tuples, which strict frozen sections need; ``params`` keeps its lists."""
    if isinstance(value, dict):
        return {key: item if key == "params" else _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _explain(section: type[SettingsSection], error: Any, *, path: Path) -> str:
    """Write the key of a wrong value and what is valid there."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        valid = ", ".join(_section_at(section, error["loc"][:-1]).model_fields)
        elsewhere = f"; it belongs to the {section.elsewhere[key]}" if key in section.elsewhere else ""
        return f"`{path}`: unknown key `{key}`{elsewhere}; valid here: {valid}"
    if error["type"] in ("missing", "value_error"):
        return f"`{path}`: " + (f"`{key}` is missing" if error["type"] == "missing" else str(error["ctx"]["error"]))
    expected = error["msg"].removeprefix("Input should be ").replace("String should", "text that should")
    in_toml = {"tuple_type": "an array", "model_type": "a table", "dict_type": "a table"}  # by pydantic's error type
    return f"`{path}`: `{key}` = {to_json(error['input'])!r}: expected {in_toml.get(error['type'], expected)}"


def _section_at(section: type[BaseModel], location: tuple[Any, ...]) -> type[BaseModel]:
    for part in location:
        choices = (annotation := section.model_fields[part].annotation, *typing.get_args(annotation))
        section = next(c for c in choices if isinstance(c, type) and issubclass(c, BaseModel))
    return section
