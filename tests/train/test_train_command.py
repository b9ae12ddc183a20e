"""The worker as a process: its command line, its signals, its exit status."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.train.attempts import read_end, start_worker, worker_environment, write_attempt
from xautolm_hpc.jobdir import COMMAND, OUTCOME, READY
from xautolm_hpc.train.stop import STOP_SIGNALS, StopFlag

DEADLINE_S = 300.0
ENDLESS = {"epochs": 100_000, "early_stopping_patience": 100_000}


def _wait_for(worker: "subprocess.Popen[str]", path: Path) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + DEADLINE_S
    while not path.exists():
        if worker.poll() is not None or time.monotonic() > deadline:
            output, _ = worker.communicate()
            pytest.fail(f"no {path.name}: {output}")
        time.sleep(0.01)


@pytest.mark.parametrize("arguments", [[], ["trial"], ["fly", "."], ["trial", "/no/such/folder"]], ids=str)
def test_a_wrong_command_line_says_what_is_right(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "xautolm_hpc.train", *arguments],
        env=worker_environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr.startswith(f"python -m xautolm_hpc.train: cannot run `{' '.join(arguments) or 'nothing'}`;")
    assert "  trial ATTEMPT_DIR   train one pipeline" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_sets_the_flag_and_nothing_else(number: int) -> None:
    before = {each: signal.getsignal(each) for each in STOP_SIGNALS}
    stop = StopFlag()
    try:
        stop.install()
        os.kill(os.getpid(), number)
    finally:
        for each, action in before.items():
            signal.signal(each, action)

    assert stop.requested


def test_a_signal_during_the_imports_ends_in_a_checkpoint(tmp_path: Path) -> None:
    attempt_dir = write_attempt(tmp_path, params=ENDLESS)
    worker = start_worker(attempt_dir)
    _wait_for(worker, attempt_dir / READY)

    os.kill(worker.pid, signal.SIGUSR1)
    output, _ = worker.communicate(timeout=DEADLINE_S)

    assert worker.returncode == 85, output
    assert (attempt_dir / "checkpoint" / "state.pt").exists()
    assert not (attempt_dir / OUTCOME).exists()


def test_the_environment_reaches_the_outcome_and_no_secret_the_message(tmp_path: Path) -> None:
    attempt_dir = write_attempt(tmp_path)
    (attempt_dir / COMMAND).write_text("{")  # found before anything heavy is imported
    variables = {"SLURM_RESTART_COUNT": "2", "XAUTOLM_IMAGE_DIGEST": "f" * 64, "MY_TOKEN": str(tmp_path)}

    worker = start_worker(attempt_dir, **variables)
    output, _ = worker.communicate(timeout=DEADLINE_S)

    end = read_end(attempt_dir)
    assert worker.returncode == 0, output
    assert (end.restart, end.image_digest) == (2, "f" * 64)
    assert end.outcome.kind == "environment"
    assert end.outcome.message is not None
    assert "`<SECRET>/attempt-0/command.json` is not valid JSON" in end.outcome.message
    assert str(tmp_path) not in end.outcome.message + output
