"""Reads the cells of some columns from the bytes of a file, unchanged.

JSON Lines, CSV and TSV are read by the standard library: other readers guess types, take texts such as ``NA`` for
missing values, or lose rows after an unpaired quote. Parquet and Arrow are read by pyarrow; of what the hub's library
notes in them only the class names of the columns that are read count, so that a column of a kind nobody knows does
no harm.
"""

import enum
import gzip
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from xautolm_hpc.dataset import check_extension
from xautolm_hpc.durable import decode_text, encoding_of
from xautolm_hpc.errors import DataError
from xautolm_hpc.profile.delimited import name_delimiter, parse_delimited

Cells = tuple[object, ...]
"""The wanted cells of a row, of the types in the file."""

MAX_LISTED_COLUMNS = 20
SHOWN_BYTES = 20
"""Bytes that a message shows on each side of one that is not UTF-8."""
SEARCH_KEY = "data.{}"
"""How messages name what says a column: the key of a search file. It takes the setting and a word for its value."""

USUAL_DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""Extension, without that of gzip -> what divides the columns where nothing else is recognised."""


class Unlabelled(enum.Enum):
    """Cell of a row that is not labelled: the hub writes class -1 for it."""

    MINUS_ONE = -1


@dataclass(frozen=True, slots=True)
class FileRows:
    """What is read of a file.

    Attributes:
        columns: Names of all its columns.
        cells: The wanted cells of every row in the order of the file; empty if a wanted column does not exist.
        class_names: Column -> names of its classes in their own order, where the file says them.
        delimiter: What divides the columns of a CSV or TSV file, else ``None``.
        doubled: Names that stand twice in the header, where all columns were read: these are not among them.
        lines: Line of the file where each row begins, from 1; empty where a file has no lines.
    """

    columns: Sequence[str]
    cells: Sequence[Cells]
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    delimiter: str | None = None
    doubled: Sequence[str] = ()
    lines: Sequence[int] = ()


class _Parser(Protocol):
    def __call__(self, path: Path, content: bytes, *, wanted: Sequence[str]) -> FileRows:
        """Read the names of all columns, and the cells of the wanted columns if all exist."""
        ...


def read_file(
    path: Path,
    content: bytes,
    *,
    columns: Mapping[str, str],
    delimiter: str | None = None,
    key: str = SEARCH_KEY,
) -> FileRows:
    """Read some columns of a file.

    Args:
        path: The file, for its extension and for messages.
        content: Its bytes.
        columns: Setting that names a column (``text``, ``label`` …) -> the column.
        delimiter: What divides the columns of a CSV or TSV file; ``None`` if it is to be recognised.
        key: How messages name what says a column; see :data:`SEARCH_KEY`.

    Returns:
        What was read; cells in the order of ``columns``, ``None`` where a JSON row lacks one.

    Raises:
        DataError: The extension is not known, the content is damaged, a column does not exist, or a row holds a class
            that the file does not name.
    """
    wanted = tuple(columns.values())
    extension = check_extension(path).removesuffix(".gz")
    content = unpacked(path, content)
    if extension in USUAL_DELIMITERS:
        usual = USUAL_DELIMITERS[extension]
        text = _decode(path, content)
        header, cells, lines, found = parse_delimited(path, text, wanted=wanted, delimiter=delimiter, usual=usual)
        read = FileRows(header, cells, delimiter=found, lines=lines)
    else:
        read = PARSERS[extension](path, content, wanted=wanted)
    if not read.columns:
        raise DataError(f"`{path}` is empty; expected rows with columns {named(columns.values())}")
    check_columns(path, read, columns=columns, key=key)
    return read


def read_columns(path: Path, content: bytes, *, delimiter: str | None = None) -> FileRows:
    """Read all columns of a file, of which none is known yet; names that stand twice are left out, and noted.

    Args:
        path: The file, for its extension and for messages.
        content: Its bytes.
        delimiter: What divides the columns of a CSV or TSV file; ``None`` if it is to be recognised.

    Raises:
        DataError: The extension is not known, the content is damaged, or what divides its columns is not clear.
    """
    extension = check_extension(path).removesuffix(".gz")
    plain = unpacked(path, content)
    if extension in USUAL_DELIMITERS:
        usual = USUAL_DELIMITERS[extension]
        text = _decode(path, plain)
        # No file has this column, so that its header alone is read.
        columns, _, _, found = parse_delimited(path, text, wanted=("\0",), delimiter=delimiter, usual=usual)
        delimiter = found if len(columns) > 1 else delimiter  # a single column may hold what divides others
    else:
        columns = list(PARSERS[extension](path, plain, wanted=()).columns)
    single = [column for column in columns if columns.count(column) == 1]
    doubled = tuple(dict.fromkeys(column for column in columns if column not in single and column.strip()))
    if not single:
        fault = (
            f": {stands_twice(doubled[0])}" if doubled else " has no columns; expected rows with a text and its label"
        )
        raise DataError(f"`{path}`{fault}")
    read = read_file(path, content, columns=dict(zip(single, single, strict=True)), delimiter=delimiter)
    return replace(read, columns=single, doubled=doubled)


def check_columns(path: Path, read: FileRows, *, columns: Mapping[str, str], key: str = SEARCH_KEY) -> None:
    """Check that data has each wanted column once.

    Raises:
        DataError: A column is missing or occurs twice; the message lists the existing columns.
    """
    found = read.columns
    for setting, column in columns.items():
        if found.count(column) == 1:
            continue
        if column in found:
            raise DataError(f"`{path}`: {stands_twice(column)}")
        listed = ", ".join(found[:MAX_LISTED_COLUMNS]) + (", ..." if len(found) > MAX_LISTED_COLUMNS else "")
        hint = ""
        if read.delimiter is not None and len(found) == 1:
            hint = f", or {key.format('delimiter', 'CHARACTER')}: {name_delimiter(read.delimiter)} divides nothing here"
        named_key = key.format(setting, "COLUMN")
        raise DataError(f"`{path}`: column '{column}' does not exist; columns: {listed}. Set {named_key}{hint}")


def stands_twice(column: str) -> str:
    """Write what is wrong with a column name that is not the only one."""
    return f"column '{column}' stands twice in the header; rename one"


def named(columns: Iterable[str]) -> str:
    """Write column names as an enumeration."""
    *others, last = (f"'{column}'" for column in columns)
    return f"{', '.join(others)} and {last}" if others else last


def _parse_jsonl(path: Path, content: bytes, *, wanted: Sequence[str]) -> FileRows:
    """Parse JSON Lines; blank lines are skipped."""
    columns: dict[str, None] = {}
    cells: list[Cells] = []
    lines: list[int] = []
    for number, line in enumerate(_decode(path, content).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"`{path}`: line {number} is not valid JSON: {error}") from error
        if not isinstance(record, dict):
            raise DataError(f"`{path}`: line {number} is no JSON object: {line:.40}")
        columns.update(dict.fromkeys(record))
        cells.append(tuple(record.get(column) for column in wanted))
        lines.append(number)
    return FileRows(list(columns), cells, lines=lines)


def _parse_parquet(path: Path, content: bytes, *, wanted: Sequence[str]) -> FileRows:
    """Parse Parquet; the class numbers of a file that the hub's library wrote become their names."""
    import pyarrow  # type: ignore[import-untyped]  # here: the other formats do not need it
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content))
        columns = list(file.schema_arrow.names)
        if not set(wanted) <= set(columns):
            return FileRows(columns, [])
        table = file.read(columns=sorted(set(wanted)))
        table.validate(full=True)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"`{path}` is no whole Parquet file: {error}") from None
    return _table_rows(path, table, columns=columns, wanted=wanted)


