"""Parses CSV and TSV as people's programs write them, and finds the character that divides their columns.

Quoting follows RFC 4180: a quoted field may hold delimiters, line ends and doubled quotes. Blanks around the quotes are
not part of the field, which other readers make part of it. A quote that is not closed is an error, because the rows
after it would be lost.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xautolm_hpc.errors import DataError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
"""Characters that are recognised as delimiters -> their names."""

SEPARATOR_LINE = re.compile(r'"?sep=([^"\r\n])"?(?:\r\n|\r|\n)', re.IGNORECASE)
"""First line by which Excel names the delimiter."""

PRIVATE_USE = range(0xE000, 0xF900)
"""Letters to which Unicode gives no meaning."""

LINE_END = re.compile(r"\r\n|\r|\n")
BLANK_LINES = re.compile(r"(?:[^\S\r\n]*(?:\r\n|\r|\n))*")
SHOWN_LETTERS = 40


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file.

    Attributes:
        start: Where it starts in the text.
        fields: Its fields, quotes removed.
    """

    start: int
    fields: list[str]


class QuoteError(ValueError):
    """A quoted field does not end where its row's next field begins.

    Args:
        start: Where the field starts in the text.
    """

    def __init__(self, start: int) -> None:
        super().__init__(f"a quoted field that starts at character {start} has no end")
        self.start = start


def parse_delimited(
    path: Path, text: str, *, wanted: Sequence[str], delimiter: str | None, usual: str
) -> tuple[list[str], list[tuple[str, ...]], list[int], str]:
    """Parse the rows of a CSV or TSV file; rows without any content are skipped.

    Args:
        path: The file, for messages.
        text: Its text.
        wanted: Columns to read.
        delimiter: What divides the columns; ``None`` if it is to be recognised.
        usual: What divides them in files of this extension.

    Returns:
        The column names, the cells of the wanted columns if all exist, the line of each row, and the delimiter.

    Raises:
        DataError: The delimiter is not clear, a quote is not closed, or a row is of another width than the header.
    """
    named = SEPARATOR_LINE.match(text)
    start = named.end() if named else 0
    found = delimiter or (named[1] if named else find_delimiter(path, text, wanted=wanted, usual=usual))
    try:
        records = _read_records(text, found, start=start)
    except QuoteError as error:
        raise DataError(
            f"`{path}`: line {_line_at(text, error.start)} is not valid CSV: a quoted field is not closed, or "
            f"something follows its closing quote: {_shown(text, error.start)}. Double the quotes inside a quoted "
            "field, or use JSON Lines"
        ) from None
    header = _column_names(records, wanted=wanted)
    if not set(wanted) <= set(header):
        is_quoted = bool(records) and text[records[0].start :].lstrip().startswith('"')
        _check_header_quotes(path, header, wanted=wanted, is_quoted=is_quoted)
        return header, [], [], found
    _check_widths(path, records, text=text, delimiter=found)
    places = [header.index(column) for column in wanted]
    _check_single_quotes(path, [[record.fields[place] for record in records[1:]] for place in places], names=wanted)
    cells = [tuple(record.fields[place] for place in places) for record in records[1:]]
    return header, cells, _lines_of(text, records[1:]), found


def find_delimiter(path: Path, text: str, *, wanted: Sequence[str], usual: str) -> str:
    """Find the delimiter under which the header holds the wanted columns.

    If the header holds them under none or several, the one under which all rows are as wide as the header. Where the
    whole header is the one column that is wanted, nothing divides: a letter that the text does not have.

    Args:
        path: The file, for messages.
        text: Its text.
        wanted: Columns to read.
        usual: The delimiter where nothing in the header divides columns.

    Raises:
        DataError: Several are possible; the message lists them with the columns that each gives.
    """
    if len(wanted) == 1 and _first_line(text).strip('"') == wanted[0]:
        return next((letter for letter in map(chr, PRIVATE_USE) if letter not in text), "\0")
    headers = {delimiter: _read_header(text, delimiter, wanted=wanted) for delimiter in DELIMITERS}
    candidates = [delimiter for delimiter, header in headers.items() if set(wanted) <= set(header)]
    candidates = candidates or [delimiter for delimiter, header in headers.items() if len(header) > 1]
    if len(candidates) > 1:
        candidates = [delimiter for delimiter in candidates if _is_even(text, delimiter)] or candidates
    if len(candidates) > 1:
        shown = "; ".join(f"{name_delimiter(d)} gives {headers[d]}" for d in candidates)
        raise DataError(
            f"`{path}`: what divides its columns is not clear: {shown}. Set data.delimiter to one of them, and the "
            "column names, such as data.text and data.label, to columns that it gives"
        )
    return candidates[0] if candidates else usual


