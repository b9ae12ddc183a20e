"""``report``: show a run's results."""

import argparse
import json

from rich.console import Console
from rich.text import Text

from xautolm_hpc import report
from xautolm_hpc.durable import read_json
from xautolm_hpc.errors import RunFolderError
from xautolm_hpc.run.folder import find_run


def run(arguments: argparse.Namespace) -> int:
    """Show the report of the committed generations.

    Raises:
        RunFolderError: There is no such run, or it has no committed generation yet.
    """
    run_dir = find_run(arguments.run_name, arguments.runs_dir)
    path = run_dir.report_dir / "report.json"
    if not path.exists():
        raise RunFolderError(f"`{run_dir.path}` has no committed generation yet; see: xautolm-hpc status")
    summary = read_json(path)
    if arguments.json:
        print(json.dumps(summary, indent=1))
        return 0
    console = Console()
    report.print_report(summary, console)
    report.print_lines([Text(f"files: {run_dir.report_dir}")], console)
    return 0
