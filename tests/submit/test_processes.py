"""What the kernel tells about processes."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.submit.jobs import wait_until
from xautolm_hpc.node import n_oom_kills
from xautolm_hpc.submit.processes import descendants, held_memory_bytes, peak_memory_bytes, session_members


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
