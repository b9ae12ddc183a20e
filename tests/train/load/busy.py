"""Keeps cores of this machine busy, as other users of a node do."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

N_CORES, N_PROCESSES = 2, 4


@contextmanager
def busy_processes() -> Iterator[None]:
    """Keep two cores busy with processes of other sessions, and this process on the same two."""
    cores = os.sched_getaffinity(0)
    with ExitStack() as stack:
        os.sched_setaffinity(0, sorted(cores)[:N_CORES])
        stack.callback(os.sched_setaffinity, 0, cores)
        for _ in range(N_PROCESSES):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield
