"""Runs a program in a child process and measures the memory it took."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

MIB = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How a child process ended.

    Attributes:
        returncode: Its exit status.
        text: What it printed.
        peak_mib: Largest memory of it, or of a child of its own, in MiB of 2**20 bytes.
    """

    returncode: int
    text: str
    peak_mib: float


def measured(program: str, *arguments: str | Path) -> Measured:
    """Run Python code with arguments; its resident memory and that of its children is read when it ends.

    Of the process itself ``VmHWM`` is read: ``ru_maxrss`` would count what its parent held before it.
    """
    watched = (
        "import resource, sys\n"
        f"try:\n    exec({program!r})\n"
        "except BaseException as error:\n    print(type(error).__name__, error)\n"
        "own = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(max(int(own.split()[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))\n"
    )
    command = [sys.executable, "-c", watched, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    *lines, peak_kib = ended.stdout.splitlines()
    return Measured(returncode=ended.returncode, text="\n".join(lines) + ended.stderr, peak_mib=int(peak_kib) / 1024)
