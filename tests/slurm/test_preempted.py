"""A trial that was pushed aside, or whose job's time was over, goes on where it was, with the real worker."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from slurm.dev.daemons import wait_until
from slurm.dev.private import DevCluster
from tests.slurm.searching import ROOT_DIR, local_environ, run_checked, run_command
from xautolm_hpc.durable import read_json
from xautolm_hpc.records import Experience
from xautolm_hpc.store import ExperienceStore

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

WAIT_S = 240.0
ATTEMPT = Path("runs", "longer", "gen-000", "trial-000", "attempt-0")
LONGER = """
name = "longer"
profile = "profile.toml"
[task]
name = "tickets"
[data]
path = "{data_path}"
train_rows = 120
validation_rows = 60
test_rows = 60
[space]
models = ["minilm-l1"]
methods = ["full"]
[space.params.full]
learning_rate = {{ low = 2e-4, high = 2e-3, log = true }}
batch_size = [8]
gradient_accumulation_steps = [1]
early_stopping_patience = [5]
max_length = [64]
epochs = {{ low = 4, high = 5, integer = true }}
[search]
objectives = ["f1"]
population = 1
[budget]
generations = 1
[trial]
time_limit_min = 10
deterministic = true
[store]
path = "store"
"""
PROFILE = """
launcher = "{launcher}"
worker_python = "{python}"
[slurm]
poll_s = 1
{slurm}
[patience]
heartbeat_s = 0.5
"""

FIRST_RUN_J, LATER_RUN_J = 42.0, 17.0
HELD_UP_WORKER = """#!{python}
# The real worker on a node whose counters are replayed, held up after five steps until the job's time is nearly over.
import os, sys, time
if "xautolm_hpc.train" not in sys.argv:
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
from contextlib import contextmanager
from itertools import chain, repeat
from xautolm_hpc.train import worker
from xautolm_hpc.train.__main__ import main
from xautolm_hpc.train.energy import Counter, EnergyReader

is_first = os.environ.get("SLURM_RESTART_COUNT", "0") == "0"

@contextmanager
def replayed(visible_gpus, *, shared):
    readings = chain([100.0], repeat(100.0 + {first_j} if is_first else 100.0 + {later_j}))
    yield EnergyReader([Counter(device="gpu", read_j=lambda: next(readings))])

class HeldUp(worker.TrialBudget):
    def check(self, **foreseen):
        while is_first and self._progress.step >= 5 and not self._stop.requested:
            time.sleep(0.1)
        return super().check(**foreseen)

worker.open_energy_reader, worker.TrialBudget = replayed, HeldUp
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Experience:
    """The trial that was left alone: what the others are held against."""
    folder = write_longer(tmp_path_factory.mktemp("undisturbed"), launcher="local")
    run_checked(run_command(folder / "search.toml", folder / "runs"), local_environ())
    return only_experience(folder)


def test_a_trial_that_was_preempted_ends_with_the_metrics_of_one_that_never_was(
    accounting_cluster: DevCluster, undisturbed: Experience, tmp_path: Path
) -> None:
    write_longer(tmp_path, slurm='partition = "preempt-requeue"')

    with started(tmp_path, accounting_cluster.environ) as driver:
        attempt_dir = tmp_path / ATTEMPT
        assert wait_until(lambda: steps_done(attempt_dir) >= 5, timeout_s=WAIT_S)
        before = read_json(attempt_dir / "heartbeat-0.json")
        claim = read_json(attempt_dir / "claim-0.json")
        options = ("--partition=urgent", f"--nodelist={claim['node']}", "--exclusive", "--output=/dev/null")
        accounting_cluster.run("sbatch", *options, "--wrap=sleep 2")
        start_again(accounting_cluster, claim["job_id"])
        after = last_beat(attempt_dir, 1, driver)
        assert driver.returncode == 0

    resumed = only_experience(tmp_path)
    assert (undisturbed.provenance.restart, resumed.provenance.restart) == (0, 1)
    assert resumed.outcome.metrics == undisturbed.outcome.metrics
    assert resumed.outcome.n_steps == undisturbed.outcome.n_steps
    assert seconds_trained(resumed) >= before["train_s"] + after["train_s"]