def name_delimiter(delimiter: str) -> str:
    """Name a delimiter for messages."""
    return f"{DELIMITERS[delimiter]} ({delimiter!r})" if delimiter in DELIMITERS else repr(delimiter)


def _read_records(text: str, delimiter: str, *, start: int = 0) -> list[Record]:
    """Read all rows that hold something.

    Files with tabs are often written without any quoting. So each of their lines is a row if all lines are as wide as
    the header; only otherwise may a quoted field hold a line end.
    """
    if delimiter != "\t":
        return _filled(_read_quoted(text, delimiter, start=start))
    lines = _filled(_read_lines(text, start=start))
    if _have_one_width(lines):
        return _without_quotes(lines)
    try:
        quoted = _filled(_read_quoted(text, delimiter, start=start))
    except QuoteError:
        return lines
    return quoted if _have_one_width(quoted) else lines


def _read_quoted(text: str, delimiter: str, *, start: int = 0, limit: int | None = None) -> list[Record]:
    """Read rows whose fields may be quoted.

    Args:
        text: The text.
        delimiter: What divides the fields.
        start: Where the first row begins.
        limit: Rows to read at most.

    Raises:
        QuoteError: A field starts with a quote and does not end with one.
    """
    divider = re.escape(delimiter)
    blanks = rf"[^\S\r\n{divider}]*+"
    quoted = rf'{blanks}"([^"]*+(?:""[^"]*+)*+)"{blanks}(?={divider}|\r|\n|\Z)'
    match_field = re.compile(rf"{quoted}|([^{divider}\r\n]*+)").match
    records: list[Record] = []
    place = start
    record = Record(place, [])
    while place < len(text) or record.fields:
        field = match_field(text, place)
        if field is None or (field[1] is None and field[2].lstrip().startswith('"')):
            raise QuoteError(place)
        record.fields.append(field[2] if field[1] is None else field[1].replace('""', '"'))
        place = field.end()
        if text.startswith(delimiter, place):
            place += 1
            continue
        place += 2 if text.startswith("\r\n", place) else 1
        records.append(record)
        record = Record(place, [])
        if limit is not None and len(records) == limit:
            break
    return records


def _read_lines(text: str, *, start: int) -> list[Record]:
    """Read each line as a row; quotes are text."""
    records = []
    for line in text[start:].split("\n"):
        records.append(Record(start, line.removesuffix("\r").split("\t")))
        start += len(line) + 1
    return records


def _without_quotes(records: list[Record]) -> list[Record]:
    """Remove quotes if every field that starts with one is quoted as a whole; else they are text."""
    starting = (field for record in records for field in record.fields if field.lstrip().startswith('"'))
    if not all(map(_is_quoted, starting)):
        return records
    return [
        Record(record.start, [_unquote(field) if _is_quoted(field) else field for field in record.fields])
        for record in records
    ]


def _is_quoted(field: str) -> bool:
    field = field.strip()
    return len(field) >= 2 and field[0] == field[-1] == '"' and '"' not in field[1:-1].replace('""', "")


def _unquote(field: str) -> str:
    return field.strip()[1:-1].replace('""', '"')


def _filled(records: Sequence[Record]) -> list[Record]:
    """Drop rows whose every field is empty: blank lines, and those that a table program adds at the end."""
    return [record for record in records if any(map(str.strip, record.fields))]


def _have_one_width(records: Sequence[Record]) -> bool:
    return len({len(record.fields) for record in records}) <= 1


