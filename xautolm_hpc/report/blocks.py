"""Sections and tables of a report, before they are printed on a terminal or written as Markdown."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts.

    Attributes:
        columns: Heading of each column.
        rows: Cells, one per column.
        right: Headings of the columns aligned to the right: numbers.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[str] = frozenset()


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
