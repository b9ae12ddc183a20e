"""Measures how long ``xautolm-hpc --help`` takes: a command that starts slowly is felt at every use."""

import statistics
import subprocess
import sys
import time

from _bench import Goal, run

N_RUNS = 7
LIMIT_S = 0.5
COMMAND = [sys.executable, "-m", "xautolm_hpc", "--help"]


def measure() -> list[Goal]:
    """Start the command several times after one start that fills the file cache."""
    durations_s = [_start_s() for _ in range(N_RUNS + 1)][1:]
    return [
        Goal("xautolm-hpc --help, median of 7", statistics.median(durations_s), LIMIT_S, "s"),
        Goal("xautolm-hpc --help, slowest of 7", max(durations_s), None, "s"),
    ]


def _start_s() -> float:
    start_s = time.perf_counter()
    subprocess.run(COMMAND, check=True, capture_output=True)
    return time.perf_counter() - start_s


if __name__ == "__main__":
    sys.exit(run(measure))
