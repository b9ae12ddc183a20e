"""Two processes train as one does, through wrapper and leader, and end together."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.submit.jobs import submission_of
from tests.train.attempts import command, read_end, worker_environment, write_attempt
from tests.train.test_worker import _job
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.jobdir import MEMBERS, OUTCOME, PIPELINE, Exit, Heartbeat, exit_path, heartbeat_path
from xautolm_hpc.records import Outcome, from_json
from xautolm_hpc.train.stop import StopFlag
from xautolm_hpc.train.worker import run_trial

PARAMS: Mapping[str, Any] = {
    "dropout_rate": 0.0, "epochs": 3, "batch_size": 7, "gradient_accumulation_steps": 2, "early_stopping_patience": 3
}  # fmt: skip
CALL = "import sys; from xautolm_hpc.submit.wrapper import run_member; run_member(sys.argv[1], 0, job_id='job-1')"
DEADLINE_S = 400.0


def _attempt(folder: Path, *, n_processes: int = 2, execution: Mapping[str, Any] | None = None, **params: Any) -> Path:
    """Write an attempt of 30 rows, in batches that two processes cannot share evenly."""
    argv = (sys.executable, "-m", "xautolm_hpc.train", "lead", str(n_processes))
    limits = command(argv=argv, n_threads=1, environment=worker_environment(OMP_NUM_THREADS="1"), heartbeat_s=0.1)
    attempt_dir = write_attempt(folder, "full", params={**PARAMS, **params}, limits=limits)
    plan = read_json(attempt_dir / PIPELINE)
    plan["execution"].update(execution or {})
    write_json(attempt_dir / PIPELINE, plan)
    return attempt_dir


def _start(attempt_dir: Path) -> "subprocess.Popen[bytes]":
    """Start the wrapper, as the local launcher does."""
    members_path = submission_of(attempt_dir.parent / "submission", attempt_dir).folder / MEMBERS
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())}
    return subprocess.Popen([sys.executable, "-c", CALL, str(members_path)], env=environ)


def _run(attempt_dir: Path) -> Outcome:
    assert _start(attempt_dir).wait(timeout=DEADLINE_S) == 0
    assert (attempt_dir / OUTCOME).exists(), (attempt_dir / "stderr").read_text()
    return read_end(attempt_dir).outcome


def _exit_of(attempt_dir: Path) -> Exit:
    return from_json(Exit, read_json(exit_path(attempt_dir, 0)), where="exit")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Train in this process alone."""
    attempt_dir = _attempt(tmp_path_factory.mktemp("alone"))
    assert run_trial(_job(attempt_dir), StopFlag()) == 0
    return read_end(attempt_dir).outcome


def _assert_alike(outcome: Outcome, alone: Outcome) -> None:
    """Compare two trainings of the same batches.

    Sums over rows are taken in another order: of numbers near 1 in single precision, and three epochs of steps, that
    leaves differences near 1e-7; 1e-5 is far below what a row left out or counted twice would change.
    """
    assert outcome.succeeded, outcome.message
    assert (outcome.n_steps, outcome.n_samples) == (alone.n_steps, alone.n_samples) == (9, 90)
    for row, expected in zip(outcome.curve, alone.curve, strict=True):
        assert row[:4] == pytest.approx(expected[:4], abs=1e-5)
    assert dict(outcome.metrics) == pytest.approx(dict(alone.metrics), abs=1e-5)


def test_two_processes_have_the_loss_curve_of_one(tmp_path: Path, alone: Outcome) -> None:
    attempt_dir = _attempt(tmp_path, execution={"micro_batch": 3})

    outcome = _run(attempt_dir)

    _assert_alike(outcome, alone)
    assert outcome.peak_rss_bytes is not None
    assert alone.peak_rss_bytes is not None
    assert _exit_of(attempt_dir).returncode == 0


def test_a_model_sharded_over_two_processes_has_the_same_curve(tmp_path: Path, alone: Outcome) -> None:
    attempt_dir = _attempt(tmp_path, execution={"sharded": True, "gradient_checkpointing": True})

    _assert_alike(_run(attempt_dir), alone)


def _rank_pids(wrapper: "subprocess.Popen[bytes]") -> list[int]:
    """List the leader's processes, in the order of their ranks."""
    found: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = dict(item.split(b"=", 1) for item in stat.read_bytes().split(b"\0") if b"=" in item)
            parent = int((stat.parent / "stat").read_text().rpartition(")")[2].split()[1])
            grandparent = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if grandparent == wrapper.pid and b"RANK" in variables:
            found[int(variables[b"RANK"])] = int(stat.parent.name)
    return [found[rank] for rank in sorted(found)]


def _wait_for_step(attempt_dir: Path) -> None:
    path, deadline = heartbeat_path(attempt_dir, 0), time.monotonic() + DEADLINE_S
    while not (path.exists() and from_json(Heartbeat, read_json(path), where="heartbeat").step > 2):
        assert time.monotonic() < deadline, "training did not begin"
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "returncode"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGUSR1, 85)])
def test_a_signal_to_one_process_ends_both(tmp_path: Path, number: signal.Signals, returncode: int) -> None:
    attempt_dir = _attempt(tmp_path, epochs=100_000, early_stopping_patience=100_000)
    wrapper = _start(attempt_dir)
    _wait_for_step(attempt_dir)

    os.kill(_rank_pids(wrapper)[1], number)

    assert wrapper.wait(timeout=300) == 0
    assert _exit_of(attempt_dir).returncode == returncode
    assert not (attempt_dir / OUTCOME).exists()
    assert (attempt_dir / "checkpoint" / "state.pt").exists() == (returncode == 85)
