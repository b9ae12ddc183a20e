"""Normalised rows: the rows that every later step works with."""

import gzip
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from xautolm_hpc.errors import DataError
from xautolm_hpc.profile.formats import Unlabelled

R = TypeVar("R")
S = TypeVar("S")
Note = Callable[[str], object]
"""Takes a line for the user about the data."""

N_SHOWN = 3
"""Rows with one problem that a message names."""

BYTE_ORDER_MARK = "\ufeff"
DECIMAL = re.compile(r"[+-]?\d*[.,]\d+")
REGRESSION = "the values look like numbers to predict (regression), which this program does not do"


class Sample(Protocol):
    """A row of any kind of task; rows of one kind can be sorted."""

    @property
    def text(self) -> str:
        """Return the text that two splits must not share."""
        ...

    @property
    def label(self) -> str:
        """Return the class that splits are stratified by."""
        ...

    def as_json(self) -> dict[str, Any]:
        """Return the row as it is written to a split."""
        ...

    def __lt__(self, other: Any, /) -> bool: ...


class Row(NamedTuple):
    """One labelled text; rows sort by text, then label."""

    text: str
    label: str

    def as_json(self) -> dict[str, Any]:
        """Return the row as it is written to a split."""
        return self._asdict()


def normalise_rows(
    path: Path, pairs: Sequence[Sequence[object]], *, text_column: str, label_column: str, lines: Sequence[int] = ()
) -> list[Row]:
    """Check and normalise the rows of a file.

    Outer white space and byte order marks are removed from texts and labels, nothing else. Labels become text: whole
    numbers their digits, bools ``true`` and ``false``.

    Args:
        path: The file, for messages.
        pairs: (text, label) of every row, of any type.
        text_column: Column of the text, for messages.
        label_column: Column of the label, for messages.
        lines: Line of each row, for messages; empty where the file has none.

    Returns:
        The rows, in the order of ``pairs``.

    Raises:
        DataError: A text or label is missing, empty, of a wrong type or not valid Unicode; the message names the
            column, the number of such rows and the first of them, by their lines or, without lines, from row 1.
    """

    def normalise(pair: Sequence[object]) -> Row:
        return Row(clean_text(pair[0], text_column), _normalise_label(pair[1], label_column))

    return number_problems(path, pairs, normalise=normalise, lines=lines)


def number_problems(
    path: Path, cells: Sequence[R], *, normalise: Callable[[R], S], lines: Sequence[int] = ()
) -> list[S]:
    """Normalise every row, and report all problems at once.

    Args:
        path: The file, for the message.
        cells: Cells of every row.
        normalise: Builds a row from cells; its ``ValueError`` says what is wrong with them.
        lines: Line of each row; empty where the file has none.

    Raises:
        DataError: Some row has a problem; the message counts them by problem.
    """
    rows: list[S] = []
    problems: dict[str, list[int]] = {}
    numbers, unit = (lines, "line") if lines else (range(1, len(cells) + 1), "row")
    for number, row in zip(numbers, cells, strict=True):
        try:
            rows.append(normalise(row))
        except ValueError as problem:
            problems.setdefault(str(problem), []).append(number)
    if problems:
        described = "; ".join(_describe(problem, found, unit=unit) for problem, found in problems.items())
        raise DataError(f"`{path}`: {described}. Fill in, mend or remove these rows")
    return rows


def look_like_numbers(labels: Iterable[object]) -> bool:
    """Check whether labels are mostly numbers with decimals, as quantities are and names of classes are not."""
    is_decimal = [
        DECIMAL.fullmatch(label.strip()) is not None if isinstance(label, str) else isinstance(label, float)
        for label in labels
    ]
    return 2 * sum(is_decimal) > len(is_decimal)


def digest_rows(rows: Iterable[Sample]) -> str:
    """Digest rows in the order given: sha256 in hex."""
    return hashlib.sha256(encode_rows(rows)).hexdigest()


def encode_rows(rows: Iterable[Sample]) -> bytes:
    """Write rows as JSON Lines."""
    lines = (json.dumps(row.as_json(), ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
    return "".join(lines).encode()


def compress(content: bytes) -> bytes:
    """Compress bytes as gzip without time and name: equal content gives equal bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=buffer, mtime=0) as file:
        file.write(content)
    return buffer.getvalue()


def _describe(problem: str, numbers: list[int], *, unit: str) -> str:
    plural = "s" if len(numbers) > 1 else ""
    shown = ", ".join(f"{number:,}" for number in numbers[:N_SHOWN]) + ", ..." * (len(numbers) > N_SHOWN)
    return f"{problem} in {len(numbers):,} row{plural} ({unit} {shown})"


def clean_text(value: object, column: str) -> str:
    """Check that a cell is text, and remove outer white space and byte order marks.

    Raises:
        ValueError: It is not; the message says what is wrong with the column.
    """
    if value is None:
        raise ValueError(f"column '{column}' is null")
    if not isinstance(value, str):
        raise ValueError(f"column '{column}' holds {type(value).__name__}, expected text,")
    return _strip(value, column)


def _normalise_label(value: object, column: str) -> str:
    """Convert a label to text; the ``ValueError`` says why it cannot be."""
    if isinstance(value, Unlabelled):
        raise ValueError(f"column '{column}' is {value.value}, which means not labelled,")
    if value is None or value != value:  # NaN is how data frames write a missing number
        raise ValueError(f"column '{column}' is null")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        raise ValueError(f"column '{column}' holds numbers with decimals: {REGRESSION},")
    if not isinstance(value, str):
        raise ValueError(f"column '{column}' holds {type(value).__name__}, expected text, whole numbers or bools,")
    return _strip(value, column)


def _strip(value: str, column: str) -> str:
    """Remove outer white space and byte order marks, in any order."""
    stripped = value.strip().strip(BYTE_ORDER_MARK)
    while stripped != value:
        value, stripped = stripped, stripped.strip().strip(BYTE_ORDER_MARK)
    if not stripped:
        raise ValueError(f"column '{column}' is empty")
    try:
        stripped.encode()
    except UnicodeEncodeError:
        raise ValueError(f"column '{column}' holds half a surrogate pair") from None
    return stripped
