"""Reports on a terminal: a run's report, a prior, and the results of checks."""

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

STYLES = {"ok": "green", "warning": "yellow", "failure": "red"}
"""Level of a finding -> its colour."""


def print_report(summary: Mapping[str, Any], console: Console) -> None:
    """Print the report; sections too long for a terminal are in the report's files only.

    Args:
        summary: Result of :func:`xautolm_hpc.report.summary.summarise`.
        console: Output; foreign text is printed with control characters escaped and without markup.
    """
    console.print(harmless(f"Report of {summary['run']['name']}", "bold"))
    for section in report_sections(summary):
        if section.on_screen:
            print_section(section, console)


def print_prior(prior: Mapping[str, Any], console: Console) -> None:
    """Print the prior beside uniform, and the experiences that caused the difference.

    Args:
        prior: Content of ``priors.json``.
        console: Output.
    """
    for section in prior_sections(summarise_prior(prior)):
        print_section(section, console)


def harmless(text: str, style: str = "") -> Text:
    """Wrap foreign text so that neither the terminal nor rich interprets it."""
    return Text(one_line(text), style=style)


def print_section(section: Section, console: Console) -> None:
    """Print one section of a report.

    Args:
        section: The section.
        console: Output.
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
    """Return settings that right-align a column of numbers, wide enough that no number breaks."""
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


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print each finding, with its remedy below it, and the number of findings of each level.

    Args:
        findings: The findings.
        console: Output.
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
