"""Measures ``report`` with its page, and ``status``, for a run of 500 trials; the run's jobs ended at once.

Each command is started anew, as a person starts it, and the fastest of three counts.
"""

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.driver_overhead import N_TRIALS as N_WRITTEN
from benchmarks.driver_overhead import TEXT, TimedLauncher
from benchmarks.goals import Goal, run
from tests.driving import make_setup
from tests.report.large_run import large_run
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.report import PAGE_NAME, summarise, to_html

N_TRIALS, N_LARGE = 500, 1000
REPORT_LIMIT_S, STATUS_LIMIT_S, LIMIT_MB = 5.0, 1.0, 5.0
N_STARTS = 3


def measure(n_trials: int = N_TRIALS) -> list[Goal]:
    """Run a search in a folder of its own, then start the commands."""
    with TemporaryDirectory() as folder:
        setup = make_setup(
            Path(folder), launcher=TimedLauncher(n_at_once=32), text=TEXT.replace(str(N_WRITTEN), str(n_trials))
        )
        run_search(setup)
        run_dir = setup.run_dir.path
        report_s = _fastest_s("report", str(run_dir), "--page")
        status_s = _fastest_s("status", str(run_dir), "--once")
        page_mb = (setup.run_dir.report_dir / PAGE_NAME).stat().st_size / 1e6
    large_mb = len(to_html(summarise(large_run(N_LARGE))).encode()) / 1e6
    return [
        Goal(f"report with page, {n_trials} trials", report_s, REPORT_LIMIT_S, "s"),
        Goal(f"status, {n_trials} trials", status_s, STATUS_LIMIT_S, "s"),
        Goal(f"page of {n_trials} trials", page_mb, None, "MB"),
        Goal(f"page of {N_LARGE} trials with curves", large_mb, LIMIT_MB, "MB"),
    ]


def _fastest_s(*arguments: str) -> float:
    """Measure a command, from start to end."""
    found = []
    for _ in range(N_STARTS):
        start_s = time.perf_counter()
        subprocess.run([sys.executable, "-m", "xautolm_hpc", *arguments], check=True, capture_output=True)
        found.append(time.perf_counter() - start_s)
    return min(found)


if __name__ == "__main__":
    sys.exit(run(measure))
