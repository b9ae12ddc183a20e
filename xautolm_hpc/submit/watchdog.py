"""Watches one worker on its node: limits, signals, memory, and that nothing of it is left behind."""

import math
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from xautolm_hpc.failures import FailureKind
from xautolm_hpc.jobdir import Command
from xautolm_hpc.node import n_oom_kills
from xautolm_hpc.submit import processes
from xautolm_hpc.submit.signals import SignalInbox

KILL_GRACE_S = 5.0
"""Seconds between SIGTERM and SIGKILL of a worker that must end."""

LOCAL_TICK_S = 0.5
SLURM_TICK_S = 2.0
"""Seconds between two looks; a signal or the worker's end is seen at once. Slurm keeps the limits itself."""

SETTLED_S = 5.0
"""Seconds after which a worker is one that trains; of jobs that end at once, by hundreds, Slurm is asked nothing."""


class Watchdog:
    """Watches a worker until it and all its descendants are gone.

    Args:
        process: The worker, leader of a process group of its own.
        command: Its limits.
        ready_path: File by which the worker shows that signals reach it.
        inbox: Signals sent to the wrapper.
        ask_checkpoint_at: Returns the seconds since the epoch when the worker is told to checkpoint because the job's
            time ends; called once. ``None`` where jobs have no such end.

    Attributes:
        ended_by: Why the wrapper ended the worker, or ``None``.
        message: The same as a text, or ``None``.
        peak_rss_bytes: Highest memory that the worker's processes held together.
        asked_in_time: Whether it was told to checkpoint for a reason that asks for a requeue.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        command: Command,
        *,
        ready_path: Path,
        inbox: SignalInbox,
        ask_checkpoint_at: Callable[[], float] | None,
    ) -> None:
        self.ended_by: FailureKind | None = None
        self.message: str | None = None
        self.peak_rss_bytes = 0
        self.asked_in_time = False
        self._process = process
        self._command = command
        self._ready_path = ready_path
        self._inbox = inbox
        self._ask_checkpoint_at = ask_checkpoint_at
        self._checkpoint_at = math.inf
        self._checkpoint_wanted = False
        self._started = time.monotonic()
        self._kill_at: float | None = None
        self._held_bytes = 0
        self._n_oom_kills = n_oom_kills()

    def watch(self) -> None:
        """Watch until the worker has ended, then kill and reap whatever it left behind."""
        tick_s = LOCAL_TICK_S if self._command.enforce_limits else SLURM_TICK_S
        while self._process.poll() is None:
            self._inbox.wait(tick_s)  # first: what a process holds at its start says nothing
            if self._process.poll() is None:
                self._look()
        # A worker that ended before it could be looked at is known to the kernel all the same.
        self.peak_rss_bytes = self.peak_rss_bytes or resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        self._sweep()
        self._blame_oom_killer()

    def _look(self) -> None:
        """Check the worker, its limits and the signals of its job once."""
        self._measure()
        self._note_signals()
        if self._command.enforce_limits and self.ended_by is None:
            self._keep_limits()
        self._pass_checkpoint_on()
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._kill()

    def _tree(self) -> list[int]:
        return [self._process.pid, *processes.descendants(self._process.pid)]

    def _measure(self) -> None:
        tree = [self._process.pid, *processes.seen_below(self._process.pid)]
        self._held_bytes = processes.held_memory_bytes(tree)
        peaks = (processes.peak_memory_bytes(pid) for pid in tree)
        self.peak_rss_bytes = max(self.peak_rss_bytes, self._held_bytes, *peaks)

    def _note_signals(self) -> None:
        """Read the signals that the job got: its time ends, or it has to go."""
        if self._ask_checkpoint_at is not None and time.monotonic() - self._started >= SETTLED_S:
            self._checkpoint_at, self._ask_checkpoint_at = self._ask_checkpoint_at(), None
        if time.time() >= self._checkpoint_at or self._inbox.take(signal.SIGUSR2):
            self._checkpoint_at = math.inf
            self._checkpoint_wanted = self.asked_in_time = True
        if self._inbox.take(signal.SIGTERM):
            if self._command.enforce_limits:
                self._end(FailureKind.CANCELLED, "cancelled")
            else:  # Slurm preempts or cancels; the seconds until its SIGKILL are for a checkpoint
                self._checkpoint_wanted = True

    def _keep_limits(self) -> None:
        elapsed_s = time.monotonic() - self._started
        limit_s, limit_bytes = self._command.wall_limit_s, self._command.memory_bytes
        if elapsed_s > limit_s:
            self._end(FailureKind.TIME_LIMIT, f"ended after {elapsed_s:.1f} s; its limit was {limit_s:g} s")
        elif self._held_bytes > limit_bytes:
            held, limit = self._held_bytes / 2**20, limit_bytes / 2**20
            self.ended_by = FailureKind.HOST_OOM
            self.message = f"held {held:.0f} MiB of memory; its limit was {limit:.0f} MiB"
            self._kill()  # memory does not wait

    def _pass_checkpoint_on(self) -> None:
        """Signal the leader to checkpoint, once it handles signals: before that the signal would kill it."""
        if self._checkpoint_wanted and self._ready_path.exists():
            self._checkpoint_wanted = False
            self._process.send_signal(signal.SIGUSR1)

    def _end(self, ended_by: FailureKind, message: str) -> None:
        if self.ended_by is None:
            self.ended_by, self.message = ended_by, message
            self._kill_at = time.monotonic() + KILL_GRACE_S
            self._signal_group(signal.SIGTERM)

    def _kill(self) -> None:
        tree = self._tree()
        self._signal_group(signal.SIGKILL)
        processes.kill_all(tree[1:])

    def _signal_group(self, number: int) -> None:
        if self._process.poll() is None:  # not reaped yet, so the group's number cannot be another's
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _sweep(self) -> None:
        """Kill what the worker left behind: its orphans are this process's children by now."""
        deadline = time.monotonic() + KILL_GRACE_S
        while processes.has_children() and time.monotonic() < deadline:
            left = processes.descendants(os.getpid())
            if not left:
                return
            processes.kill_all(left)
            processes.reap_strays(except_pid=self._process.pid)
            self._inbox.wait(0.05)

    def _blame_oom_killer(self) -> None:
        was_killed = self._process.returncode == -signal.SIGKILL and self.ended_by is None
        if was_killed and n_oom_kills() > self._n_oom_kills:
            self.ended_by, self.message = FailureKind.HOST_OOM, "killed by the kernel: the job's memory was used up"
