"""Reports: a run's results as tables on screen, Markdown, JSON and a figure, and the display of a running search."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xautolm_hpc.durable import remove_torn, write_bytes, write_json
from xautolm_hpc.report.blocks import Table
from xautolm_hpc.report.curve_figure import draw_curves
from xautolm_hpc.report.figure import draw_pareto
from xautolm_hpc.report.figure_numbers import FIGURES, figure_numbers
from xautolm_hpc.report.frame import print_view
from xautolm_hpc.report.live import LiveView, NotedView, OpenView, PlainView, QuietView, choose_view
from xautolm_hpc.report.markdown import CURVES_NAME, FIGURE_NAME, to_markdown
from xautolm_hpc.report.other_figures import draw_others
from xautolm_hpc.report.page.document import to_html
from xautolm_hpc.report.planned import print_plan
from xautolm_hpc.report.quantities import duration_text
from xautolm_hpc.report.safe_text import escape_controls
from xautolm_hpc.report.screen import print_examples, print_findings, print_prior, print_report
from xautolm_hpc.report.sections import left_out_text
from xautolm_hpc.report.shortfall import shortfall_text
from xautolm_hpc.report.summary import summarise
from xautolm_hpc.report.table_layout import print_lines, print_table
from xautolm_hpc.report.trackers import write_log
from xautolm_hpc.report.wrong_rows import wrong_answers
from xautolm_hpc.view import FinishKind, RunFacts

__all__ = [
    "PAGE_NAME",
    "SUMMARY_NAME",
    "LiveView",
    "NotedView",
    "OpenView",
    "PlainView",
    "QuietView",
    "Table",
    "choose_view",
    "duration_text",
    "escape_controls",
    "left_out_text",
    "print_examples",
    "print_findings",
    "print_lines",
    "print_plan",
    "print_prior",
    "print_report",
    "print_table",
    "print_view",
    "shortfall_text",
    "summarise",
    "to_html",
    "to_markdown",
    "write_log",
    "write_page",
    "write_report",
    "wrong_answers",
]

SUMMARY_NAME, PAGE_NAME = "report.json", "report.html"


def write_report(facts: RunFacts, report_dir: Path) -> dict[str, Any]:
    """Write ``report.json``, ``report.md``, ``report.html`` and the figures, each in one step, over earlier ones.

    Each figure is a picture and its numbers as JSON; of a search that goes on only the pictures ``pareto.png`` and
    ``curves.png`` are drawn.

    Args:
        facts: The run's results.
        report_dir: Folder of the report; made if it is not there.

    Returns:
        The summary that all of them are made of.

    Raises:
        OSError: The folder cannot be written.
    """
    report_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_torn(report_dir)  # of a driver that was killed
    summary = summarise(facts)
    write_json(report_dir / SUMMARY_NAME, summary)
    write_bytes(report_dir / "report.md", to_markdown(summary).encode())
    write_page(summary, report_dir)
    numbers = figure_numbers(summary)
    for name in FIGURES:
        if name in numbers:
            write_json(report_dir / f"{name}.json", numbers[name], flush=False)
        else:
            (report_dir / f"{name}.json").unlink(missing_ok=True)
    draw_pareto(summary, report_dir / FIGURE_NAME)
    draw_curves(summary, report_dir / CURVES_NAME)
    if facts.finish.kind is not FinishKind.UNFINISHED:
        draw_others(numbers, report_dir)
    return summary


def write_page(summary: Mapping[str, Any], report_dir: Path, *, examples: Sequence[Mapping[str, str]] = ()) -> Path:
    """Write ``report.html`` in one step.

    Args:
        summary: The content of ``report.json``.
        report_dir: Folder of the report.
        examples: Wrong answers with their texts, if a person asked for them.

    Returns:
        The page's path.

    Raises:
        OSError: The folder cannot be written.
    """
    path = report_dir / PAGE_NAME
    write_bytes(path, to_html(summary, examples=examples).encode())
    return path
