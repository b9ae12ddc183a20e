"""Measures what the driver costs beside the trials: a generation of 1,000, with jobs that end at once.

Everything but the jobs is real (ledger, attempt folders, gathering, store, report). A fake launcher writes the claim
and the outcome that a node would write; its own seconds are subtracted.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.goals import Goal, run
from tests.driving import SEARCH, end_attempt, make_setup
from tests.fakes import FakeLauncher
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.launcher import JobSource, JobState, JobStatus, Submission

N_TRIALS = 1000
LIMIT_MS = 20.0
TEXT = (
    SEARCH.replace("population = 4", f"population = {N_TRIALS}")
    .replace("generations = 3", "generations = 1")
    .replace('models = ["minilm-l1", "minilm-l2", "minilm-l3", "minilm-l6"]\n', "")
    .replace('methods = ["full", "partial", "lora", "head"]', 'methods = ["full", "lora", "head"]')
)


class TimedLauncher(FakeLauncher):
    """Measures its own time; its jobs end several at once, as those of a cluster do.

    Args:
        n_at_once: Jobs that end between two polls.
    """

    def __init__(self, n_at_once: int) -> None:
        super().__init__(end_attempt)
        self.n_at_once = n_at_once
        self.own_s = 0.0

    def submit(self, submission: Submission) -> Mapping[Path, str]:
        """Submit, and take the time."""
        start_s = time.perf_counter()
        jobs = super().submit(submission)
        self.own_s += time.perf_counter() - start_s
        return jobs

    def poll(self, attempt_dirs: Sequence[Path]) -> Mapping[Path, JobStatus]:
        """End some jobs, and take the time; the others run."""
        start_s = time.perf_counter()
        states = super().poll(attempt_dirs[: self.n_at_once])
        running = JobStatus(state=JobState.RUNNING, node="fake-1", source=JobSource.POOL)
        found = {**dict.fromkeys(attempt_dirs, running), **states}
        self.own_s += time.perf_counter() - start_s
        return found


def measure(n_trials: int = N_TRIALS) -> list[Goal]:
    """Run one search in a folder of its own."""
    launcher = TimedLauncher(n_at_once=32)
    with TemporaryDirectory() as folder:
        setup = make_setup(Path(folder), launcher=launcher, text=TEXT.replace(str(N_TRIALS), str(n_trials)))
        start_s = time.perf_counter()
        facts = run_search(setup)
        total_s = time.perf_counter() - start_s
    n_ended = len(facts.last_attempts())
    driver_s = total_s - launcher.own_s
    return [
        Goal("trials of one generation", n_ended, n_trials, "", at_most=False),
        Goal("search, whole", total_s, None, "s"),
        Goal("search, without the fake launcher", driver_s, None, "s"),
        Goal("driver, a trial", driver_s / n_ended * 1000, LIMIT_MS, "ms"),
    ]


if __name__ == "__main__":
    sys.exit(run(measure))
