"""Starts the ranks of a trial on one node, passes signals on to them, and ends them all when one of them fails.

It imports nothing heavy. It keeps signals blocked and waits for them; the processes it starts inherit the blocking, so
that a signal which arrives before their handlers are installed is delivered later.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from xautolm_hpc.durable import read_json
from xautolm_hpc.errors import InputError
from xautolm_hpc.jobdir import CHECKPOINT_EXIT_STATUS, OUTCOME, Exit, exit_path
from xautolm_hpc.records import from_json
from xautolm_hpc.train.process_group import ProcessGroup
from xautolm_hpc.train.retry import RETRY
from xautolm_hpc.train.stop import STOP_SIGNALS, WAITING

TICK_S = 1.0
"""Seconds between two checks of the other nodes; the end of a process on this node is seen at once."""

STOP_PATIENCE_S = 90.0
"""Seconds after which a process that was asked to stop is killed: it hangs where no handler runs."""

FOLLOW_PATIENCE_S = 30.0
"""Seconds that the other processes have to end, once one has ended or the outcome is written; then they are killed."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


class Leader:
    """The ranks of one node.

    Args:
        group: The process group.
        attempt_dir: The attempt folder; the exit files in it show how the ranks of other nodes ended.
        restart: Slurm's restart count.

    Attributes:
        ranks: The processes, once started.
    """

    def __init__(self, group: ProcessGroup, attempt_dir: Path, *, restart: int) -> None:
        self.ranks: list[subprocess.Popen[bytes]] = []
        self._group = group
        self._attempt_dir = attempt_dir
        self._restart = restart
        self._kill_at: float | None = None
        self._has_retried = self._wants_retry()
        self._start_again: Callable[[], None] = lambda: None

    def start(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        """Start every rank.

        Args:
            command: Program and arguments, the same for all.
            environ: Environment variables of all; the threads that they name are divided among the ranks.
        """
        self._start_again = partial(self.start, command, environ)
        shares = {name: _share(environ[name], self._group.n_local) for name in THREADS if name in environ}
        for local in range(self._group.n_local):
            variables = {**environ, **shares, **self._group.variables(local)}
            self.ranks.append(subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL))

    def _retry(self) -> None:
        """End all ranks and start them again; they meet at another port than before."""
        self._kill()
        self._has_retried = True
        self._group = replace(self._group, port=self._group.port + 1)
        self.ranks.clear()
        self._start_again()

    def _wants_retry(self) -> bool:
        return (self._attempt_dir / RETRY).exists()

    def wait(self) -> int:
        """Wait until all ranks of this node have ended; if a rank fails, here or on another node, end them.

        Returns:
            Exit status as in :mod:`subprocess`: 0 once there is an outcome, else that of the process that
            failed first, else that of the first one.
        """
        while True:
            self._pass_on(signal.sigtimedwait(WAITING, TICK_S))
            if self._wants_retry() and not self._has_retried:
                self._retry()
            ends = [rank.poll() for rank in self.ranks]
            failed = [status for status in ends if status is not None and not _is_well(status)]
            failed += self._failed_elsewhere()
            if failed:
                self._kill()
                return 0 if self._has_outcome() else failed[0]
            if None not in ends:
                return self.ranks[0].returncode
            if self._has_outcome() or any(status is not None for status in ends):
                self._kill_after(FOLLOW_PATIENCE_S)
            if self._kill_at is not None and time.monotonic() > self._kill_at:
                self._kill()
                return 0 if self._has_outcome() else -signal.SIGKILL

    def _pass_on(self, received: "signal.struct_siginfo | None") -> None:
        if received is None or received.si_signo not in STOP_SIGNALS:
            return
        for rank in self.ranks:
            rank.send_signal(received.si_signo)
        self._kill_after(STOP_PATIENCE_S)

    def _kill_after(self, seconds: float) -> None:
        if self._kill_at is None:
            self._kill_at = time.monotonic() + seconds

    def _kill(self) -> None:
        for rank in self.ranks:
            rank.kill()
        for rank in self.ranks:
            rank.wait()

    def _has_outcome(self) -> bool:
        return (self._attempt_dir / OUTCOME).exists()

    def _failed_elsewhere(self) -> list[int]:
        """List the exit statuses of failed processes on other nodes, from the exit files that their wrappers wrote."""
        others = set(range(self._group.n_nodes)) - {self._group.node}
        paths = [exit_path(self._attempt_dir, self._restart, node=node) for node in sorted(others)]
        return [status for path in paths if (status := _read_status(path)) is not None and not _is_well(status)]


def end_like(status: int) -> int:
    """Kill this process by the signal that ended another one; without a signal return that one's exit status."""
    if status < 0:
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WAITING)
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def _is_well(status: int) -> bool:
    return status in (0, CHECKPOINT_EXIT_STATUS)


def _share(threads: str, n_local: int) -> str:
    return str(max(1, int(threads) // n_local))


def _read_status(path: Path) -> int | None:
    try:
        ended = from_json(Exit, read_json(path), where=str(path))
    except (FileNotFoundError, InputError):
        return None
    return 1 if ended.returncode is None else ended.returncode
