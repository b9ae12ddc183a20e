"""A trial that was preempted goes on where it was, with the real worker: it ends as one that never was."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from slurm.dev.daemons import wait_until
from slurm.dev.private import DevCluster
from tests.slurm.searching import ROOT_DIR, run_checked, run_command
from xautolm_hpc.durable import read_json
from xautolm_hpc.records import Experience
from xautolm_hpc.store import ExperienceStore

pytestmark = pytest.mark.slurm

WAIT_S = 240.0
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
launcher = "slurm"
worker_python = "{python}"
[slurm]
partition = "preempt-requeue"
poll_s = 1
[patience]
heartbeat_s = 0.5
"""


def test_a_trial_that_was_preempted_ends_with_the_metrics_of_one_that_never_was(
    accounting_cluster: DevCluster, tmp_path: Path
) -> None:
    undisturbed, preempted = (write_longer(tmp_path / name) for name in ("undisturbed", "preempted"))
    run_checked(run_command(undisturbed / "search.toml", undisturbed / "runs"), accounting_cluster.environ)

    driver = subprocess.Popen(
        run_command(preempted / "search.toml", preempted / "runs"), env=accounting_cluster.environ, cwd=ROOT_DIR
    )
    try:
        attempt_dir = preempted / "runs" / "longer" / "gen-000" / "trial-000" / "attempt-0"
        assert wait_until(lambda: steps_done(attempt_dir) >= 5, timeout_s=WAIT_S)
        before = read_json(attempt_dir / "heartbeat-0.json")
        job_id = read_json(attempt_dir / "claim-0.json")["job_id"]
        node = read_json(attempt_dir / "claim-0.json")["node"]
        options = ("--partition=urgent", f"--nodelist={node}", "--exclusive", "--output=/dev/null")
        accounting_cluster.run("sbatch", *options, "--wrap=sleep 2")
        assert wait_until(lambda: accounting_cluster.job_state(job_id) == "PENDING", timeout_s=WAIT_S)
        accounting_cluster.start_soon(job_id)
        after = last_beat(attempt_dir, 1, driver)
        assert driver.returncode == 0
    finally:
        driver.kill()

    (one,), (other,) = experiences(undisturbed), experiences(preempted)
    assert (one.provenance.restart, other.provenance.restart) == (0, 1)
    assert other.outcome.metrics == one.outcome.metrics
    assert other.outcome.n_steps == one.outcome.n_steps
    counted_s = (other.outcome.train_s or 0.0) + (other.outcome.retry_s or 0.0)
    assert counted_s >= before["train_s"] + after["train_s"]


def last_beat(attempt_dir: Path, restart: int, driver: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """Read the heartbeats of a restart until the driver has ended; gives the last one."""
    beat: dict[str, Any] = {}

    def has_ended() -> bool:
        with suppress(FileNotFoundError):
            beat.update(read_json(attempt_dir / f"heartbeat-{restart}.json"))
        return driver.poll() is not None

    assert wait_until(has_ended, timeout_s=WAIT_S)
    return beat


def write_longer(folder: Path) -> Path:
    """Write a search of one trial that trains for a while, with the real worker."""
    folder.mkdir()
    (folder / "search.toml").write_text(LONGER.format(data_path=ROOT_DIR / "examples" / "data" / "tickets.jsonl"))
    (folder / "profile.toml").write_text(PROFILE.format(python=sys.executable))
    return folder


def steps_done(attempt_dir: Path) -> int:
    path = attempt_dir / "heartbeat-0.json"
    return int(read_json(path)["step"]) if path.exists() else 0


def experiences(folder: Path) -> list[Experience]:
    return list(ExperienceStore(folder / "store").read())
