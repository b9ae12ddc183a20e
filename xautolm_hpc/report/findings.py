"""What ``doctor`` found, on a terminal."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from xautolm_hpc.finding import Finding
from xautolm_hpc.report.quantities import counted
from xautolm_hpc.report.screen import harmless

STYLES = {"ok": "green", "warning": "yellow", "failure": "red"}


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print a row for each finding, with what to do below those that need it, and how many there are of each level.

    Args:
        findings: The findings.
        console: Where to.
    """
    grid = Table.grid(padding=(0, 1))
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
