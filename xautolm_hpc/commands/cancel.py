"""``cancel``: cancel a run's jobs."""

import argparse
from pathlib import Path

from xautolm_hpc.clock import SystemClock
from xautolm_hpc.config import load_profile
from xautolm_hpc.driver_setup import make_launcher
from xautolm_hpc.durable import read_json
from xautolm_hpc.history import History
from xautolm_hpc.jobdir import RunDir, find_end, find_run
from xautolm_hpc.jobs import known_submission
from xautolm_hpc.ledger import read_ledger


def run(arguments: argparse.Namespace) -> int:
    """Tell the driver, if one is alive, to cancel its jobs and submit nothing more, and cancel those that run."""
    run_dir = find_run(arguments.run_name, arguments.runs_dir)
    history = History(run_dir)
    for line in read_ledger(run_dir.ledger_path):
        history.apply(line)
    open_jobs = _open_jobs(run_dir, history)
    run_dir.cancel_path.touch(mode=0o600)
    profile_path = read_json(run_dir.run_path)["search"]["profile"]
    launcher = make_launcher(
        load_profile(Path(profile_path) if profile_path else None),
        arguments.environ,
        clock=SystemClock(),
        since=run_dir.run_path.stat().st_mtime,
    )
    for name, jobs in open_jobs.items():
        known = {path: job_id for path, job_id in jobs.items() if job_id is not None}
        launcher.adopt(known_submission(history, name), known)
    paths = [path for jobs in open_jobs.values() for path in jobs]
    launcher.cancel(paths)
    print(f"cancelled {len(paths)} jobs of `{run_dir.path}`; the command that began the search goes on with it")
    return 0


def _open_jobs(run_dir: RunDir, history: History) -> dict[str, dict[Path, str | None]]:
    """List submissions with jobs that have not ended: submission -> attempt folder -> job id if known."""
    found: dict[str, dict[Path, str | None]] = {}
    for trial in history.trials.values():
        for attempt in trial.attempts:
            if attempt.submission and attempt.end is None and find_end(attempt.path) is None:
                found.setdefault(attempt.submission, {})[attempt.path] = attempt.job_id
    for name, line in history.submissions.items():
        if line["generation"] < 0:
            path = known_submission(history, name).attempt_dirs[0]
            if find_end(path) is None:
                found[name] = {path: None}
    return found