def _parse_arrow(path: Path, content: bytes, *, wanted: Sequence[str]) -> FileRows:
    """Parse Arrow, as a stream (what ``datasets`` writes) or a file; class numbers become their names."""
    import pyarrow

    opened = pyarrow.ipc.open_file if content.startswith(b"ARROW1") else pyarrow.ipc.open_stream
    try:
        table = opened(pyarrow.BufferReader(content)).read_all()
        columns = list(table.schema.names)
        if not set(wanted) <= set(columns):
            return FileRows(columns, [])
        table.validate(full=True)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"`{path}` is no whole Arrow file: {error}") from None
    return _table_rows(path, table, columns=columns, wanted=wanted)


def _table_rows(path: Path, table: Any, *, columns: Sequence[str], wanted: Sequence[str]) -> FileRows:
    """Read columns of an Arrow table; class numbers become their names."""
    features = _features(table.schema.metadata or {})
    class_names = {column: names for column in wanted if (names := _class_names(features.get(column)))}
    cells = []
    for column in wanted:
        if columns.count(column) > 1:
            return FileRows(columns, [])
        values = table[column].to_pylist()
        if column in class_names:
            values = [_name_class(path, value, column=column, names=class_names[column]) for value in values]
        cells.append(values)
    return FileRows(columns, list(zip(*cells, strict=True)), class_names)


