"""After a GPU ran out of memory the trial is tried once more, with smaller micro-batches."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.attempts import read_end, worker_environment, write_attempt
from xautolm_hpc.durable import read_json
from xautolm_hpc.execution import Execution
from xautolm_hpc.jobdir import PIPELINE
from xautolm_hpc.train.energy import Counter, EnergyReader
from xautolm_hpc.train.limit.trial_budget import Progress
from xautolm_hpc.train.retry import RETRY, ask_for_retry, read_retry

# The real worker on a GPU that fits only so many samples of a micro-batch: raises torch's own exception.
# Of several ranks the second one has it.
SMALL_GPU = """
import os, sys, time
import torch
from xautolm_hpc.train.__main__ import main
from xautolm_hpc.train.steps.eager import EagerRunner
n_samples, backward = int(sys.argv.pop(1)), EagerRunner._backward

def on_a_small_gpu(self, micro_batch, **given):
    if len(micro_batch.rows) > n_samples and os.environ.get("RANK", "1") == "1":
        time.sleep(0.2)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
    return backward(self, micro_batch, **given)

EagerRunner._backward = on_a_small_gpu
sys.exit(main(sys.argv[1:]))
"""


def _run(attempt_dir: Path, n_samples: int, *words: str) -> int:
    command = [sys.executable, "-c", SMALL_GPU, str(n_samples), *(words or ("trial",)), str(attempt_dir)]
    return subprocess.run(command, env=worker_environment(), check=False, timeout=800).returncode


def test_a_second_try_trains_the_same_batch_in_smaller_micro_batches(tmp_path: Path) -> None:
    attempt_dir = write_attempt(tmp_path, params={"batch_size": 8})

    status = _run(attempt_dir, 4)

    outcome, retry = read_end(attempt_dir).outcome, read_retry(attempt_dir)
    assert (status, outcome.status) == (0, "succeeded")
    assert retry is not None
    assert (retry.micro_batch, retry.execution) == (8, Execution(micro_batch=4))
    assert outcome.retry_s == pytest.approx(retry.seconds)
    assert retry.seconds >= 0.2
    assert outcome.n_samples == 2 * 30
    assert outcome.n_steps == 2 * 4
    assert outcome.message is not None
    assert outcome.message.startswith(f"gpu_oom with a micro-batch of 8 after {retry.seconds:.1f} s")
    assert "tried again with 4: OutOfMemoryError: CUDA out of memory" in outcome.message
    assert read_json(attempt_dir / PIPELINE)["execution"]["micro_batch"] is None


def test_a_second_try_is_the_last_one(tmp_path: Path) -> None:
    attempt_dir = write_attempt(tmp_path, params={"batch_size": 8})

    status = _run(attempt_dir, 2)

    outcome, retry = read_end(attempt_dir).outcome, read_retry(attempt_dir)
    assert (status, outcome.status, outcome.kind, outcome.origin) == (0, "failed", "gpu_oom", "pipeline")
    assert retry is not None
    assert outcome.retry_s == pytest.approx(retry.seconds)
    assert outcome.message is not None
    assert outcome.message.count("OutOfMemoryError") == 2


def test_one_process_out_of_memory_starts_all_of_them_again(tmp_path: Path) -> None:
    attempt_dir = write_attempt(tmp_path, params={"batch_size": 8})

    status = _run(attempt_dir, 2, "lead", "2")

    outcome, retry = read_end(attempt_dir).outcome, read_retry(attempt_dir)
    assert (status, outcome.status) == (0, "succeeded"), outcome.message
    assert retry is not None
    assert (retry.micro_batch, retry.execution) == (4, Execution(micro_batch=2))
    assert (outcome.n_steps, outcome.n_samples) == (2 * 4, 2 * 30)
    assert outcome.retry_s == pytest.approx(retry.seconds)
    assert outcome.message is not None
    assert f"gpu_oom with a micro-batch of 4 after {retry.seconds:.1f} s" in outcome.message


@pytest.mark.parametrize(("first_j", "total_j"), [(0.0, 30.0), (12.0, 42.0), (None, None)])
def test_the_energy_of_a_first_try_is_counted_and_unknown_where_it_is(
    first_j: float | None, total_j: float | None
) -> None:
    readings = iter([100.0, 130.0])
    energy = EnergyReader([Counter(device="gpu", read_j=lambda: next(readings))])
    energy.begin()
    energy.end()

    assert Progress(retried_gpu_j=first_j).energy_j(energy, "gpu") == total_j


def test_micro_batches_of_one_sample_cannot_be_halved(tmp_path: Path) -> None:
    attempt_dir = write_attempt(tmp_path, params={"batch_size": 2})

    assert not ask_for_retry(attempt_dir, n_ranks=2, message="m", seconds=1.0)
    assert not (attempt_dir / RETRY).exists()


def test_of_several_processes_that_fail_alike_the_first_is_recorded(tmp_path: Path) -> None:
    attempt_dir = write_attempt(tmp_path, params={"batch_size": 8})

    assert ask_for_retry(attempt_dir, n_ranks=2, message="first", seconds=1.0)
    assert ask_for_retry(attempt_dir, n_ranks=2, message="second", seconds=2.0)

    retry = read_retry(attempt_dir)
    assert retry is not None
    assert (retry.message, retry.micro_batch, retry.execution.micro_batch) == ("first", 4, 2)
