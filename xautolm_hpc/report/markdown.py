"""The report as Markdown, with aligned table columns, so that it is readable as plain text too."""

from collections.abc import Mapping
from typing import Any

from rich.cells import cell_len

from xautolm_hpc.report.blocks import Section, Table
from xautolm_hpc.report.curves import CURVES_TITLE
from xautolm_hpc.report.safe_text import markdown_text
from xautolm_hpc.report.sections import front_title, report_sections

FIGURE_NAME, CURVES_NAME = "pareto.png", "curves.png"


def to_markdown(summary: Mapping[str, Any]) -> str:
    """Write the report as Markdown, foreign text escaped.

    Args:
        summary: Result of :func:`xautolm_hpc.report.summary.summarise`.

    Returns:
        The document; it refers to the figures beside it, ``pareto.png`` and ``curves.png``.
    """
    run = summary["run"]
    blocks = [f"# Report of {markdown_text(run['name'])}", f"Run {markdown_text(run['run_id'])}."]
    for section in report_sections(summary):
        blocks += _blocks(section)
        if section.title == front_title(summary):
            blocks.append(f"![First objective against the second, with failures]({FIGURE_NAME})")
        if section.title == CURVES_TITLE:
            blocks.append(f"![F1 on dev against seconds of training]({CURVES_NAME})")
    return "\n\n".join(blocks) + "\n"


def _blocks(section: Section) -> list[str]:
    blocks = [f"## {section.title}"]
    if section.facts:
        blocks.append("\n".join(f"- {label}: {markdown_text(text)}" for label, text in section.facts))
    if section.lines:
        blocks.append("\n".join(markdown_text(line) for line in section.lines))
    if section.table is not None:
        blocks.append(_table(section.table))
    return blocks


def _table(table: Table) -> str:
    """Write a table whose columns are aligned in the source too."""
    cells = [[markdown_text(cell) for cell in row] for row in table.rows]
    heads = [markdown_text(column) for column in table.columns]
    widths = [max(cell_len(cell) for cell in (*column, "---")) for column in zip(heads, *cells, strict=True)]
    right = [column in table.right for column in table.columns]
    rule = ["-" * (width - 1) + ":" if to_right else "-" * width for width, to_right in zip(widths, right, strict=True)]
    rows = [
        [_padded(cell, width, to_right=to_right) for cell, width, to_right in zip(row, widths, right, strict=True)]
        for row in (heads, rule, *cells)
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _padded(cell: str, width: int, *, to_right: bool) -> str:
    blanks = " " * (width - cell_len(cell))
    return blanks + cell if to_right else cell + blanks
