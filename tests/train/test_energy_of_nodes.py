"""Energy of several processes: a node's counters are read once, nodes are added up."""

import subprocess
import sys
from pathlib import Path

from tests.train.attempts import command, read_end, worker_environment, write_attempt

# The real worker, its counters replayed: 100 J at first and 142 J ever after, in each process that reads any.
REPLAYED = """
import os, sys
from contextlib import contextmanager
from itertools import chain, repeat
from xautolm_hpc.train import worker
from xautolm_hpc.train.__main__ import main
from xautolm_hpc.train.energy import Counter, EnergyReader

@contextmanager
def replayed(visible_gpus, *, shared):
    readings = chain([100.0], repeat(142.0))
    gpu = Counter(device="gpu", read_j=lambda: next(readings))
    unreadable = Counter(device="cpu", read_j=lambda: None if os.environ["GROUP_RANK"] == "1" else next(readings))
    yield EnergyReader([gpu, unreadable])

worker.open_energy_reader = replayed
sys.exit(main(sys.argv[1:]))
"""


def test_each_node_is_counted_once_and_what_one_does_not_know_is_unknown(tmp_path: Path) -> None:
    attempt_dir = write_attempt(tmp_path, params={"epochs": 1, "batch_size": 16}, limits=command(n_threads=2))
    in_slurm = {"SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NODELIST": "localhost,localhost", "SLURM_JOB_ID": "15999"}

    leaders = [
        subprocess.Popen(
            [sys.executable, "-c", REPLAYED, "lead", "2", str(attempt_dir)],
            env=worker_environment(**in_slurm, SLURM_NODEID=str(node)),
        )
        for node in range(2)
    ]
    statuses = [leader.wait(timeout=800) for leader in leaders]

    outcome = read_end(attempt_dir).outcome
    assert statuses == [0, 0]
    assert (outcome.status, outcome.n_samples) == ("succeeded", 30), outcome.message
    assert outcome.gpu_energy_j == 2 * 42.0
    assert outcome.cpu_energy_j is None
    assert (outcome.energy_source, outcome.energy_scope) == ("nvml-counter+rapl", "whole-gpu")
