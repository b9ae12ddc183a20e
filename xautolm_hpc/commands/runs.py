"""``runs``: list the runs of a folder."""

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.text import Text

from xautolm_hpc import report
from xautolm_hpc.config import SearchFile, load_profile
from xautolm_hpc.node import SystemClock
from xautolm_hpc.records import to_json
from xautolm_hpc.run.all_runs import RunRow, list_runs, read_row
from xautolm_hpc.run.folder import RunDir

MIB = 2**20
SECTIONS = {
    name: tuple(getattr(field.annotation, "model_fields", ())) for name, field in SearchFile.model_fields.items()
}
"""Key or table at the top of a search file -> keys of the table, for those that read no settings."""


def read_run(run_dir: RunDir) -> RunRow:
    """Read one run in a few numbers, as the list of runs shows it.

    Args:
        run_dir: The run folder.
    """
    return read_row(run_dir, stale_s=load_profile(None).patience.lease_stale_s)


def run(arguments: argparse.Namespace) -> int:
    """List the runs, the last to begin first."""
    runs_dir = Path(arguments.runs_dir)
    rows = list_runs(runs_dir, stale_s=load_profile(None).patience.lease_stale_s)
    if arguments.json:
        print(json.dumps([to_json(row) for row in rows], indent=1))
        return 0
    console = Console()
    if rows:
        report.print_table(_table(rows, now=SystemClock().now()), console)
    else:
        report.print_lines([Text(f"no runs in {runs_dir}; --runs-dir names another folder")], console)
    return 0


def _table(rows: list[RunRow], *, now: float) -> report.Table:
    """Build the table of runs, a row each."""
    columns = ("Run", "State", "Trials", "Best F1", "Best pipeline", "Began", "Size", "Note")
    cells = tuple(
        (
            row.name,
            row.state,
            str(row.n_trials),
            "–" if row.best is None or row.best.f1 is None else f"{'≥ ' * row.best.truncated}{row.best.f1:.4f}",
            "–" if row.best is None else f"trial {row.best.trial}: {row.best.model}, {row.best.method}",
            "–" if row.began_at is None else f"{report.duration_text(now - row.began_at)} ago",
            f"{row.n_bytes / MIB:,.1f} MiB",
            row.note,
        )
        for row in rows
    )
    return report.Table(
        columns,
        cells,
        right=frozenset({"Trials", "Best F1", "Began", "Size"}),
        wraps=frozenset({"Best pipeline", "Note"}),
        rank=("Run", "State", "Best F1", "Began"),
    )