def _features(metadata: Mapping[bytes, bytes]) -> Mapping[str, Any]:
    """Read what the hub's library notes about columns; nothing if it cannot be read."""
    try:
        noted = json.loads(metadata.get(b"huggingface", b"{}"))
    except (ValueError, RecursionError):
        return {}
    for key in ("info", "features"):
        noted = noted.get(key) if isinstance(noted, dict) else None
    return noted if isinstance(noted, dict) else {}


def _class_names(feature: object) -> tuple[str, ...]:
    """List the names of a column's classes; empty if it has none."""
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return ()
    names = feature.get("names")
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _name_class(path: Path, value: object, *, column: str, names: Sequence[str]) -> object:
    """Convert the number of a class to its name; other values stay."""
    if not isinstance(value, int):
        return value
    if value == Unlabelled.MINUS_ONE.value:
        return Unlabelled.MINUS_ONE
    if not 0 <= value < len(names):
        raise DataError(
            f"`{path}`: column '{column}' holds class {value}, but the file names {len(names)} classes, from 0: "
            f"{', '.join(names[:MAX_LISTED_COLUMNS])}. Write the file again with the names of all classes"
        )
    return names[value]


def unpacked(path: Path, content: bytes) -> bytes:
    """Return a file's bytes without the compression that its extension says.

    Args:
        path: The file.
        content: Its bytes.

    Raises:
        DataError: It is no whole gzip file.
    """
    if not path.name.lower().endswith(".gz"):
        return content
    try:
        return gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"`{path}` is no whole gzip file: {error}") from None


def _decode(path: Path, content: bytes) -> str:
    """Decode a file of text."""
    try:
        return decode_text(content)
    except UnicodeDecodeError as error:
        if error.encoding != "utf-8":
            raise DataError(
                f"`{path}` is no whole {encoding_of(content).upper()} text: {error.reason} at byte {error.start:,}. "
                "Save it again, as UTF-8"
            ) from error
        number = content.count(b"\n", 0, error.start) + 1
        line_start = content.rfind(b"\n", 0, error.start) + 1
        around = content[max(line_start, error.start - SHOWN_BYTES) : error.start + SHOWN_BYTES].splitlines()[0]
        raise DataError(
            f"`{path}`: line {number} is not UTF-8 (byte 0x{content[error.start]:02x}; read as CP1252: "
            f"{around.decode('cp1252', 'replace')!r}). Save the file as UTF-8, or convert it from the encoding it has: "
            "iconv -f CP1252 -t UTF-8, if it comes from a Western Windows program"
        ) from error


PARSERS: Mapping[str, _Parser] = {
    ".jsonl": _parse_jsonl,
    ".parquet": _parse_parquet,
    ".arrow": _parse_arrow,
}
"""Extension, without that of gzip -> function that parses a file's bytes; CSV and TSV need a delimiter too."""
