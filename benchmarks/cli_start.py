"""Measures how long ``xautolm-hpc --help`` and the imports of a worker take.

A command that starts slowly is felt at every use; what a worker imports is paid for by every trial, on a GPU.
"""

import statistics
import subprocess
import sys
import time

from benchmarks.goals import Goal, run

N_RUNS = 7
LIMIT_S = 0.5
N_WORKERS = 3
COMMAND = [sys.executable, "-m", "xautolm_hpc", "--help"]
BARE = [sys.executable, "-c", "import torch, accelerate; from transformers import AutoTokenizer, PreTrainedModel"]
WORKER = [
    sys.executable,
    "-c",
    "from xautolm_hpc.train.libraries import leave_out_scipy; leave_out_scipy(); import xautolm_hpc.train.finetune",
]


def measure() -> list[Goal]:
    """Start the command several times after one start that fills the file cache."""
    durations_s = [_start_s(COMMAND) for _ in range(N_RUNS + 1)][1:]
    pairs_s = [(_start_s(BARE), _start_s(WORKER)) for _ in range(N_WORKERS + 1)][1:]  # in turn: the machine may be busy
    bare_s, worker_s = zip(*pairs_s, strict=True)
    return [
        Goal("xautolm-hpc --help, median of 7", statistics.median(durations_s), LIMIT_S, "s"),
        Goal("xautolm-hpc --help, slowest of 7", max(durations_s), None, "s"),
        Goal(
            "torch, accelerate and a model of transformers by themselves, median of 3",
            statistics.median(bare_s),
            None,
            "s",
        ),
        Goal("a worker's imports, median of 3", statistics.median(worker_s), None, "s"),
    ]


def _start_s(command: list[str]) -> float:
    start_s = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start_s


if __name__ == "__main__":
    sys.exit(run(measure))
