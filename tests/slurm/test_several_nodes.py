"""Two nodes train one trial through a real Slurm, and end together when a process of one of them dies."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.dev.daemons import wait_until
from slurm.dev.private import DevCluster
from tests.train.attempts import command, read_end, worker_environment, write_attempt
from xautolm_hpc.driver.results import check_end
from xautolm_hpc.durable import read_json
from xautolm_hpc.gather.traces import read_evidence
from xautolm_hpc.gather.verdict import judge
from xautolm_hpc.jobdir import OUTCOME, Exit, Heartbeat, exit_path, heartbeat_path, write_members
from xautolm_hpc.launcher import JobState, JobStatus, Resources, Submission
from xautolm_hpc.records import from_json
from xautolm_hpc.slurm import Slurm
from xautolm_hpc.submit.arrays import SlurmOptions
from xautolm_hpc.submit.environment import wrapper_environment
from xautolm_hpc.submit.slurm_launcher import SlurmLauncher

pytestmark = pytest.mark.slurm

ON_TWO_NODES = Resources(n_nodes=2, n_cpus=1, memory_bytes=2 * 1024**3, time_limit_s=600.0)
WAIT_S = 400.0


def submit(cluster: DevCluster, folder: Path, *attempt_dirs: Path) -> SlurmLauncher:
    """Submit attempts as jobs of two nodes each."""
    environ = {**cluster.environ, "PATH": os.environ["PATH"]}
    launcher = SlurmLauncher(
        SlurmOptions(), since=time.time(), slurm=Slurm(environ), environment=wrapper_environment(environ)
    )
    submission = Submission(name="two-nodes", folder=folder, attempt_dirs=attempt_dirs, resources=ON_TWO_NODES)
    write_members(folder, attempt_dirs)
    launcher.submit(submission)
    return launcher


def attempt(folder: Path, *, epochs: int) -> Path:
    """Write an attempt that one process on each node shares."""
    limits = command(
        argv=(sys.executable, "-m", "xautolm_hpc.train", "lead", "1"),
        n_threads=1,
        heartbeat_s=0.2,
        enforce_limits=False,
        environment=worker_environment(OMP_NUM_THREADS="1"),
    )
    params = {"epochs": epochs, "early_stopping_patience": epochs, "batch_size": 7, "dropout_rate": 0.0}
    return write_attempt(folder, "full", params=params, limits=limits)


def exit_of(attempt_dir: Path, node: int) -> Exit:
    return from_json(Exit, read_json(exit_path(attempt_dir, 0, node=node)), where="exit")


def ranks_in(attempt_dir: Path) -> dict[int, int]:
    """Find the processes that train an attempt: rank -> pid."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (path / "cmdline").read_bytes().decode().split("\0")
            variables = dict(item.split("=", 1) for item in (path / "environ").read_text().split("\0") if "=" in item)
        except (OSError, UnicodeDecodeError):
            continue
        if str(attempt_dir) in arguments and "trial" in arguments:
            found[int(variables["RANK"])] = int(path.name)
    return found


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[None]:
    """Show what the jobs wrote if a test fails."""
    yield
    for path in [*tmp_path.rglob("stderr"), *tmp_path.rglob("*_log.err")]:
        sys.stdout.write(f"{path}: {path.read_text()[-2000:]}\n")


@pytest.mark.usefixtures("logs")
def test_two_nodes_train_one_trial_and_die_together(bare_cluster: DevCluster, tmp_path: Path) -> None:
    whole = attempt(tmp_path / "whole", epochs=2)
    endless = attempt(tmp_path / "endless", epochs=100_000)

    submit(bare_cluster, tmp_path / "submission", whole, endless)

    def has_begun() -> bool:
        path = heartbeat_path(endless, 0)
        return path.exists() and from_json(Heartbeat, read_json(path), where="heartbeat").step > 2

    assert wait_until(has_begun, timeout_s=WAIT_S), bare_cluster.run("squeue")
    os.kill(ranks_in(endless)[1], signal.SIGKILL)
    assert wait_until(lambda: all(exit_path(endless, 0, node=n).exists() for n in (0, 1)), timeout_s=200)

    assert [exit_of(endless, node).returncode for node in (0, 1)] == [-signal.SIGKILL] * 2
    evidence = read_evidence(endless, JobStatus(state=JobState.COMPLETED), redact=str, check=check_end)
    assert judge(evidence)[0] == "lost"
    assert heartbeat_path(endless, 0, node=1).exists()

    assert wait_until(lambda: (whole / OUTCOME).exists(), timeout_s=WAIT_S), bare_cluster.run("squeue")
    outcome = read_end(whole).outcome
    assert (outcome.status, outcome.n_steps, outcome.n_samples) == ("succeeded", 10, 60), outcome.message
    assert wait_until(lambda: all(exit_path(whole, 0, node=n).exists() for n in (0, 1)), timeout_s=200)
    assert [exit_of(whole, node).returncode for node in (0, 1)] == [0, 0]
