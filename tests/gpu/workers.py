"""Starts real workers on the GPUs of this machine."""

import os
import subprocess
import sys
from pathlib import Path

from tests.train.attempts import read_end, rows, task, worker_environment, write_split
from xautolm_hpc.durable import write_json
from xautolm_hpc.jobdir import TASK, End, TrialInput
from xautolm_hpc.records import to_json

DEADLINE_S = 280.0
SITE = ("NCCL_", "TORCH_", "NVSHMEM_")
"""How a site's GPUs talk to one another is the site's own affair: these variables reach the workers."""


def start(attempt_dir: Path, *words: str, gpus: str = "0", **variables: str) -> subprocess.Popen[str]:
    """Start a command of the worker; its output goes to the file ``log`` of the attempt folder.

    Args:
        attempt_dir: The attempt folder.
        words: Command and what stands before the folder.
        gpus: GPUs it sees.
        variables: Variables it gets besides.
    """
    site = {name: value for name, value in os.environ.items() if name.startswith(SITE)}
    with (attempt_dir / "log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "xautolm_hpc.train", *words, str(attempt_dir)],
            env=worker_environment(**{**site, "CUDA_VISIBLE_DEVICES": gpus, **variables}),
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )


def run(attempt_dir: Path, *words: str, gpus: str = "0", **variables: str) -> End:
    """Run a command of the worker to its end and read the outcome."""
    worker = start(attempt_dir, *(words or ("trial",)), gpus=gpus, **variables)
    assert worker.wait(timeout=DEADLINE_S) == 0, (attempt_dir / "log").read_text()
    return read_end(attempt_dir)


def write_large_data(attempt_dir: Path, n_rows: int, *, n_evaluated: int = 8) -> None:
    """Replace the data by long texts, so many to train on and so many to evaluate."""
    words = " ".join(row["text"] for row in rows())
    large = [{"text": f"{words} {words}", "label": ("good", "bad")[number % 2]} for number in range(n_rows)]
    data_dir = attempt_dir.parent / "data"
    sha256 = write_split(data_dir, {"train": large, "dev": large[:8], "validation": large[:n_evaluated]})
    write_json(attempt_dir / TASK, to_json(TrialInput(task=task(), data_dir=str(data_dir), sha256=sha256)))