def test_a_trial_whose_jobs_time_was_over_goes_on_in_the_next_and_its_time_and_energy_are_sums(
    accounting_cluster: DevCluster, undisturbed: Experience, tmp_path: Path
) -> None:
    write_longer(tmp_path, python=write_held_up(tmp_path), slurm='options = { time = "1" }')

    with started(tmp_path, accounting_cluster.environ) as driver:
        attempt_dir = tmp_path / ATTEMPT
        assert wait_until((attempt_dir / "exit-0.json").exists, timeout_s=WAIT_S)
        before = read_json(attempt_dir / "heartbeat-0.json")
        job_id = read_json(attempt_dir / "claim-0.json")["job_id"]
        # A slow machine may need more than a minute for the rest; only the first run is to be cut short.
        accounting_cluster.run("scontrol", "update", f"jobid={job_id}", "timelimit=10")
        start_again(accounting_cluster, job_id)
        after = last_beat(attempt_dir, 1, driver)
        assert driver.returncode == 0

    resumed = only_experience(tmp_path)
    assert (resumed.provenance.attempt, resumed.provenance.restart) == (0, 1)
    assert resumed.outcome.metrics == undisturbed.outcome.metrics
    assert (before["step"], resumed.outcome.n_steps) == (5, undisturbed.outcome.n_steps)
    assert resumed.outcome.train_s is not None
    assert resumed.outcome.train_s >= before["train_s"] + after["train_s"]
    assert (before["gpu_energy_j"], resumed.outcome.gpu_energy_j) == (FIRST_RUN_J, FIRST_RUN_J + LATER_RUN_J)


@contextmanager
def started(folder: Path, environ: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """Start the driver of a search; it is not left running."""
    driver = subprocess.Popen(run_command(folder / "search.toml", folder / "runs"), env=environ, cwd=ROOT_DIR)
    try:
        yield driver
    finally:
        driver.kill()
        driver.wait()


def start_again(cluster: DevCluster, job_id: str) -> None:
    """Wait until a job is back in the queue, and let it go on soon."""
    assert wait_until(lambda: cluster.job_state(job_id) == "PENDING", timeout_s=WAIT_S), cluster.job_state(job_id)
    cluster.start_soon(job_id)


def last_beat(attempt_dir: Path, restart: int, driver: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """Read the heartbeats of a restart until the driver has ended; gives the last one."""
    beat: dict[str, Any] = {}

    def has_ended() -> bool:
        with suppress(FileNotFoundError):
            beat.update(read_json(attempt_dir / f"heartbeat-{restart}.json"))
        return driver.poll() is not None

    assert wait_until(has_ended, timeout_s=WAIT_S)
    return beat


def write_longer(
    folder: Path, *, launcher: str = "slurm", python: str | Path = sys.executable, slurm: str = ""
) -> Path:
    """Write a search of one trial that trains for a while, with the real worker."""
    (folder / "search.toml").write_text(LONGER.format(data_path=ROOT_DIR / "examples" / "data" / "tickets.jsonl"))
    (folder / "profile.toml").write_text(PROFILE.format(launcher=launcher, python=python, slurm=slurm))
    return folder


def write_held_up(folder: Path) -> Path:
    """Write the program that stands for the worker's interpreter."""
    path = folder / "worker"
    path.write_text(HELD_UP_WORKER.format(python=sys.executable, first_j=FIRST_RUN_J, later_j=LATER_RUN_J))
    path.chmod(0o755)
    return path


def steps_done(attempt_dir: Path) -> int:
    path = attempt_dir / "heartbeat-0.json"
    return int(read_json(path)["step"]) if path.exists() else 0


def seconds_trained(experience: Experience) -> float:
    """Add up the training that counts and that which no checkpoint kept."""
    return (experience.outcome.train_s or 0.0) + (experience.outcome.retry_s or 0.0)


def only_experience(folder: Path) -> Experience:
    (found,) = ExperienceStore(folder / "store").read()
    return found
