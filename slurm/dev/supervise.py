"""Runs one daemon and stays the parent of all processes that it leaves behind: ``supervise.py PID_FILE COMMAND ...``.

Slurm's daemons detach the processes that they start, so that jobs outlive them. A supervisor that is a "child
subreaper" of Linux becomes their parent, so that a node and all its jobs are one process tree.
"""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def main(pid_path: Path, command: list[str]) -> None:
    """Start the command, write both pids to the pid file and wait until every child process has ended."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    daemon = subprocess.Popen(command)
    written = pid_path.with_suffix(".new")
    written.write_text(f"{os.getpid()} {daemon.pid}\n")
    written.replace(pid_path)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
