"""The one place that lays tables and texts out for a width, so that no number and no id is ever cut.

A table that is too wide loses its least important columns: on a printed page their cells are stacked below their row,
in a live display, whose rows are one line each, they are left out. A pipe or file is as wide as ``COLUMNS`` says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shutil import get_terminal_size

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from xautolm_hpc.report.blocks import Table
from xautolm_hpc.report.safe_text import one_line

PIPE_WIDTH = 120
"""Characters of a line of a pipe or file where ``COLUMNS`` does not say: a log is read in an editor or pager."""

GAP = 2
"""Blanks between two columns."""

INDENT = "    "
"""What cells begin with that are stacked below their row."""

LEAST_PROSE = 16
"""Least width of a column of prose beside others, in characters."""

UNKNOWN_CELLS = ("", "–")
"""Cells that are not stacked: they say nothing."""

Styles = Mapping[tuple[int, str], str]
"""(Row, heading) -> style of the cell."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns of a table stand side by side.

    Attributes:
        widths: Heading of each column that does -> its width in characters, in the order of the table.
        others: Headings of the columns that do not, in the order of the table.
    """

    widths: Mapping[str, int]
    others: tuple[str, ...]


def table_width(console: Console) -> int:
    """Return the characters of a line: of a terminal, else as ``COLUMNS`` says, else :data:`PIPE_WIDTH`."""
    return console.width if console.is_terminal else get_terminal_size((PIPE_WIDTH, 0)).columns


def lay_out(table: Table, width: int, *, is_live: bool = False) -> Layout:
    """Choose the columns that fit side by side, by their rank, and their widths.

    Args:
        table: The table; its cells hold one line each.
        width: Characters of a line.
        is_live: Whether prose is shortened between two words instead of wrapped.
    """
    kept = list(table.ranked())
    while len(kept) > 1 and _total(_least_widths(table, kept, is_live=is_live)) > width:
        kept.pop()
    columns = [column for column in table.columns if column in kept]
    others = tuple(column for column in table.columns if column not in kept)
    full = {column: _full_width(table, column) for column in columns}
    if _total(full) <= width:
        return Layout(full, others)
    return Layout(_grown(_least_widths(table, columns, is_live=is_live), full, line_width=width), others)


def draw_table(table: Table, width: int, *, is_live: bool = False, styles: Styles | None = None) -> list[Text]:
    """Draw a table as lines.

    Args:
        table: The table; foreign text in it is escaped.
        width: Characters of a line. A single number or id that is longer stays whole.
        is_live: Whether each row must be one line: what does not fit is left out instead of stacked.
        styles: Styles of cells.
    """
    table = _escaped(table)
    layout, styles = lay_out(table, width, is_live=is_live), styles or {}
    heads = _side_by_side({c: _wrapped(c, w) for c, w in layout.widths.items()}, layout.widths, right=table.right)
    lines = [Text(line, style="bold") for line in heads]
    lines.append(Text("─" * _total(layout.widths)))
    for number, row in enumerate(table.rows):
        cells = dict(zip(table.columns, row, strict=True))
        shown = {c: _cell_lines(table, c, text=cells[c], width=w, is_live=is_live) for c, w in layout.widths.items()}
        row_styles = {column: styles.get((number, column), "") for column in table.columns}
        lines += _styled(shown, layout.widths, right=table.right, styles=row_styles)
        if not is_live:
            lines += map(Text, _stacked({c: cells[c] for c in layout.others}, width))
    return lines


def wrap_text(text: str, width: int) -> list[str]:
    """Break a text at blanks into lines of at most ``width`` characters; a longer word stays whole.

    Args:
        text: One line, escaped.
        width: Characters of a line.
    """
    return _wrapped(text, width)


def print_lines(lines: Sequence[Text], console: Console) -> None:
    """Print lines as they are: a terminal may break one that is too long for it, but nothing is cut."""
    for line in lines:
        console.print(line, soft_wrap=True)


def print_table(table: Table, console: Console) -> None:
    """Print a table: whole, and no wider than a line.

    Args:
        table: The table.
        console: Output.
    """
    print_lines(draw_table(table, table_width(console)), console)


def _escaped(table: Table) -> Table:
    rows = tuple(tuple(map(one_line, row)) for row in table.rows)
    return Table(table.columns, rows, right=table.right, wraps=table.wraps, rank=table.rank)


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


def _cells(table: Table, column: str) -> list[str]:
    place = table.columns.index(column)
    return [row[place] for row in table.rows]


def _full_width(table: Table, column: str) -> int:
    return max(map(cell_len, (column, *_cells(table, column))))


def _least_widths(table: Table, columns: Sequence[str], *, is_live: bool) -> dict[str, int]:
    return {column: _least_width(table, column, is_live=is_live) for column in columns}


def _least_width(table: Table, column: str, *, is_live: bool) -> int:
    """Return the width below which a column breaks a word of its heading, a number or an id."""
    cells = _cells(table, column)
    if column in table.wraps:
        words = [] if is_live else [word for cell in cells for word in cell.split()]
        cells = [*words, " " * LEAST_PROSE]
    return min(_full_width(table, column), max(map(cell_len, (*column.split(), *cells))))


def _grown(least: Mapping[str, int], full: Mapping[str, int], *, line_width: int) -> dict[str, int]:
    """Share out what is left of a line to the columns, those that lack least first."""
    widths = dict(least)
    for column in sorted(widths, key=lambda name: full[name] - least[name]):
        widths[column] += max(0, min(full[column] - least[column], line_width - _total(widths)))
    return widths


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and cell_len(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _cell_lines(table: Table, column: str, *, text: str, width: int, is_live: bool) -> list[str]:
    """Break a cell of prose into lines; a live display shows the first of them."""
    if column not in table.wraps or cell_len(text) <= width:
        return [text]
    if not is_live:
        return _wrapped(text, width)
    start = _wrapped(text, width - 1)[0]
    return [f"{start}…" if cell_len(start) < width else "…"]


def _padded(text: str, width: int, *, to_right: bool) -> str:
    blanks = " " * max(0, width - cell_len(text))
    return blanks + text if to_right else text + blanks


def _side_by_side(cells: Mapping[str, Sequence[str]], widths: Mapping[str, int], *, right: frozenset[str]) -> list[str]:
    styled = _styled(cells, widths, right=right, styles={})
    return [line.plain for line in styled]


def _styled(
    cells: Mapping[str, Sequence[str]],
    widths: Mapping[str, int],
    *,
    right: frozenset[str],
    styles: Mapping[str, str],
) -> list[Text]:
    """Join the cells of one row side by side; those of fewer lines end earlier."""
    lines = []
    for number in range(max(map(len, cells.values()))):
        line = Text()
        for column, width in widths.items():
            text = cells[column][number] if number < len(cells[column]) else ""
            line.append(" " * GAP if line else "")
            line.append(_padded(text, width, to_right=column in right), style=styles.get(column, ""))
        line.rstrip()
        lines.append(line)
    return lines


def _stacked(cells: Mapping[str, str], width: int) -> list[str]:
    """Write the cells that do not fit into the row below it, each with its heading."""
    known = {column: text for column, text in cells.items() if text not in UNKNOWN_CELLS}
    inner = max(1, width - len(INDENT))
    return [INDENT + line for column, text in known.items() for line in wrap_text(f"{column}: {text}", inner)]
