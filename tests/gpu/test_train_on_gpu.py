"""What only a real GPU shows: half precision, memory, energy, a card that others use, determinism, resuming."""

import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.gpu.workers import DEADLINE_S, another_on_the_gpu, run, run_joined, start, write_large_data
from tests.train.attempts import command, task, without_seconds, write_attempt
from xautolm_hpc.catalogue import Model
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.execution import Execution
from xautolm_hpc.jobdir import PIPELINE, TrialPlan, heartbeat_path
from xautolm_hpc.node import list_gpus
from xautolm_hpc.records import from_json, to_json
from xautolm_hpc.sample.estimates import evaluation_batch

if not list_gpus(None)[0]:
    pytest.skip("no NVIDIA GPU", allow_module_level=True)

pytestmark = pytest.mark.gpu

STEADY = {"epochs": 4, "early_stopping_patience": 4, "learning_rate": 1e-4, "dropout_rate": 0.1}


@pytest.mark.parametrize("method", ["full", "partial", "lora", "head"])
def test_a_trial_measures_memory_energy_and_the_card(tmp_path: Path, bert: Model, method: str) -> None:
    params = {"epochs": 60, "early_stopping_patience": 60, "learning_rate": 1e-4}
    attempt_dir = write_attempt(tmp_path, method, params=params, model=bert, limits=command(deterministic=False))

    end = run(attempt_dir)

    outcome, system = end.outcome, end.system
    assert outcome.succeeded, outcome.message
    assert outcome.peak_gpu_memory_bytes is not None
    bytes_each = 4 if method == "full" else 2  # frozen weights are in half precision
    assert outcome.peak_gpu_memory_bytes > bytes_each * 85e6  # the weights alone
    assert (outcome.energy_source.split("+")[0], outcome.energy_scope) == ("nvml-counter", "whole-gpu")
    assert outcome.gpu_energy_j is not None
    assert outcome.evaluation_time_s is not None
    assert 20 < outcome.gpu_energy_j / outcome.evaluation_time_s < 1500  # watts
    assert system is not None
    assert (system.n_gpus, system.gpu_name) == (1, list_gpus("0")[0][0].name)
    assert system.cuda_version is not None


def test_a_deterministic_trial_is_the_same_twice_and_when_resumed(tmp_path: Path, bert: Model) -> None:
    ends = [run(write_attempt(tmp_path / name, "full", params=STEADY, model=bert)) for name in ("a", "b")]
    attempt_dir = write_attempt(tmp_path / "c", "full", params=STEADY, model=bert)
    worker = start(attempt_dir, "trial")
    beat_path, deadline = heartbeat_path(attempt_dir, 0), time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline and not (beat_path.exists() and read_json(beat_path)["phase"] == "train"):
        time.sleep(0.001)
    worker.send_signal(signal.SIGUSR1)
    worker.wait(timeout=DEADLINE_S)

    resumed = run(attempt_dir, SLURM_RESTART_COUNT="1")

    assert worker.returncode == 85
    curves = [without_seconds(end.outcome.curve) for end in (*ends, resumed)]
    assert curves[0] == curves[1] == curves[2]
    assert ends[0].outcome.metrics == resumed.outcome.metrics
    assert resumed.restart == 1


def test_a_batch_too_large_for_the_card_is_gpu_oom(tmp_path: Path, bert: Model) -> None:
    attempt_dir = write_attempt(tmp_path, "full", params={"batch_size": 8192, "max_length": 512}, model=bert)
    write_large_data(attempt_dir, 8192)

    outcome = run(attempt_dir).outcome

    assert (outcome.kind, outcome.origin) == ("gpu_oom", "pipeline"), outcome.message
    assert outcome.message is not None
    assert outcome.message.splitlines()[-1].startswith("OutOfMemoryError: CUDA out of memory.")
    assert outcome.gpu_energy_j is None or outcome.gpu_energy_j > 0
    assert outcome.peak_gpu_memory_bytes is not None


def test_an_evaluation_of_many_samples_at_once_takes_no_more_memory_than_training(tmp_path: Path, bert: Model) -> None:
    twelve_blocks = replace(bert, family="encoder", n_layers=12, hidden_size=768, n_parameters=86_000_000)
    peaks, f1 = [], []
    for name in ("one by one", "many"):
        params = {"batch_size": 8, "max_length": 512, "epochs": 1}
        attempt_dir = write_attempt(tmp_path / name, "full", params=params, model=bert)
        write_large_data(attempt_dir, 256, n_evaluated=192)
        plan = from_json(TrialPlan, read_json(attempt_dir / PIPELINE), where=PIPELINE)
        n_samples = evaluation_batch(plan.pipeline, twelve_blocks, task=task()) if name == "many" else 1
        execution = Execution(evaluation_batch=n_samples)
        write_json(attempt_dir / PIPELINE, to_json(replace(plan, execution=execution)))

        outcome = run(attempt_dir).outcome

        assert outcome.succeeded, outcome.message
        peaks.append(outcome.peak_gpu_memory_bytes)
        f1.append(outcome.metrics["f1"])

    assert n_samples == 96
    assert peaks[1] == peaks[0]
    assert f1[1] == pytest.approx(f1[0], abs=1e-6)


def test_running_out_of_a_card_that_others_hold_is_gpu_busy(tmp_path: Path, bert: Model) -> None:
    attempt_dir = write_attempt(tmp_path, "full", params={"batch_size": 8192, "max_length": 512}, model=bert)
    write_large_data(attempt_dir, 8192)

    with another_on_the_gpu(share=0.2) as join:
        join()
        outcome = run(attempt_dir).outcome

    assert (outcome.kind, outcome.origin) == ("gpu_busy", "infrastructure"), outcome.message
    assert (outcome.energy_scope, outcome.gpu_energy_j) == ("unattributed", None)


def test_running_out_of_a_card_that_others_joined_is_gpu_busy(tmp_path: Path, bert: Model) -> None:
    attempt_dir = write_attempt(tmp_path, "full", params={"batch_size": 8192, "max_length": 512}, model=bert)
    write_large_data(attempt_dir, 8192)

    outcome = run_joined(attempt_dir, phase="load", share=0.2).outcome

    assert (outcome.kind, outcome.origin) == ("gpu_busy", "infrastructure"), outcome.message
