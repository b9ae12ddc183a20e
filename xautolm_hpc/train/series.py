"""A series of trials in one worker: libraries are imported once, each trial runs in a forked process.

A crash ends only its own trial. Claim, limits and exit file of each trial are handled here, as the wrapper does for a
job with one trial.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import psutil

from xautolm_hpc.durable import create_json, read_json
from xautolm_hpc.jobdir import (
    COMMAND,
    MEMBERS,
    OUTCOME,
    VERDICT,
    Claim,
    Command,
    Exit,
    claim_path,
    exit_path,
    read_members,
    restarts,
)
from xautolm_hpc.node import process_started
from xautolm_hpc.records import from_json, to_json
from xautolm_hpc.train.stop import StopFlag

TICK_S = 0.1


def run_series(folder: Path, run_one: Callable[[Path], int], *, stop: StopFlag) -> int:
    """Run a series of trials one after the other.

    Args:
        folder: Folder of the series: ``members.json``, and the claim of the job that runs it.
        run_one: Runs one trial and returns its exit status; called in a forked process.
        stop: Set by a signal: it is passed to the running trial, and no further trial begins.

    Returns:
        Exit status 0 once all trials were run, else that of the interrupted trial.
    """
    from xautolm_hpc.train import finetune  # imported here once, for all that are forked

    sys.stderr.write(f"series: imported {finetune.__name__}\n")
    restart = restarts(folder)[-1] if restarts(folder) else 0
    path = claim_path(folder, restart)
    claim = from_json(Claim, read_json(path), where=str(path))
    status = 0
    for attempt_dir in read_members(folder / MEMBERS):
        if stop.requested:
            break
        if not _is_free(attempt_dir, restart):
            continue
        status = _run_forked(attempt_dir, claim, run_one=run_one, stop=stop)
    return status if stop.requested else 0


def _is_free(attempt_dir: Path, restart: int) -> bool:
    """Check whether a trial has neither ended nor begun; one that was begun before a requeue begins again."""
    if not attempt_dir.is_dir() or (attempt_dir / OUTCOME).exists() or (attempt_dir / VERDICT).exists():
        return False
    return not claim_path(attempt_dir, restart).exists()


def _run_forked(attempt_dir: Path, claim: Claim, *, run_one: Callable[[Path], int], stop: StopFlag) -> int:
    """Run one trial in a forked process, enforce its limits, and write how it ended."""
    command_path = attempt_dir / COMMAND
    command = from_json(Command, read_json(command_path), where=str(command_path))
    started_at = time.time()
    pid = os.fork()
    if pid == 0:
        _run_in_child(attempt_dir, run_one)
    own = replace(claim, pid=pid, pid_started=process_started(pid) or 0, claimed_at=started_at)
    create_json(claim_path(attempt_dir, claim.restart), to_json(own))
    process = _TrialProcess(pid, command)
    returncode = process.wait(stop)
    ended = Exit(
        returncode=returncode,
        ended_by=process.ended_by,
        started_at=started_at,
        ended_at=time.time(),
        peak_rss_bytes=process.peak_bytes or None,
        message=process.message,
    )
    create_json(exit_path(attempt_dir, claim.restart), to_json(ended))
    return returncode


def _run_in_child(attempt_dir: Path, run_one: Callable[[Path], int]) -> NoReturn:
    """Run a trial in this forked process, with its own folder, logs and process group; then exit, never return."""
    status = 1
    try:
        os.setpgid(0, 0)
        os.chdir(attempt_dir)
        for number, name in ((1, "stdout"), (2, "stderr")):
            log = os.open(attempt_dir / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, number)
            os.close(log)
        status = run_one(attempt_dir)
    finally:
        if sys.exc_info()[0] is not None:
            os.write(2, traceback.format_exc().encode())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class _TrialProcess:
    """The forked process of a trial, held to its limits.

    Args:
        pid: The process, leader of its process group.
        command: Its limits.

    Attributes:
        ended_by: Which limit ended it, or ``None``.
        message: The limit and what exceeded it, for people, or ``None``.
        peak_bytes: Highest memory of it and its children.
    """

    def __init__(self, pid: int, command: Command) -> None:
        self.ended_by: str | None = None
        self.message: str | None = None
        self.peak_bytes = 0
        self._pid, self._command = pid, command
        self._process, self._started = psutil.Process(pid), time.monotonic()

    def wait(self, stop: StopFlag) -> int:
        """Wait for the end and return the exit status; below 0 it is the signal that ended the process."""
        is_stopping = False
        while True:
            done, status, used = os.wait4(self._pid, os.WNOHANG)
            if done:
                self.peak_bytes = max(self.peak_bytes, used.ru_maxrss * 1024)
                _end_group(self._pid)  # processes that it left behind
                return os.waitstatus_to_exitcode(status)
            self._enforce_limits()
            if stop.requested and not is_stopping:
                is_stopping = True
                os.kill(self._pid, signal.SIGUSR1)
            time.sleep(TICK_S)

    def _enforce_limits(self) -> None:
        """End the process if it exceeds its time or memory."""
        held, elapsed_s = _held_bytes(self._process), time.monotonic() - self._started
        limit_bytes, limit_s = self._command.memory_bytes, self._command.wall_limit_s
        self.peak_bytes = max(self.peak_bytes, held)
        if self.ended_by is not None:
            return
        if elapsed_s > limit_s:
            self.ended_by = "time_limit"
            self.message = f"ended after {elapsed_s:.1f} s; its limit was {limit_s:g} s"
            _end_group(self._pid)
        elif self._command.enforce_limits and held > limit_bytes:
            self.ended_by = "host_oom"
            self.message = f"held {held / 2**20:.0f} MiB of memory; its limit was {limit_bytes / 2**20:.0f} MiB"
            _end_group(self._pid)


def _held_bytes(process: psutil.Process) -> int:
    """Compute the memory of a process and its children."""
    try:
        family = [process, *process.children(recursive=True)]
        return sum(member.memory_info().rss for member in family)
    except psutil.Error:
        return 0


def _end_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
