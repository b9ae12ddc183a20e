"""The report on a terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as ScreenTable
from rich.text import Text

from xautolm_hpc.report.blocks import Section, Table
from xautolm_hpc.report.prior_sections import prior_sections
from xautolm_hpc.report.quantities import counted
from xautolm_hpc.report.safe_text import one_line
from xautolm_hpc.report.sections import report_sections
from xautolm_hpc.report.summary import summarise_prior
from xautolm_hpc.view import Finding


def print_report(summary: Mapping[str, Any], console: Console) -> None:
    """Print the report; what is long and of little use on a terminal stands in the report's files only.

    Args:
        summary: What :func:`xautolm_hpc.report.summary.summarise` gave.
        console: Where to; foreign text reaches it with control characters escaped and without markup.
    """
    console.print(harmless(f"Report of {summary['run']['name']}", "bold"))
    for section in report_sections(summary):
        if section.on_screen:
            print_section(section, console)


def print_prior(prior: Mapping[str, Any], console: Console) -> None:
    """Print the prior beside uniform, and the experiences that moved it.

    Args:
        prior: Content of ``priors.json``.
        console: Where to.
    """
    for section in prior_sections(summarise_prior(prior)):
        print_section(section, console)


def harmless(text: str, style: str = "") -> Text:
    """Wrap foreign text so that neither the terminal nor rich obeys it."""
    return Text(one_line(text), style=style)


def print_section(section: Section, console: Console) -> None:
    """Print one section of a report.

    Args:
        section: The section.
        console: Where to.
    """
    console.print()
    console.print(Text(section.title, style="bold cyan"))
    if section.facts:
        console.print(Padding(_grid(section.facts), (0, 0, 0, 2)))
    for line in section.lines:
        console.print(Padding(harmless(line), (0, 0, 0, 2)))
    if section.table is not None:
        console.print(_drawn(section.table))


def _grid(facts: tuple[tuple[str, str], ...]) -> ScreenTable:
    grid = ScreenTable.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, text in facts:
        grid.add_row(Text(label), harmless(text))
    return grid


def _fit(table: Table, column: str) -> dict[str, Any]:
    """Give a column of numbers the width that its cells and the words of its heading need; they never break."""
    if column not in table.right:
        return {}
    cells = [row[table.columns.index(column)] for row in table.rows]
    return {"justify": "right", "min_width": max(map(len, (*cells, *column.split())))}


def _drawn(table: Table) -> ScreenTable:
    drawn = ScreenTable(box=box.SIMPLE_HEAD, pad_edge=True, header_style="bold")
    for column in table.columns:
        drawn.add_column(Text(column), overflow="fold", **_fit(table, column))
    for row in table.rows:
        drawn.add_row(*(harmless(cell) for cell in row))
    return drawn


STYLES = {"ok": "green", "warning": "yellow", "failure": "red"}


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print a row for each finding, with what to do below those that need it, and how many there are of each level.

    Args:
        findings: The findings.
        console: Where to.
    """
    grid = ScreenTable.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for finding in findings:
        grid.add_row(harmless(finding.level, STYLES[finding.level]), harmless(f"{finding.check}: {finding.found}"))
        if finding.remedy:
            grid.add_row("", harmless(f"→ {finding.remedy}"))
    console.print(grid)
    n = Counter(finding.level for finding in findings)
    console.print(
        f"{counted(n['ok'], 'check')} ok, {counted(n['warning'], 'warning')}, {counted(n['failure'], 'failure')}"
    )
