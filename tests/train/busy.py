"""Keeps the cores of this machine busy, as other users of a node do."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def busy_processes(n: int) -> Iterator[None]:
    """Keep the cores busy with so many processes of their own."""
    with ExitStack() as stack:
        for _ in range(n):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield
