"""Kills the driver of searches on a private real Slurm at random steps, a given number of times.

The outcome of a trial is a function of its pipeline, so each search must end with the same records as a search whose
driver was never killed.
"""

import argparse
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from benchmarks.goals import Goal, run
from slurm.dev.private import DevCluster
from tests.slurm.killing import Killer, Sweep, open_log, sweep
from tests.slurm.searching import StubSearch, local_environ

N_POINTS = 200
LIMIT_MIN = 40.0
REQUEUED_SHARE = 0.3
"""Share of drivers before which a running job is put back into the queue or preempted, with several trials a job."""

SOON_S = 10.0
"""Seconds after which a job that was put back would start by itself, or is told to start soon."""

PREEMPTED_SHARE = 0.3
"""Share of these that are preempted, with all others on their node."""

LONGEST_STEP = 45
"""Steps a driver lives at most; about 30 of them come before it waits for its first job."""


def random_kills(search: StubSearch, rng: random.Random) -> Iterator[Killer]:
    """Choose for every driver when it dies: early or late in its own steps, or just after it submitted."""
    log = open_log(search)
    while True:
        after = rng.choice([None, None, None, "sbatch", "open ledger.jsonl"])
        yield Killer(str(search.folder), log, rng.randrange(LONGEST_STEP if after is None else 5), after)


class Requeuer:
    """Puts running jobs back into the queue now and then, or lets urgent ones take their nodes.

    Args:
        cluster: Where they run.
        rng: Chooses which and when.

    Attributes:
        n: How often it did.
    """

    def __init__(self, cluster: DevCluster, rng: random.Random) -> None:
        self.n = 0
        self._cluster, self._rng = cluster, rng
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._start_soon, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def __call__(self) -> None:
        """End a run of one job, perhaps."""
        rows = self._cluster.run("squeue", "--noheader", "--array", "--states=running", "--format=%i %N").splitlines()
        if not rows or self._rng.random() > REQUEUED_SHARE:
            return
        job_id, node = self._rng.choice(rows).split()
        self.n += 1
        if self._rng.random() < PREEMPTED_SHARE:
            place = ("--partition=urgent", f"--nodelist={node}", "--exclusive")
            self._cluster.run("sbatch", *place, "--output=/dev/null", "--wrap=true", check=False)
        else:
            self._cluster.run("scontrol", "requeue", job_id, check=False)

    def _start_soon(self) -> None:
        """Start jobs that were put back in two seconds; by default Slurm waits two minutes."""
        while not self._is_over.wait(1.0):
            text = self._cluster.run(
                "squeue", "--noheader", "--array", "--states=pending", "--format=%i %S", check=False
            )
            for job_id, start in (row.split() for row in text.splitlines()):
                if start != "N/A" and (datetime.fromisoformat(start) - datetime.now()).total_seconds() > SOON_S:
                    self._cluster.run("scontrol", "update", f"jobid={job_id}", "starttime=now+2", check=False)


def measure(n_points: int = N_POINTS, *, trials_per_job: int = 1) -> list[Goal]:
    """Run searches until their drivers were killed that many times."""
    population = 4 if trials_per_job == 1 else 2 * trials_per_job
    slurm = "" if trials_per_job == 1 else 'partition = "preempt-requeue"'
    build = partial(StubSearch, population=population, trials_per_job=trials_per_job, slurm=slurm)
    rng = random.Random(11)  # noqa: S311
    sweeps: list[Sweep] = []
    began_s = time.perf_counter()
    with (
        TemporaryDirectory(prefix="kills-") as name,
        DevCluster(Path(name) / "cluster", accounting=True) as cluster,
        Requeuer(cluster, rng) as requeuer,
    ):
        expected = StubSearch(Path(name) / "alone", launcher="local", population=population).run(local_environ())
        disturb: Callable[[], None] = requeuer if trials_per_job > 1 else lambda: None
        while sum(len(one.killed_at) for one in sweeps) < n_points:
            search = build(Path(name) / f"search-{len(sweeps)}", sleep_s=1.0 / trials_per_job, earlier=expected)
            kills = random_kills(search, rng)
            sweeps.append(sweep(search, cluster, kills=kills, expected=expected, disturb=disturb))
            print(f"search {len(sweeps)}: {len(sweeps[-1].killed_at)} kills, {sweeps[-1].faults}", flush=True)
    steps = Counter(step for one in sweeps for step in one.killed_at)
    print("\n".join(f"{n:5}  before {step}" for step, n in sorted(steps.items())))
    return [
        Goal("drivers killed", steps.total(), n_points, "", at_most=False),
        Goal("different steps", len(steps), None, ""),
        Goal("searches", len(sweeps), None, ""),
        Goal("jobs requeued or preempted", requeuer.n, None, ""),
        Goal("records lost", sum(one.n_lost for one in sweeps), 0, ""),
        Goal("records too many", sum(one.n_extra for one in sweeps), 0, ""),
        Goal("attempts run twice", sum(one.n_twice for one in sweeps), 0, ""),
        Goal("jobs left behind", sum(one.n_orphans for one in sweeps), 0, ""),
        Goal("time", (time.perf_counter() - began_s) / 60, LIMIT_MIN, "min"),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--trials-per-job", type=int, default=1)
    given, rest = parser.parse_known_args()
    sys.exit(run(partial(measure, trials_per_job=given.trials_per_job), rest))
