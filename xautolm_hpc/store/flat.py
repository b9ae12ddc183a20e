"""Experiences as flat rows for other programs: one column for each field, parameter and metric."""

import contextlib
import csv
import dataclasses
import importlib
import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from xautolm_hpc.errors import InputError, quoted
from xautolm_hpc.records import Experience, from_json, to_json
from xautolm_hpc.store.ranges import check_experiences

Row = Mapping[str, Any]
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
LARGEST_LINE_CHARS = 16 * 1024**2
MOST_CONTAINERS = 50_000
"""Lists and objects in one record as JSON; a curve of 10,000 points has that many lists."""

JSON_TEXT = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)


def flatten(e: Experience) -> dict[str, Any]:
    """Convert an experience to one row: ``id``, then ``record.field``; lists become JSON text.

    Parameters are ``pipeline.params.NAME`` and metrics ``outcome.metrics.NAME``; those that it lacks are absent.
    """
    row: dict[str, Any] = {"id": e.id}
    for record, fields in to_json(e).items():
        for name, value in fields.items():
            if isinstance(value, dict):
                row |= {f"{record}.{name}.{key}": inner for key, inner in value.items()}
            else:
                row[f"{record}.{name}"] = json.dumps(value) if isinstance(value, list) else value
    return row


def columns_of(experiences: Sequence[Experience]) -> dict[str, list[Any]]:
    """Convert experiences to columns, in the order of the records' fields, then by name; unknown is ``None``."""
    rows = [flatten(e) for e in experiences]
    ranks = {name: i for i, name in enumerate(_field_names())}
    found = {name for row in rows for name in row}
    names = sorted(found, key=lambda name: (ranks[".".join(name.split(".")[:2])], name))
    return {name: [row.get(name) for row in rows] for name in names}


def _field_names() -> list[str]:
    """List the id and the fields of the records in the order in which they are declared."""
    parts: Any = dataclasses.fields(Experience)
    return ["id", *(f"{part.name}.{field.name}" for part in parts for field in dataclasses.fields(part.type))]


@contextlib.contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """Open a temporary path to write to; it becomes the file at the end."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def to_frame(experiences: Sequence[Experience]) -> Any:
    """Build a pandas DataFrame with a row for each experience; the columns are those of :func:`columns_of`.

    Raises:
        InputError: pandas is not installed.
    """
    return _library("pandas", what="a DataFrame").DataFrame(columns_of(experiences))


def write_jsonl(experiences: Iterable[Experience], path: Path) -> None:
    """Write JSON lines in ASCII; :func:`read_jsonl` reads them back without loss."""
    with _aside(path) as aside, aside.open("w", encoding="ascii") as file:
        for e in experiences:
            file.write(json.dumps({"id": e.id, **to_json(e)}) + "\n")


def read_jsonl(path: Path) -> list[Experience]:
    """Read what :func:`write_jsonl` wrote.

    Raises:
        InputError: The file does not exist, or a line is not an experience.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return [_parsed(text, where=f"`{path}`, line {i}") for i, text in enumerate(_lines(file, path), 1)]
    except FileNotFoundError as error:
        raise InputError(f"`{path}` does not exist; expected a file of JSON lines") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"`{path}` cannot be read: {error}") from error


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    number = 0
    while text := file.readline(LARGEST_LINE_CHARS):
        number += 1
        if len(text) == LARGEST_LINE_CHARS:
            raise InputError(
                f"`{path}`, line {number}: it has {LARGEST_LINE_CHARS:,} characters or more, which no experience has"
            )
        if text.strip():
            yield text


def _parsed(text: str, *, where: str) -> Experience:
    """Parse a line of JSON from elsewhere and check every field of the record in it."""
    check_containers(text, where=where)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: no JSON ({error})") from error
    named = data.pop("id", None) if isinstance(data, dict) else None
    found = from_json(Experience, data, where=where)
    check_experiences([found], where=where)
    if named is not None and named != found.id:
        raise InputError(f"{where}: it says its id is {quoted(named)}; its content has {found.id}")
    return found


def check_containers(text: str, *, where: str) -> None:
    """Check that JSON from elsewhere holds no more lists and objects than a record does: parsed, they take much memory.

    Raises:
        InputError: It holds more.
    """
    if text.count("[") + text.count("{") <= MOST_CONTAINERS:
        return
    bare = JSON_TEXT.sub("", text)  # those inside texts do not count
    n = bare.count("[") + bare.count("{")
    if n > MOST_CONTAINERS:
        raise InputError(f"{where}: it holds {n:,} lists and objects; expected at most {MOST_CONTAINERS:,}")


def write_csv(experiences: Sequence[Experience], path: Path) -> None:
    """Write CSV that is safe for spreadsheets and terminals: formulas quoted, control characters escaped."""
    columns = columns_of(experiences)
    with _aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([safe_cell(name) for name in columns])
        writer.writerows([safe_cell(value) for value in row] for row in zip(*columns.values(), strict=True))


def safe_cell(value: Any) -> Any:
    """Return a cell that no program executes: text that would start a formula gets an apostrophe in front."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return value
    text = re.sub(r"[^\n ]", lambda match: _visible(match[0]), value)
    return f"'{text}" if value.startswith(FORMULA_STARTS) else text


def _visible(character: str) -> str:
    is_hidden = unicodedata.category(character) in INVISIBLE
    return character.encode("unicode_escape").decode() if is_hidden else character


def write_parquet(experiences: Sequence[Experience], path: Path) -> None:
    """Write Parquet; a parameter with values of several types becomes text.

    Raises:
        InputError: pyarrow is not installed.
    """
    arrow = _library("pyarrow", what="Parquet")
    parquet = importlib.import_module("pyarrow.parquet")
    table = arrow.table({name: _typed(arrow, values) for name, values in columns_of(experiences).items()})
    with _aside(path) as aside:
        parquet.write_table(table, aside, compression="zstd")


def _typed(arrow: Any, values: Sequence[Any]) -> Any:
    """Build an Arrow array of the one type that holds all values."""
    types = {type(value) for value in values} - {type(None)}
    if types <= {bool}:
        return arrow.array(values, arrow.bool_())
    if types <= {int}:
        return arrow.array(values, arrow.int64())
    if types <= {int, float}:
        return arrow.array([None if v is None else float(v) for v in values], arrow.float64())
    texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return arrow.array([text and text.encode("utf-8", "backslashreplace").decode() for text in texts], arrow.string())


def _library(name: str, *, what: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{what} needs {name}, which this Python does not have: install it, or export CSV or JSON lines"
        ) from error


WRITERS: Mapping[str, Callable[[Sequence[Experience], Path], None]] = {
    "jsonl": write_jsonl,
    "csv": write_csv,
    "parquet": write_parquet,
}
