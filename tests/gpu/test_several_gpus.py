"""Two GPUs train as one does, through the leader and NCCL, and end together."""

import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.gpu.workers import DEADLINE_S, run, start
from tests.train.attempts import write_attempt
from xautolm_hpc.catalogue import Model
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.jobdir import OUTCOME, PIPELINE, heartbeat_path
from xautolm_hpc.node import list_gpus
from xautolm_hpc.records import Outcome

if len(list_gpus(None)[0]) < 2:
    pytest.skip("needs two NVIDIA GPUs", allow_module_level=True)

pytestmark = pytest.mark.gpu

PARAMS: Mapping[str, Any] = {
    "epochs": 3, "early_stopping_patience": 3, "batch_size": 7, "gradient_accumulation_steps": 2,
    "learning_rate": 2e-5, "dropout_rate": 0.0, "use_mixed_precision": False,
}  # fmt: skip
WEIGHTS_BYTES = 4 * 85e6
"""The weights of a BERT of base size alone, in single precision."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, bert: Model) -> Outcome:
    """Train on one GPU, in one process."""
    attempt_dir = write_attempt(tmp_path_factory.mktemp("alone"), "full", params=PARAMS, model=bert)
    return run(attempt_dir).outcome


@pytest.mark.parametrize("execution", [{}, {"sharded": True, "gradient_checkpointing": True}], ids=["ddp", "fsdp"])
def test_two_gpus_have_the_loss_curve_of_one(
    tmp_path: Path, bert: Model, alone: Outcome, execution: Mapping[str, Any]
) -> None:
    """Sums are taken in another order, and Adam lets that grow: 1e-3 is well below what a lost row would change."""
    attempt_dir = write_attempt(tmp_path, "full", params=PARAMS, model=bert)
    plan = read_json(attempt_dir / PIPELINE)
    plan["execution"].update(execution)
    write_json(attempt_dir / PIPELINE, plan)

    end = run(attempt_dir, "lead", "2", gpus="0,1", NCCL_DEBUG="VERSION")

    outcome = end.outcome
    print("one GPU ", *alone.curve, "two GPUs", *outcome.curve, sep="\n")  # noqa: T201 - pytest shows it
    assert outcome.succeeded, outcome.message
    assert (outcome.n_steps, outcome.n_samples) == (alone.n_steps, alone.n_samples) == (9, 90)
    for (epoch, *losses, _, _), (expected_epoch, *expected, _, _) in zip(outcome.curve, alone.curve, strict=True):
        assert epoch == expected_epoch
        assert losses == pytest.approx(expected, abs=1e-3)
    assert "NCCL version" in (attempt_dir / "log").read_text()
    assert end.system is not None
    assert end.system.n_gpus == 2
    assert outcome.energy_scope == "whole-gpu"  # the processes of a trial are no strangers to one another
    assert outcome.gpu_energy_j is not None
    assert outcome.peak_gpu_memory_bytes is not None
    assert outcome.peak_gpu_memory_bytes > (1 if execution else 2) * WEIGHTS_BYTES


def test_a_killed_process_ends_the_other_that_waits_for_it(tmp_path: Path, bert: Model) -> None:
    params = {**PARAMS, "epochs": 100_000, "early_stopping_patience": 100_000}
    attempt_dir = write_attempt(tmp_path, "full", params=params, model=bert)
    leader = start(attempt_dir, "lead", "2", gpus="0,1")
    path, deadline = heartbeat_path(attempt_dir, 0), time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline and not (path.exists() and read_json(path)["phase"] == "train"):
        time.sleep(0.05)
    ranks = {rank.environ()["RANK"]: rank for rank in psutil.Process(leader.pid).children()}

    ranks["1"].kill()

    assert leader.wait(timeout=60) == -signal.SIGKILL
    assert not any(rank.is_running() for rank in ranks.values())
    assert not (attempt_dir / OUTCOME).exists()
