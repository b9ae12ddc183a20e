"""Writes what is given from Python as files: rows, and a search file."""

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from xautolm_hpc.api.calls import StrPath, call
from xautolm_hpc.durable import toml_text, write_bytes
from xautolm_hpc.errors import InputError

GUESSED = {
    ("task", "kind"): "--kind",
    **{("data", key): f"--{key}" for key in ("text", "label", "question", "context", "answers", "delimiter")},
}
"""Section and key of a search file -> the option by which ``init`` is told it, instead of guessing it."""

REPLACED_WHOLE = frozenset({"budget", "model"})
"""Sections that are replaced as a whole where they are given: a limit that is left out is none."""


def write_data(data: object, path: Path) -> Path:
    """Return the path of the data; rows are written to a file of their own first.

    Raises:
        InputError: They are of no known form, or a search of this name has other data.
    """
    if isinstance(data, str | os.PathLike):
        return Path(data).resolve()
    content = _json_lines(data).encode()
    if path.exists() and path.read_bytes() != content:
        raise InputError(f"`{path}` holds other data of a search of this name; give another name, or remove that file")
    write_bytes(path, content)
    return path.resolve()


def _json_lines(data: object) -> str:
    """Write rows as JSON Lines.

    Raises:
        InputError: They are of no known form, or a value is none that JSON has.
    """
    if hasattr(data, "to_json") and hasattr(data, "columns"):  # a data frame
        return str(data.to_json(orient="records", lines=True, force_ascii=False))
    rows: Any = data.to_list() if hasattr(data, "to_list") else data  # a datasets.Dataset
    if not isinstance(rows, Sequence) or not rows or not all(isinstance(row, Mapping) for row in rows):
        raise InputError(
            f"data is a {type(data).__name__}; expected a data frame, a datasets.Dataset, a list of mappings (not "
            "empty) or the path of a file or folder"
        )
    try:
        return "".join(json.dumps(dict(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    except (TypeError, ValueError) as error:
        raise InputError(f"data has a value that JSON has not: {error}") from error


def check_section(section: str, value: Any, *, valid: Sequence[str]) -> None:
    """Check that a section of the search file is given as a mapping, and models of one's own as a list of them.

    Args:
        section: Its name.
        value: What was given.
        valid: Its keys.

    Raises:
        InputError: It is something else, or names other data than the first argument.
    """
    keys = [key for key in valid if (section, key) != ("data", "path")]
    if section == "model":
        is_list = isinstance(value, list | tuple) and all(isinstance(table, Mapping) for table in value)
        expected = None if is_list else "a list of mappings, one for each model"
    else:
        expected = None if isinstance(value, Mapping) else f"a mapping with keys of {', '.join(keys)}"
    if expected:
        raise InputError(f"argument `{section}` is {value!r}; expected {expected}")
    if section == "data" and "path" in value:
        raise InputError(f"argument `data` has `path` {value['path']!r}; the first argument says where the data are")


def search_text(
    data_path: Path, name: str, *, profile: StrPath | None, effort: str, settings: Mapping[str, Any]
) -> str:
    """Write the search file: what ``init`` chooses for the data, and what is given in its place."""
    options = ["--cluster", str(Path(profile).resolve())] if profile is not None else []
    for (section, key), option in GUESSED.items():
        if key in settings.get(section, {}):
            options += [option, str(settings[section][key])]
    with TemporaryDirectory(prefix="xautolm-api-") as folder:
        path = Path(folder) / "search.toml"
        call("init", str(data_path), "--name", name, "--effort", effort, "--to", str(path), *options)
        chosen = tomllib.loads(path.read_text())
    chosen["data"]["path"] = str(data_path)
    if profile is not None:
        chosen["profile"] = str(Path(profile).resolve())
    for section, given in settings.items():
        chosen[section] = given if section in REPLACED_WHOLE else {**chosen.get(section, {}), **given}
    space = chosen["space"]
    if "params" not in settings.get("space", {}):  # what was chosen for methods that are not searched has no use
        space["params"] = {name: table for name, table in space["params"].items() if name in space["methods"]}
    return "".join(f"{key} = {_toml(value)}\n" for key, value in chosen.items())


def _toml(value: Any) -> str:
    """Write a value as TOML in one line.

    Raises:
        InputError: TOML has no such value or text.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | os.PathLike):
        return toml_text(os.fspath(value))
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return f"{{{', '.join(f'{toml_text(key)} = {_toml(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    raise InputError(f"a setting is {value!r}; expected text, a number, true or false, a list or a mapping of them")
