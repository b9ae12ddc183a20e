"""``status``: how a run is getting on."""

import argparse
import dataclasses
import json
from pathlib import Path

from rich.console import Console

from xautolm_hpc import report
from xautolm_hpc.clock import SystemClock
from xautolm_hpc.durable import read_json
from xautolm_hpc.history import History
from xautolm_hpc.jobdir import RunDir, find_run, restarts
from xautolm_hpc.launcher import JobState
from xautolm_hpc.lease import live_holder
from xautolm_hpc.ledger import read_ledger
from xautolm_hpc.overview import fill_view
from xautolm_hpc.view import RunView

LEASE_STALE_S = 120.0


def run(arguments: argparse.Namespace) -> int:
    """Show the present generation, the best trial and the cost so far, from the run folder alone."""
    run_dir = find_run(arguments.run_name, arguments.runs_dir)
    view = _view(run_dir)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(view), indent=1))
    else:
        report.print_view(view, Console())
    return 0


def _view(run_dir: RunDir) -> RunView:
    """Put the run's state together from its ledger, claims and heartbeats."""
    history = History(run_dir)
    lines = read_ledger(run_dir.ledger_path)
    for line in lines:
        history.apply(line)
    holder = live_holder(run_dir.path, stale_s=LEASE_STALE_S)
    now = SystemClock().now()
    generation = max(history.n_generations() - 1, 0)
    is_done = generation in history.committed
    note = f"driver: pid {holder.pid} on {holder.node}" if holder else "no driver is at work"
    search = read_json(run_dir.run_path)["search"]
    view = RunView(
        name=search["name"],
        phase="profile" if not history.trials else "commit" if is_done else "generation",
        generation=generation,
        n_generations=search["budget"]["generations"],
        spent=history.spent(now, lines[-1]["lease"] if lines and holder else 0),
        note=note,
    )
    return fill_view(view, history, states=_states(history, generation), now=now)


def _states(history: History, generation: int) -> dict[Path, JobState]:
    """Guess from claims alone: squeue and the pool are the driver's to ask."""
    paths = [trial.last.path for trial in history.generation(generation)]
    return {path: JobState(state="RUNNING") for path in paths if path.exists() and restarts(path)}
