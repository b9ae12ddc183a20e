"""``cancel``: cancel a run's jobs."""

import argparse
from pathlib import Path

from xautolm_hpc.clock import SystemClock
from xautolm_hpc.config import load_profile
from xautolm_hpc.driver_setup import make_launcher
from xautolm_hpc.durable import read_json
from xautolm_hpc.history import History
from xautolm_hpc.jobdir import find_run
from xautolm_hpc.jobs import known_submission
from xautolm_hpc.ledger import read_ledger


def run(arguments: argparse.Namespace) -> int:
    """Tell the driver to submit nothing more, then cancel every job that has not ended."""
    run_dir = find_run(arguments.run_name, arguments.runs_dir)
    history = History(run_dir)
    for line in read_ledger(run_dir.ledger_path):
        history.apply(line)
    run_dir.cancel_path.touch(mode=0o600)
    profile_path = read_json(run_dir.run_path)["search"]["profile"]
    launcher = make_launcher(
        load_profile(Path(profile_path) if profile_path else None),
        arguments.environ,
        clock=SystemClock(),
        since=run_dir.run_path.stat().st_mtime,
    )
    attempts = [attempt for trial in history.trials.values() for attempt in trial.attempts]
    open_attempts = [attempt for attempt in attempts if attempt.submission and attempt.end is None]
    for name in sorted({attempt.submission for attempt in open_attempts if attempt.submission}):
        launcher.adopt(known_submission(history, name), {a.path: a.job_id for a in open_attempts if a.job_id})
    launcher.cancel([attempt.path for attempt in open_attempts])
    print(f"cancelled {len(open_attempts)} jobs of {run_dir.path}; `xautolm-hpc run` goes on with the search")
    return 0
