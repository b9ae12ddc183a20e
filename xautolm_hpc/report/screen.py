"""Reports on a terminal: a run's report, a prior, and the results of checks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from xautolm_hpc.report.blocks import Section
from xautolm_hpc.report.prior_sections import prior_sections
from xautolm_hpc.report.quantities import counted
from xautolm_hpc.report.safe_text import one_line
from xautolm_hpc.report.sections import report_sections
from xautolm_hpc.report.summary import summarise_prior
from xautolm_hpc.report.table_layout import print_lines, print_table, table_width, wrap_text
from xautolm_hpc.report.wrong_rows import example_section
from xautolm_hpc.view import Finding

STYLES = {"ok": "green", "warning": "yellow", "failure": "red"}
"""Level of a finding -> its colour."""

INDENT = "  "


def print_report(summary: Mapping[str, Any], console: Console) -> None:
    """Print the report; sections too long for a terminal are in the report's files only.

    Args:
        summary: Result of :func:`xautolm_hpc.report.summary.summarise`.
        console: Output; foreign text is printed with control characters escaped and without markup.
    """
    print_lines([harmless(f"Report of {summary['run']['name']}", "bold")], console)
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


def print_examples(examples: Sequence[Mapping[str, str]], console: Console) -> None:
    """Print rows that the best trial answered wrong, with their texts.

    Args:
        examples: Result of :func:`xautolm_hpc.report.wrong_rows.wrong_answers`.
        console: Output.
    """
    print_section(example_section(examples), console)


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
    print_entries([(label, text) for label, text in section.facts], console)
    inner = max(1, table_width(console) - len(INDENT))
    print_lines([Text(INDENT + part) for line in section.lines for part in wrap_text(one_line(line), inner)], console)
    if section.table is not None:
        console.print()
        print_table(section.table, console)


def print_entries(entries: Sequence[tuple[str, str]], console: Console, *, style: str = "dim") -> None:
    """Print labels, one below the other, and a text beside each, which goes on below itself.

    Args:
        entries: Labels and texts; an empty label continues the entry above.
        console: Output.
        style: Style of the labels; ``""`` takes that of :data:`STYLES`.
    """
    widest = max((cell_len(label) for label, _ in entries), default=0)
    inner = max(1, table_width(console) - len(INDENT) - widest - 2)
    for label, text in entries:
        for number, part in enumerate(wrap_text(one_line(text), inner)):
            head = Text(INDENT).append((label if number == 0 else "").ljust(widest + 2), style or STYLES.get(label, ""))
            print_lines([head.append(part)], console)


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print each finding, with its remedy below it, and the number of findings of each level.

    Args:
        findings: The findings.
        console: Output.
    """
    entries = []
    for finding in findings:
        entries.append((finding.level, f"{finding.check}: {finding.found}"))
        entries += [("", f"→ {finding.remedy}")] if finding.remedy else []
    print_entries(entries, console, style="")
    n = Counter(finding.level for finding in findings)
    counts = (counted(n["ok"], "check"), counted(n["warning"], "warning"), counted(n["failure"], "failure"))
    print_lines([Text("{} ok, {}, {}".format(*counts))], console)
