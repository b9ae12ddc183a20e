"""Measures how long a trial starts: in a job of its own, and after the first one of a job of several trials.

Start-up is what a trial takes beside its training and its evaluation: the fork, or a new Python and the imports; the
reading of model and data; the writing of the outcome. The trials are small and real, on two cores.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.goals import Goal, run
from tests.nouns import claim
from tests.train.attempts import read_end, worker_environment, write_attempt
from xautolm_hpc.catalogue import load_catalogue
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.jobdir import Claim, Exit, claim_path, exit_path, write_members
from xautolm_hpc.records import from_json, to_json

TRIALS = (("full", "minilm-l1"), ("full", "minilm-l1"), ("lora", "minilm-l2"), ("head", "minilm-l6"))
"""Method and model of each trial."""

LIMIT_S = 1.0


def write_trials(folder: Path) -> list[Path]:
    """Write the attempts."""
    models = load_catalogue()
    return [write_attempt(folder / str(n), method, model=models[model]) for n, (method, model) in enumerate(TRIALS)]


def run_worker(words: list[str], folder: Path) -> float:
    """Run a worker to its end; returns its seconds.

    Raises:
        RuntimeError: It failed.
    """
    began_s = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "xautolm_hpc.train", *words, str(folder)],
        env=worker_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        raise RuntimeError(ended.stderr)
    return time.monotonic() - began_s


def work_s(attempt_dir: Path) -> float:
    """Read the seconds of training and evaluation."""
    return read_end(attempt_dir).outcome.evaluation_time_s or 0.0


def starts_alone_s(folder: Path) -> list[float]:
    """Run each trial in a worker of its own; returns the start-up of each."""
    return [run_worker(["trial"], path) - work_s(path) for path in write_trials(folder)]


def starts_together_s(folder: Path) -> list[float]:
    """Run all trials in one worker; returns the start-up of each, of the first with the imports."""
    dirs, job_dir, began_at = write_trials(folder), folder / "job", time.time()
    write_members(job_dir, dirs)
    write_json(claim_path(job_dir, 0), to_json(claim(job_id="7_0", claimed_at=began_at)))
    run_worker(["batch"], job_dir)
    starts: list[float] = []
    for path in dirs:
        begun = from_json(Claim, read_json(claim_path(path, 0)), where=str(path))
        ended = from_json(Exit, read_json(exit_path(path, 0)), where=str(path))
        starts.append(ended.ended_at - (began_at if not starts else begun.claimed_at) - work_s(path))
    return starts


def measure() -> list[Goal]:
    """Run the trials alone, then together."""
    with TemporaryDirectory(prefix="starts-") as name:
        alone = starts_alone_s(Path(name) / "alone")
        first, *later = starts_together_s(Path(name) / "together")
    return [
        Goal("start-up in a job of its own, median", statistics.median(alone), None, "s"),
        Goal("start-up of the first trial of a job", first, None, "s"),
        Goal("start-up of a later trial of a job, longest", max(later), LIMIT_S, "s"),
        Goal("start-up of a later trial / in a job of its own", max(later) / statistics.median(alone), None, ""),
    ]


if __name__ == "__main__":
    sys.exit(run(measure))
