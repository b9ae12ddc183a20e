"""Sections and tables of a report, before they are printed on a terminal or written as Markdown."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts.

    Attributes:
        columns: Heading of each column.
        rows: Cells, one per column.
        right: Headings of the columns aligned to the right: numbers.
        wraps: Headings of the columns of prose, whose cells may go on in a further line at a blank. Cells of all
            other columns, numbers and ids, stay whole on one line.
        rank: Headings of the columns that a narrow terminal keeps longest, the most important first; the others
            follow from left to right, prose last.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[str] = frozenset()
    wraps: frozenset[str] = frozenset()
    rank: tuple[str, ...] = ()

    def ranked(self) -> tuple[str, ...]:
        """List the columns, the most important first."""
        first = [column for column in self.rank if column in self.columns]
        rest = [column for column in self.columns if column not in first]
        return (*first, *sorted(rest, key=lambda column: column in self.wraps))


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section of a report.

    Attributes:
        title: Heading.
        facts: Label and text, shown as a list.
        lines: Sentences after the facts and before the table.
        table: Table, or ``None``.
        on_screen: Whether a terminal shows it; Markdown always does.
    """

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    lines: tuple[str, ...] = ()
    table: Table | None = None
    on_screen: bool = True
