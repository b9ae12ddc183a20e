"""Processes of this node as the kernel's /proc shows them: who descends from whom, and the memory they hold."""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from xautolm_hpc.jobdir import Exit
from xautolm_hpc.launcher import JobSource, JobState, JobStatus

GONE = (FileNotFoundError, ProcessLookupError, PermissionError)
"""What reading /proc raises for a process that has ended, or is not ours."""


def descendants(pid: int) -> list[int]:
    """List all processes below one, zombies included, parents before children."""
    children: dict[int, list[int]] = {}
    for child, fields in _all_stats():
        children.setdefault(int(fields[1]), []).append(child)
    found = list(children.get(pid, []))
    for parent in found:  # grows while it is walked
        found += children.get(parent, [])
    return found


def seen_below(pid: int) -> list[int]:
    """List the processes below one by the kernel's own lists of children, whatever else runs on the node.

    For measuring, every few seconds: one that starts or ends meanwhile may be missing, unlike in :func:`descendants`.
    """
    if not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists():  # of a kernel built without them
        return descendants(pid)
    found = _children(pid)
    for parent in found:  # grows while it is walked
        found += _children(parent)
    return found


def has_children() -> bool:
    """Check whether this process has any child, running or ended; a subreaper's orphans are among them."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def session_members(session: int) -> list[int]:
    """List all living processes of a session."""
    return [pid for pid, fields in _all_stats() if int(fields[3]) == session and fields[0] != "Z"]


def held_memory_bytes(pids: Iterable[int]) -> int:
    """Add up the memory that processes hold; pages shared among them count once where the kernel shows it."""
    pids = list(pids)
    if len(pids) == 1:
        return _resident_bytes(pids[0])
    return sum(_proportional_bytes(pid) for pid in pids)


def peak_memory_bytes(pid: int) -> int:
    """Read the highest resident memory a process ever had; 0 if it has ended."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM:")


def kill_all(pids: Iterable[int]) -> None:
    """Kill processes; those that have ended already are passed over."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def reap_strays(except_pid: int) -> None:
    """Reap ended children of this process other than one, whose status other code waits for."""
    me = os.getpid()
    for pid, fields in _all_stats():
        if fields[0] == "Z" and int(fields[1]) == me and pid != except_pid:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _children(pid: int) -> list[int]:
    """List the children of a process, those of each of its threads."""
    found: list[int] = []
    with suppress(*GONE):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


def _all_stats() -> list[tuple[int, list[str]]]:
    """Read (pid, fields) of every process; the fields begin with state, parent, group, session."""
    stats = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            with suppress(*GONE):
                text = (path / "stat").read_text()
                stats.append((int(path.name), text.rpartition(")")[2].split()))
    return stats


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (*GONE, IndexError):
        return 0


def _proportional_bytes(pid: int) -> int:
    return _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") or _resident_bytes(pid)


def _kilobytes(path: Path, name: str) -> int:
    try:
        for line in path.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    except GONE:
        return 0
    return 0


def after_exit(job: JobStatus, ended: Exit, *, node: str | None) -> JobStatus:
    """Return the status of a job whose process has ended.

    Args:
        job: What was known of the job.
        ended: How its process ended.
        node: Where it ran.
    """
    return replace(
        job,
        state=JobState.COMPLETED if ended.returncode == 0 else JobState.FAILED,
        reason=ended.ended_by or "",
        node=node,
        exit_code=ended.returncode,
        ended_at=ended.ended_at,
        source=JobSource.PROCESS,
        is_stale=False,
    )
