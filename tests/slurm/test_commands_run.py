"""``status``, ``logs`` and ``cancel`` on a real Slurm, with a driver at work and with a dead one."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slurm.dev.daemons import wait_until
from slurm.dev.private import DevCluster
from tests.stub_search import let_go, write_stub_search

pytestmark = pytest.mark.slurm

WAIT_S = 200.0
PROFILE = """
launcher = "slurm"
worker_python = "./worker"
[job]
memory_gb = 2
[slurm]
max_parallel = 2
poll_s = 1
[patience]
outcome_grace_s = 2
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(bare_cluster: DevCluster, tmp_path: Path) -> Iterator[Start]:
    """Give a way to start the command line; what still runs at the end is killed."""
    write_stub_search(tmp_path, profile=PROFILE, waits=True)
    started = []

    def start_command(*arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "xautolm_hpc", *arguments, "--runs-dir", "runs"],
            cwd=tmp_path,
            env=bare_cluster.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start_command
    for process in started:
        if process.returncode is None:
            process.kill()
            process.communicate()


def said_by(process: "subprocess.Popen[str]") -> tuple[int, str]:
    output, _ = process.communicate(timeout=WAIT_S)
    return process.returncode, output


def begin(start: Start) -> "subprocess.Popen[str]":
    """Begin the search and wait until two of its trials have told of their progress."""
    driver = start("run", "search.toml", "--skip-job-check")

    def n_at_work() -> int:
        return sum(trial["state"] == "RUNNING" and trial["step"] > 0 for trial in status_of(start)["trials"])

    assert wait_until(lambda: n_at_work() == 2, timeout_s=WAIT_S, poll_s=0.5), status_of(start)
    return driver


def status_of(start: Start) -> dict[str, Any]:
    code, output = said_by(start("status", "stub", "--json"))
    view: dict[str, Any] = json.loads(output) if code == 0 else {"trials": []}
    return view


def states(start: Start) -> Counter[str]:
    return Counter(trial["state"] for trial in status_of(start)["trials"])


def test_a_run_is_seen_and_its_logs_followed_though_its_driver_is_dead(start: Start, tmp_path: Path) -> None:
    driver = begin(start)
    alive = status_of(start)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    dead = status_of(start)
    follower = start("logs", "stub", "0", "--follow")
    let_go(tmp_path)
    code, followed = said_by(follower)
    assert wait_until(lambda: states(start)["SUCCEEDED"] == 4, timeout_s=WAIT_S, poll_s=0.5), status_of(start)
    ended = said_by(start("status", "stub"))[1]

    resumed = said_by(start("run", "search.toml", "--quiet"))

    running = [trial for trial in alive["trials"] if trial["state"] == "RUNNING"]
    pending = [trial for trial in alive["trials"] if trial["state"] == "PENDING"]
    assert {trial["node"] for trial in running} <= {"n1", "n2"}
    assert {(trial["step"], trial["n_steps"]) for trial in running} == {(30, 100)}
    assert {trial["reason"] for trial in pending} == {"JobArrayTaskLimit"}
    assert alive["note"].startswith(f"driver: pid {driver.pid} on ")
    assert dead["note"] == "no driver is running; `run` resumes it"
    assert [trial["state"] for trial in dead["trials"]] == [trial["state"] for trial in alive["trials"]]
    assert (code, "trial begins" in followed, "logs: ended: succeeded" in followed) == (0, True, True), followed
    assert "best F1 0." in ended
    assert resumed[0] == 0, resumed[1]


def test_cancelled_jobs_are_gone_and_the_same_command_goes_on(
    start: Start, bare_cluster: DevCluster, tmp_path: Path
) -> None:
    driver = begin(start)

    cancelled = said_by(start("cancel", "stub"))
    code, output = said_by(driver)
    left = bare_cluster.run("squeue", "--noheader")
    let_go(tmp_path)
    resumed = said_by(start("run", "search.toml", "--skip-job-check", "--quiet"))

    assert cancelled == (
        0,
        f"cancelled 4 jobs of `{tmp_path}/runs/stub`; the command that started the search resumes it\n",
    )
    assert code == 130, output
    assert "cancelled (infrastructure)" in output
    assert left == ""
    assert resumed[0] == 0, resumed[1]


def test_the_jobs_of_a_dead_driver_are_cancelled_too(start: Start, bare_cluster: DevCluster) -> None:
    driver = begin(start)
    os.kill(driver.pid, signal.SIGKILL)

    cancelled = said_by(start("cancel", "stub"))

    assert cancelled[0] == 0, cancelled[1]
    assert wait_until(lambda: bare_cluster.run("squeue", "--noheader") == "", timeout_s=WAIT_S)
    assert set(states(start)) <= {"CANCELLED", "UNKNOWN"}  # squeue forgets elements that never started at once
