"""``cancel``: cancel a run's jobs."""

import argparse

from xautolm_hpc.commands.status import profile_of
from xautolm_hpc.driver.launchers import make_launcher
from xautolm_hpc.durable import write_bytes
from xautolm_hpc.node import SystemClock
from xautolm_hpc.run.folder import find_run
from xautolm_hpc.run.history import read_history
from xautolm_hpc.run.inspect import open_submissions
from xautolm_hpc.run.run_file import began_at


def run(arguments: argparse.Namespace) -> int:
    """Cancel a run's jobs; a driver that is alive submits no more."""
    run_dir = find_run(arguments.run_name, arguments.runs_dir)
    history = read_history(run_dir)
    write_bytes(run_dir.cancel_path, b"", flush=False)
    launcher = make_launcher(profile_of(run_dir), arguments.environ, clock=SystemClock(), since=began_at(run_dir))
    paths = []
    for name, jobs in open_submissions(history).items():
        known = {path: job_id for path, job_id in jobs.items() if job_id is not None}
        found = launcher.adopt(history.submission(name), known)
        paths += [path for path in jobs if path in found]
    launcher.cancel(paths)
    print(f"cancelled {len(paths)} jobs of `{run_dir.path}`; the command that started the search resumes it")
    return 0
