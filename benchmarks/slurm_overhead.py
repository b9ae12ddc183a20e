"""Measures what a search costs Slurm and its nodes: a generation of 200 trials that end at once, beside a bare array.

Once with a job for each trial, once with ten trials a job, on the same private Slurm and in the same run as the array.
Each element of the bare array starts Python as a trial's wrapper does, with the same imports, and then ends.
"""

import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.goals import Goal, run
from slurm.dev.daemons import wait_until
from slurm.dev.private import DevCluster
from tests.slurm.searching import ROOT_DIR, StubSearch, local_environ

N_TRIALS = 200
LIMIT = 1.25
TRIALS_PER_JOB, LIMIT_TOGETHER = 10, 0.4
LONGEST_S = 600.0
START = "import numpy, submitit.core.submission, xautolm_hpc.submit.wrapper"
COUNTED = ("sbatch", "squeue", "sacct")
COUNT = """#!/bin/sh
echo {name} "$@" >> {log}
exec {real} "$@"
"""


def bare_array_s(cluster: DevCluster, n_trials: int) -> float:
    """Run the bare array to its end and return its seconds, from submission to the last element's end."""
    wrap = f"--wrap={sys.executable} -c '{START}'"
    environ = f"--export=ALL,PYTHONPATH={ROOT_DIR},PYTHONNOUSERSITE=1,OMP_NUM_THREADS=1"
    began_s = time.perf_counter()
    job_id = cluster.run(
        "sbatch", "--parsable", f"--array=0-{n_trials - 1}", "--output=/dev/null", "--mem=256M", environ, wrap
    )
    ended = wait_until(
        lambda: cluster.run("squeue", "-h", f"--jobs={job_id}", "--format=%i", check=False) == "",
        timeout_s=LONGEST_S,
        poll_s=0.5,
    )
    if not ended:
        raise TimeoutError(f"the bare array had not ended after {LONGEST_S:g} s")
    return time.perf_counter() - began_s


def counting(cluster: DevCluster, folder: Path) -> Mapping[str, str]:
    """Build an environment in which Slurm's commands are counted."""
    bin_dir, path = folder / "bin", cluster.environ["PATH"]
    bin_dir.mkdir()
    for name in COUNTED:
        text = COUNT.format(name=name, log=folder / "calls", real=shutil.which(name, path=path))
        (bin_dir / name).write_text(text)
        (bin_dir / name).chmod(0o755)
    return {**cluster.environ, "PATH": f"{bin_dir}:{path}"}


def generation_s(search: StubSearch) -> float:
    """Read from the ledger how long the generation took, from its intent to the last trial's end."""
    lines = [line for line in search.ledger() if line.get("generation", 0) == 0]
    began = next(line["at"] for line in lines if line["event"] == "intent")
    return float(max(line["at"] for line in lines if line["event"] == "end") - began)


def measure(n_trials: int = N_TRIALS) -> list[Goal]:
    """Run the bare array, the generation, and the bare array again."""
    with TemporaryDirectory(prefix="costs-") as name, DevCluster(Path(name) / "cluster", accounting=True) as cluster:
        folder = Path(name)
        earlier = StubSearch(folder / "earlier", launcher="local", generations=1).run(local_environ())
        search = StubSearch(folder / "search", population=n_trials, generations=1, earlier=earlier)
        bare_s = [bare_array_s(cluster, n_trials)]
        search.run(counting(cluster, folder))
        together = StubSearch(
            folder / "together", population=n_trials, generations=1, earlier=earlier, trials_per_job=TRIALS_PER_JOB
        ).run(cluster.environ)
        bare_s.append(bare_array_s(cluster, n_trials))
        ours_s, n_ended = generation_s(search), len(search.projection())
        together_s, is_same = generation_s(together), together.projection() == search.projection()
        called = [line.split() for line in (folder / "calls").read_text().splitlines()]
    n_calls = Counter(words[0] for words in called if "--test-only" not in words)
    bare = sum(bare_s) / len(bare_s)
    return [
        Goal("trials that ended", n_ended, n_trials, "", at_most=False),
        Goal("bare array, first", bare_s[0], None, "s"),
        Goal("bare array, second", bare_s[1], None, "s"),
        Goal("generation", ours_s, None, "s"),
        Goal("generation / bare array", ours_s / bare, LIMIT, ""),
        Goal("generation, ten trials a job", together_s, None, "s"),
        Goal("generation, ten trials a job / bare array", together_s / bare, LIMIT_TOGETHER, ""),
        Goal("its records equal those of a job for each trial", float(is_same), 1, "", at_most=False),
        Goal("sbatch (profile and generation)", n_calls["sbatch"], 2, ""),
        Goal("squeue", n_calls["squeue"], None, ""),
        Goal("sacct", n_calls["sacct"], n_calls["squeue"], ""),
    ]


if __name__ == "__main__":
    sys.exit(run(measure))
