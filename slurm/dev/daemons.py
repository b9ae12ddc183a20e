"""Starts daemons and stops exactly those, by their pid files, with every process that they left behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slurm.dev.plan import DevClusterError

SUPERVISE_PATH = Path(__file__).with_name("supervise.py")
POLL_S = 0.05
START_S = 60.0
TERM_S = 8.0
"""Seconds that a daemon has to end by itself before it is killed."""


def wait_until(is_so: Callable[[], bool], *, timeout_s: float, poll_s: float = POLL_S) -> bool:
    """Wait for a condition; return whether it became true in time."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(poll_s)
    return True


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """A daemon under a supervisor.

    Attributes:
        name: Name of its files.
        dir: The cluster's folder; the pid file is in ``run``, the log in ``log``.
    """

    name: str
    dir: Path

    @property
    def pid_path(self) -> Path:
        """Its pid file: pids of the supervisor and the daemon."""
        return self.dir / "run" / f"{self.name}.pid"

    @property
    def log_path(self) -> Path:
        """Its log file."""
        return self.dir / "log" / f"{self.name}.log"

    def start(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        """Start it, detached from this process.

        Raises:
            DevClusterError: Its supervisor did not come up.
        """
        self.pid_path.unlink(missing_ok=True)
        with self.log_path.open("ab") as log:
            supervisor = subprocess.Popen(
                [sys.executable, "-IS", str(SUPERVISE_PATH), str(self.pid_path), *command],
                env=dict(environ),
                cwd=self.dir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if not wait_until(lambda: self.pid_path.exists() or supervisor.poll() is not None, timeout_s=START_S):
            supervisor.kill()
        if not self.pid_path.exists():
            raise DevClusterError(f"{self.name} could not be started:\n{self.log_tail()}")
        supervisor.returncode = 0  # it outlives this process on purpose; no warning when the object goes

    @property
    def is_running(self) -> bool:
        """Whether the daemon itself is running."""
        pids = self._pids()
        return pids is not None and pids[1] in _tree(pids[0])

    def terminate(self) -> None:
        """Ask the daemon to end."""
        pids = self._pids()
        if pids is not None and pids[1] in _tree(pids[0]):
            _send(pids[1], signal.SIGTERM)

    def stop(self) -> None:
        """Ask it to end, then kill it and its processes; nothing is done if it does not run."""
        self.terminate()
        wait_until(lambda: not self.is_running, timeout_s=TERM_S)
        self.kill()

    def kill(self) -> None:
        """Kill it at once with every process it started; the supervisor is killed last, because it is their parent."""
        pids = self._pids()
        if pids is not None:
            wait_until(lambda: not _kill_all(_tree(pids[0])), timeout_s=TERM_S)
            _send(pids[0], signal.SIGKILL)
            wait_until(lambda: self._pids() is None, timeout_s=TERM_S)
        self.pid_path.unlink(missing_ok=True)

    def pause(self) -> None:
        """Suspend it and every process it started, as if the node were cut off; :meth:`go_on` resumes them."""
        pids = self._pids()
        for pid in _tree(pids[0]) if pids else []:
            _send(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Resume everything that was suspended."""
        pids = self._pids()
        for pid in _tree(pids[0]) if pids else []:
            _send(pid, signal.SIGCONT)

    def log_tail(self, n_lines: int = 12) -> str:
        """Return the last lines of its log."""
        lines = self.log_path.read_text(errors="replace").splitlines() if self.log_path.exists() else []
        return "\n".join([f"--- {self.log_path}", *lines[-n_lines:]])

    def _pids(self) -> tuple[int, int] | None:
        """Return the pids of supervisor and daemon; ``None`` if the supervisor is gone, as its pid may be reused."""
        if not self.pid_path.exists():
            return None
        supervisor, daemon = (int(word) for word in self.pid_path.read_text().split())
        with contextlib.suppress(ChildProcessError):
            os.waitpid(supervisor, os.WNOHANG)
        return (supervisor, daemon) if str(self.pid_path) in _command_line(supervisor) else None


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def _tree(root: int) -> list[int]:
    """List the living processes below one."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            children.setdefault(int(parent), []).append(int(path.parent.name))
    found: list[int] = []
    front = [root]
    while front:
        front = [child for pid in front for child in children.get(pid, [])]
        found += front
    return found


def _kill_all(pids: Sequence[int]) -> Sequence[int]:
    for pid in pids:
        _send(pid, signal.SIGKILL)
    return pids


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
