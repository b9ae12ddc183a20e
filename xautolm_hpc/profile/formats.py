"""Reads the cells of some columns from the bytes of a file, unchanged.

JSON Lines, CSV and TSV are read by the standard library: other readers guess types, take texts such as ``NA`` for
missing values, or lose rows after an unpaired quote. Parquet and Arrow are read by pyarrow and datasets, which reads
the class names in files of the hub.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from xautolm_hpc.dataset import extension_of
from xautolm_hpc.errors import DataError

Cells = tuple[object, ...]
"""The wanted cells of a row, of the types in the file."""

MAX_LISTED_COLUMNS = 20


class _Parser(Protocol):
    def __call__(self, path: Path, content: bytes, *, wanted: Sequence[str]) -> tuple[list[str], list[Cells]]:
        """Return all column names, and the cells of the wanted columns if all exist."""
        ...


def read_cells(path: Path, content: bytes, *, columns: Mapping[str, str]) -> list[Cells]:
    """Read some columns of a file.

    Args:
        path: The file, for its extension and for messages.
        content: Its bytes.
        columns: Setting that names a column (``text``, ``label`` …) -> the column.

    Returns:
        The cells of every row in the order of the file and of ``columns``; ``None`` where a JSON row lacks one.

    Raises:
        DataError: The content is damaged, or a column does not exist.
    """
    parse = PARSERS[extension_of(path.name) or ""]
    found, cells = parse(path, content, wanted=tuple(columns.values()))
    if not found:
        raise DataError(f"`{path}` is empty; expected rows with columns {named(columns.values())}")
    check_columns(path, found, columns=columns)
    return cells


def check_columns(path: Path, found: Sequence[str], *, columns: Mapping[str, str]) -> None:
    """Check that data has each wanted column once.

    Raises:
        DataError: A column is missing or occurs twice; the message lists the existing columns.
    """
    for setting, column in columns.items():
        if found.count(column) == 1:
            continue
        listed = ", ".join(found[:MAX_LISTED_COLUMNS]) + (", ..." if len(found) > MAX_LISTED_COLUMNS else "")
        fault = "occurs more than once" if column in found else "does not exist"
        raise DataError(f"`{path}`: column '{column}' {fault}; columns: {listed}. Set data.{setting}")


def named(columns: Iterable[str]) -> str:
    """Write column names as an enumeration."""
    *others, last = (f"'{column}'" for column in columns)
    return f"{', '.join(others)} and {last}" if others else last


def _parse_jsonl(path: Path, content: bytes, *, wanted: Sequence[str]) -> tuple[list[str], list[Cells]]:
    """Parse JSON Lines; blank lines are skipped."""
    columns: dict[str, None] = {}
    cells: list[Cells] = []
    for number, line in enumerate(_decode(path, content).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(f"`{path}`: line {number} is not valid JSON: {error}") from error
        if not isinstance(record, dict):
            raise DataError(f"`{path}`: line {number} is no JSON object: {line:.40}")
        columns.update(dict.fromkeys(record))
        cells.append(tuple(record.get(column) for column in wanted))
    return list(columns), cells


def _parse_gzipped_jsonl(path: Path, content: bytes, *, wanted: Sequence[str]) -> tuple[list[str], list[Cells]]:
    try:
        return _parse_jsonl(path, gzip.decompress(content), wanted=wanted)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"`{path}` is no whole gzip file: {error}") from None


def _parse_csv(path: Path, content: bytes, *, wanted: Sequence[str]) -> tuple[list[str], list[Cells]]:
    """Parse CSV strictly: a misplaced quote is an error, because the rows after it would be lost."""
    text = _decode(path, content)
    csv.field_size_limit(max(len(text), csv.field_size_limit()))  # the default stops at 128 KiB
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = [row for row in reader if row]
    except csv.Error as error:
        raise DataError(
            f"`{path}`: line {reader.line_num} is not valid CSV: {error}. Double the quotes inside a quoted field, "
            "or use JSON Lines"
        ) from error
    return _cells_below_header(path, rows, wanted=wanted)


def _parse_tsv(path: Path, content: bytes, *, wanted: Sequence[str]) -> tuple[list[str], list[Cells]]:
    """Parse TSV: each line is a row.

    Quotes are removed only if every field that starts with one is quoted as a whole; else they are text.
    """
    lines = (line.removesuffix("\r") for line in _decode(path, content).split("\n"))
    rows = [line.split("\t") for line in lines if line]
    if all(_is_quoted(field) for row in rows for field in row if field.startswith('"')):
        rows = [[field[1:-1].replace('""', '"') if _is_quoted(field) else field for field in row] for row in rows]
    return _cells_below_header(path, rows, wanted=wanted)


def _is_quoted(field: str) -> bool:
    inner = field[1:-1]
    return len(field) >= 2 and field[0] == field[-1] == '"' and '"' not in inner.replace('""', "")


def _cells_below_header(
    path: Path, rows: Sequence[list[str]], *, wanted: Sequence[str]
) -> tuple[list[str], list[Cells]]:
    """Select columns by the names in the first row."""
    header = rows[0] if rows else []
    if not set(wanted) <= set(header):
        return header, []
    places = [header.index(column) for column in wanted]
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(header):
            raise DataError(
                f"`{path}`: row {number} has {len(row)} fields, the header {len(header)}: {'|'.join(row):.40}. "
                "Quote or remove what divides the fields inside a text, or use JSON Lines"
            )
    return header, [tuple(row[place] for place in places) for row in rows[1:]]


def _parse_parquet(path: Path, content: bytes, *, wanted: Sequence[str]) -> tuple[list[str], list[Cells]]:
    """Parse Parquet; the class numbers of a file that the hub's library wrote become their names."""
    import datasets  # here: it takes a second to import, and the other formats do not need it
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content))
        columns = list(file.schema_arrow.names)
        if not set(wanted) <= set(columns):
            return columns, []
        table = file.read(columns=sorted(set(wanted)))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"`{path}` is no whole Parquet file: {error}") from None
    return columns, table_cells(table, datasets.Features.from_arrow_schema(table.schema), wanted=wanted)


