"""Starts real workers on the GPUs of this machine."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.train.attempts import read_end, rows, task, worker_environment, write_split
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.jobdir import PROTOCOL, PROTOCOL_VARIABLE, TASK, End, TrialInput, heartbeat_path
from xautolm_hpc.node import list_gpus
from xautolm_hpc.records import to_json

DEADLINE_S = 280.0
SITE = ("NCCL_", "TORCH_", "NVSHMEM_")
"""Variables of a site about the communication of its GPUs; they are passed to the workers."""


def start(attempt_dir: Path, *words: str, gpus: str = "0", **variables: str) -> subprocess.Popen[str]:
    """Start a command of the worker; its output goes to the file ``log`` of the attempt folder.

    Args:
        attempt_dir: The attempt folder.
        words: Command, and what comes before the folder.
        gpus: GPUs it sees.
        variables: Variables it gets besides.
    """
    site = {name: value for name, value in os.environ.items() if name.startswith(SITE)}
    with (attempt_dir / "log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "xautolm_hpc.train", *words, str(attempt_dir)],
            env=worker_environment(
                **{PROTOCOL_VARIABLE: str(PROTOCOL), **site, "CUDA_VISIBLE_DEVICES": gpus, **variables}
            ),
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )


def run(attempt_dir: Path, *words: str, gpus: str = "0", **variables: str) -> End:
    """Run a command of the worker to its end and read the outcome."""
    worker = start(attempt_dir, *(words or ("trial",)), gpus=gpus, **variables)
    assert worker.wait(timeout=DEADLINE_S) == 0, (attempt_dir / "log").read_text()
    return read_end(attempt_dir)


def phase_seen(attempt_dir: Path, phase: str) -> float:
    """Wait for a phase of the trial and return when it was seen."""
    path, deadline = heartbeat_path(attempt_dir, 0), time.monotonic() + DEADLINE_S
    while not (path.exists() and read_json(path)["phase"] == phase):
        assert time.monotonic() < deadline, (attempt_dir / "log").read_text()
        time.sleep(0.002)
    return time.monotonic()


@contextmanager
def another_on_the_gpu(share: float) -> Iterator[Callable[[], None]]:
    """Start another process, in its own session; yield a function that makes it take a share of the memory of GPU 0."""
    n_bytes = int(share * list_gpus("0")[0][0].memory_bytes)
    take = f"x = torch.ones({n_bytes}, dtype=torch.uint8, device='cuda')"
    code = f"import torch; print('ready', flush=True); input(); {take}; print('there', flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )

    def expect(expected: str) -> None:
        assert other.stdout is not None
        assert other.stdout.readline() == f"{expected}\n"

    def join() -> None:
        assert other.stdin is not None
        other.stdin.write("\n")
        other.stdin.flush()
        expect("there")

    try:
        expect("ready")
        yield join
    finally:
        other.communicate("\n", timeout=DEADLINE_S)


def run_joined(attempt_dir: Path, *, phase: str, share: float) -> End:
    """Run a trial whose GPU another process joins in a phase, with a share of its memory; return the outcome."""
    with another_on_the_gpu(share) as join:
        worker = start(attempt_dir, "trial")
        phase_seen(attempt_dir, phase)
        join()
        assert worker.wait(timeout=DEADLINE_S) == 0, (attempt_dir / "log").read_text()
    return read_end(attempt_dir)


def write_large_data(attempt_dir: Path, n_rows: int, *, n_evaluated: int = 8) -> None:
    """Replace the data by long texts, given numbers of them to train on and to evaluate."""
    words = " ".join(row["text"] for row in rows())
    large = [{"text": f"{words} {words}", "label": ("good", "bad")[number % 2]} for number in range(n_rows)]
    data_dir = attempt_dir.parent / "data"
    sha256 = write_split(data_dir, {"train": large, "dev": large[:8], "validation": large[:n_evaluated]})
    write_json(attempt_dir / TASK, to_json(TrialInput(task=task(), data_dir=str(data_dir), sha256=sha256)))
