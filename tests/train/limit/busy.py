"""Keeps cores of this machine busy, as other users of a node do."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

N_CORES, N_PROCESSES = 2, 4
BUSY = """
import os
while os.path.exists("/proc/{pid}"):  # a test run that is killed leaves none behind
    for _ in range(10**6):
        pass
"""


@contextmanager
def busy_processes() -> Iterator[None]:
    """Keep two cores busy with processes of other sessions, and this process on the same two."""
    cores = os.sched_getaffinity(0)
    with ExitStack() as stack:
        os.sched_setaffinity(0, sorted(cores)[:N_CORES])
        stack.callback(os.sched_setaffinity, 0, cores)
        for _ in range(N_PROCESSES):
            stack.callback(os.kill, _start_orphan(BUSY.format(pid=os.getpid())), signal.SIGKILL)
        yield


def _start_orphan(code: str) -> int:
    """Start a process that is no child of this one, in a session of its own, and return its number."""
    starter = (
        "import subprocess as s, sys\n"
        "print(s.Popen(sys.argv[1:], start_new_session=True, stdout=s.DEVNULL, stderr=s.DEVNULL).pid)"
    )
    command = [sys.executable, "-c", starter, sys.executable, "-c", code]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