def _parse_arrow(path: Path, content: bytes, *, wanted: Sequence[str]) -> tuple[list[str], list[Cells]]:
    """Parse Arrow, as a stream (what ``datasets`` writes) or a file; class numbers become their names."""
    import datasets
    import pyarrow

    opened = pyarrow.ipc.open_file if content.startswith(b"ARROW1") else pyarrow.ipc.open_stream
    try:
        table = opened(pyarrow.BufferReader(content)).read_all()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"`{path}` is no whole Arrow file: {error}") from None
    columns = list(table.schema.names)
    if not set(wanted) <= set(columns):
        return columns, []
    return columns, table_cells(table, datasets.Features.from_arrow_schema(table.schema), wanted=wanted)


def table_cells(table: Any, features: Mapping[str, Any], *, wanted: Sequence[str]) -> list[Cells]:
    """Read columns of an Arrow table; class numbers become their names."""
    import datasets

    cells = []
    for column in wanted:
        values, kind = table[column].to_pylist(), features[column]
        if isinstance(kind, datasets.ClassLabel):
            values = [None if value is None or value < 0 else kind.int2str(value) for value in values]
        cells.append(values)
    return list(zip(*cells, strict=True))


def _decode(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"`{path}`: line {number} is not UTF-8 (byte 0x{content[error.start]:02x}). Convert the file, for "
            f"instance with iconv -f LATIN1 -t UTF-8"
        ) from error


PARSERS: dict[str, _Parser] = {
    ".jsonl": _parse_jsonl,
    ".jsonl.gz": _parse_gzipped_jsonl,
    ".csv": _parse_csv,
    ".tsv": _parse_tsv,
    ".parquet": _parse_parquet,
    ".arrow": _parse_arrow,
}
