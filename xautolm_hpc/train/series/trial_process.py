"""The forked process of one trial: its folder, its logs, its limits, and how it ended."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, Self

import psutil

from xautolm_hpc.durable import append_to_log
from xautolm_hpc.failures import FailureKind
from xautolm_hpc.jobdir import Command, Exit
from xautolm_hpc.node import die_with, n_oom_kills
from xautolm_hpc.train.stop import StopFlag

TICK_S = 0.05
"""Seconds between two looks whether the trial has ended."""

MEASURE_S, SLURM_MEASURE_S = 0.5, 2.0
"""Seconds between two measurements of memory; the second one where Slurm keeps the limit itself."""

DEATH_S, DEATH_TICK_S = 30.0, 0.005
"""Seconds that what a trial left behind may take to die, and between two looks."""


class TrialProcess:
    """The process of a trial, held to its limits.

    Args:
        pid: The process, leader of a process group of its own.
        command: Its limits.
    """

    def __init__(self, pid: int, command: Command) -> None:
        self._pid, self._command = pid, command
        self._process = psutil.Process(pid)
        self._family = {self._process}
        self._others = set(psutil.Process().children()) - self._family
        self._began_s, self._began_at = time.monotonic(), time.time()
        self._measured_s = -MEASURE_S
        self._n_oom_kills = n_oom_kills()
        self._peak_bytes = 0
        self._ended_by: FailureKind | None = None
        self._message: str | None = None

    @classmethod
    def fork(cls, attempt_dir: Path, run_one: Callable[[Path], int], *, command: Command) -> Self:
        """Start a trial in a forked process.

        Args:
            attempt_dir: Its folder, which it claimed.
            run_one: Runs it and returns its exit status.
            command: Its limits.
        """
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            _run_in_child(attempt_dir, run_one, parent=parent)
        with suppress(OSError):  # the process itself does the same: whoever comes first
            os.setpgid(pid, pid)
        return cls(pid, command)

    @property
    def pids(self) -> set[int]:
        """Every process seen that belonged to the trial."""
        return {process.pid for process in self._family}

    def wait(self, stop: StopFlag) -> Exit:
        """Wait for the end of the trial, pass a request to stop on to it, and kill what it leaves behind.

        Args:
            stop: Set by a signal.
        """
        is_stopping = False
        while True:
            ended, status, used = os.wait4(self._pid, os.WNOHANG)
            if ended:
                break
            self._enforce_limits()
            if stop.requested and not is_stopping:
                is_stopping = True
                os.kill(self._pid, signal.SIGUSR1)
            time.sleep(TICK_S)
        self._end_what_is_left()
        returncode = os.waitstatus_to_exitcode(status)
        self._blame_oom_killer(returncode)
        return Exit(
            returncode=returncode,
            ended_by=self._ended_by,
            started_at=self._began_at,
            ended_at=time.time(),
            peak_rss_bytes=max(self._peak_bytes, used.ru_maxrss * 1024) or None,
            message=self._message,
        )

    def _enforce_limits(self) -> None:
        """End the process if it exceeds its time or memory."""
        elapsed_s = time.monotonic() - self._began_s
        pause_s = MEASURE_S if self._command.enforce_limits else SLURM_MEASURE_S
        if self._ended_by is not None or elapsed_s - self._measured_s < pause_s:
            return
        self._measured_s = elapsed_s
        held, limit_bytes, limit_s = self._measure(), self._command.memory_bytes, self._command.wall_limit_s
        if elapsed_s > limit_s:
            kind = FailureKind.TIME_LIMIT if self._command.enforce_limits else FailureKind.WALL_LIMIT
            self._end(kind, f"ended after {elapsed_s:.1f} s; its limit was {limit_s:g} s")
        elif self._command.enforce_limits and held > limit_bytes:
            held_mib, limit_mib = held / 2**20, limit_bytes / 2**20
            self._end(FailureKind.HOST_OOM, f"held {held_mib:.0f} MiB of memory; its limit was {limit_mib:.0f} MiB")

    def _measure(self) -> int:
        """Compute the memory of the process and its children, in bytes."""
        held = 0
        with suppress(psutil.Error):
            family = [self._process, *self._process.children(recursive=True)]
            self._family.update(family)
            held = sum(member.memory_info().rss for member in family)
        self._peak_bytes = max(self._peak_bytes, held)
        return held

    def _end(self, kind: FailureKind, message: str) -> None:
        self._ended_by, self._message = kind, message
        self._kill()

    def _kill(self) -> None:
        """Kill the process group, and whoever of the trial has left it."""
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        for process in self._family:
            with suppress(psutil.Error):
                process.kill()  # which makes sure that the number is not another process's by now

    def _end_what_is_left(self) -> None:
        """Kill what the trial left behind, the worker's children by now, and wait until it is dead."""
        self._kill()
        deadline_s = time.monotonic() + DEATH_S
        while left := set(psutil.Process().children()) - self._others:
            if time.monotonic() > deadline_s:
                pids = ", ".join(str(process.pid) for process in left)
                sys.stderr.write(f"series: what a trial left behind does not die: process {pids}\n")
                return
            for process in left:
                self._family.add(process)
                with suppress(psutil.Error, ChildProcessError):
                    process.kill()
                    os.waitpid(process.pid, os.WNOHANG)
            time.sleep(DEATH_TICK_S)

    def _blame_oom_killer(self, returncode: int) -> None:
        if returncode == -signal.SIGKILL and self._ended_by is None and n_oom_kills() > self._n_oom_kills:
            self._ended_by = FailureKind.HOST_OOM
            self._message = "killed by the kernel: the job's memory was used up"


def _run_in_child(attempt_dir: Path, run_one: Callable[[Path], int], *, parent: int) -> NoReturn:
    """Run a trial in this forked process, with its own folder, logs and process group; then exit, never return."""
    status = 1
    try:
        die_with(parent)
        os.setpgid(0, 0)
        os.chdir(attempt_dir)
        for number, name in ((1, "stdout"), (2, "stderr")):
            with append_to_log(attempt_dir / name) as log:
                os.dup2(log.fileno(), number)
        status = run_one(attempt_dir)
    finally:
        if sys.exc_info()[0] is not None:
            os.write(2, traceback.format_exc().encode())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
