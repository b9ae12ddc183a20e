"""What the kernel tells about processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.submit.jobs import wait_until
from xautolm_hpc.node import n_oom_kills
from xautolm_hpc.submit.processes import (
    descendants,
    held_memory_bytes,
    peak_memory_bytes,
    seen_below,
    session_members,
)


@pytest.mark.parametrize(
    ("membership", "file", "content"),
    [
        ("0::/slurm/job_7\n", "slurm/job_7/memory.events", "low 0\noom 2\noom_kill 3\n"),
        (
            "5:devices:/\n4:memory:/slurm/job_7\n0::/\n",
            "memory/slurm/job_7/memory.oom_control",
            "under_oom 0\noom_kill 3\n",
        ),
    ],
    ids=["version 2", "version 1"],
)
def test_kills_for_want_of_memory_are_counted(tmp_path: Path, membership: str, file: str, content: str) -> None:
    (tmp_path / "cgroup").write_text(membership)
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(content)

    assert n_oom_kills(tmp_path / "cgroup", tmp_path) == 3


@pytest.mark.parametrize("membership", ["", "0::/elsewhere\n", "damaged"])
def test_a_count_that_cannot_be_read_is_0(tmp_path: Path, membership: str) -> None:
    (tmp_path / "cgroup").write_text(membership)

    assert n_oom_kills(tmp_path / "cgroup", tmp_path) == 0


def test_descendants_and_sessions_are_found_and_their_memory_added_up() -> None:
    child = subprocess.Popen(["sh", "-c", "sleep 60 & wait"], start_new_session=True)
    try:
        wait_until(lambda: len(session_members(child.pid)) == 2, what="the shell starts sleep")

        below = descendants(child.pid)
        held = held_memory_bytes([child.pid, *below])

        assert set(session_members(child.pid)) == {child.pid, *below}
        assert set(below) < set(descendants(os.getpid()))
        assert 0 < held <= sum(peak_memory_bytes(pid) for pid in [child.pid, *below])
    finally:
        os.killpg(child.pid, 9)
        child.wait()


def test_processes_that_ended_hold_nothing() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()

    assert held_memory_bytes([gone.pid]) == held_memory_bytes([gone.pid, gone.pid]) == peak_memory_bytes(gone.pid) == 0


def test_the_kernels_own_lists_name_the_same_processes_those_of_other_threads_included() -> None:
    code = (
        "import subprocess, threading\n"
        "threading.Thread(target=lambda: subprocess.Popen(['sh', '-c', 'sleep 60 & wait']).wait()).start()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        wait_until(lambda: len(session_members(parent.pid)) == 3, what="a thread starts the shell, that sleep")

        assert sorted(seen_below(parent.pid)) == sorted(descendants(parent.pid))
        assert len(seen_below(parent.pid)) == 2
    finally:
        os.killpg(parent.pid, 9)
        parent.wait()


def test_a_process_that_ended_has_none_below() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()

    assert seen_below(gone.pid) == []


def test_children_are_known_until_they_are_reaped() -> None:
    code = (
        "import os, sys, time\n"
        "from xautolm_hpc.submit.processes import has_children\n"
        "before = has_children()\n"
        "pid = os.fork()\n"
        "if pid == 0: os._exit(0)\n"
        "os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)\n"
        "ended = has_children()\n"
        "os.waitpid(pid, 0)\n"
        "print(before, ended, has_children())"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert said.split() == ["False", "True", "False"]
