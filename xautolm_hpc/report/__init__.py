"""Reports: what a run came to, as tables on screen, Markdown, JSON and a figure, and the view of a run going on."""

from xautolm_hpc.report.findings import print_findings
from xautolm_hpc.report.forecast import print_plan
from xautolm_hpc.report.frame import print_view
from xautolm_hpc.report.live import LiveView, OpenView, PlainView, QuietView, choose_view
from xautolm_hpc.report.markdown import to_markdown
from xautolm_hpc.report.safe_text import escape_controls
from xautolm_hpc.report.screen import print_prior, print_report
from xautolm_hpc.report.summary import summarise
from xautolm_hpc.report.write import write_report

__all__ = [
    "LiveView",
    "OpenView",
    "PlainView",
    "QuietView",
    "choose_view",
    "escape_controls",
    "print_findings",
    "print_plan",
    "print_prior",
    "print_report",
    "print_view",
    "summarise",
    "to_markdown",
    "write_report",
]