def _is_even(text: str, delimiter: str) -> bool:
    """Check whether all rows have one width if this divides them."""
    try:
        return _have_one_width(_read_records(text, delimiter))
    except QuoteError:
        return False


def _first_line(text: str) -> str:
    """Return the first line that is not blank, without outer blanks."""
    blank = BLANK_LINES.match(text)
    start = blank.end() if blank else 0
    end = LINE_END.search(text, start)
    return text[start : end.start() if end else len(text)].strip()


def _read_header(text: str, delimiter: str, *, wanted: Sequence[str]) -> list[str]:
    """Read the column names if this divides them; none if a quote is not closed."""
    try:
        first = BLANK_LINES.match(text)
        records = _read_quoted(text, delimiter, start=first.end() if first else 0, limit=1)
        return _column_names(records, wanted=wanted)
    except QuoteError:
        return []


def _column_names(records: Sequence[Record], *, wanted: Sequence[str]) -> list[str]:
    """Read the names from the first row; outer blanks are left out unless a wanted column is named with them."""
    names = records[0].fields if records else []
    return names if set(wanted) <= set(names) else [name.strip() for name in names]


def _line_at(text: str, place: int) -> int:
    """Number the line of a place in a text, from 1."""
    return 1 + len(LINE_END.findall(text, 0, place))


def _lines_of(text: str, records: Sequence[Record]) -> list[int]:
    """Number the lines where records begin, which a quoted field may move."""
    lines, line, place = [], 1, 0
    for record in records:
        one, two = (sum(text.count(end, place, record.start) for end in ends) for ends in (("\n", "\r"), ("\r\n",)))
        line, place = line + one - two, record.start
        lines.append(line)
    return lines


def _shown(text: str, place: int) -> str:
    """Return what a message shows of a line from a place on."""
    return text[place : place + SHOWN_LETTERS].splitlines()[0]


def _check_widths(path: Path, records: Sequence[Record], *, text: str, delimiter: str) -> None:
    """Check that every row is as wide as the header."""
    header, *rows = records
    uneven = [record for record in rows if len(record.fields) != len(header.fields)]
    if uneven:
        first = uneven[0]
        raise DataError(
            f"`{path}`: line {_line_at(text, first.start)} has {len(first.fields)} fields, the header "
            f"{len(header.fields)}, divided by {name_delimiter(delimiter)}: "
            f"{delimiter.join(first.fields):.{SHOWN_LETTERS}}. So have {len(uneven):,} of {len(rows):,} rows. Quote or "
            "remove what divides the fields inside a text, use JSON Lines, or set data.delimiter"
        )


def _check_header_quotes(path: Path, header: Sequence[str], *, wanted: Sequence[str], is_quoted: bool) -> None:
    """Explain a header that lacks columns only because of how it is quoted.

    Raises:
        DataError: Its names are in single quotes, or quotes stand around the whole line.
    """
    if set(wanted) <= {name.strip().strip("'") for name in header}:
        raise _single_quotes(path, "its column names are")
    whole = header[0] if is_quoted and len(header) == 1 else ""
    if any(set(wanted) <= {name.strip() for name in whole.split(delimiter)} for delimiter in DELIMITERS):
        raise DataError(
            f"`{path}`: quotes stand around whole lines: the header is one field, {whole!r:.{SHOWN_LETTERS}}. Remove "
            "the outer quotes of each line and halve the doubled ones inside, or use JSON Lines"
        )


def _check_single_quotes(path: Path, columns: Sequence[Sequence[str]], *, names: Sequence[str]) -> None:
    """Check that not every cell of a column stands in single quotes, which would become part of it.

    Raises:
        DataError: One does.
    """
    for name, cells in zip(names, columns, strict=True):
        filled = [cell.strip() for cell in cells if cell.strip()]
        if filled and all(len(cell) > 1 and cell[0] == cell[-1] == "'" for cell in filled):
            raise _single_quotes(path, f"every cell of column '{name}' is")


def _single_quotes(path: Path, what: str) -> DataError:
    return DataError(
        f"`{path}`: {what} in single quotes, which CSV does not know as quotes: they would become part of the text. "
        "Write double quotes, or none, or use JSON Lines"
    )
