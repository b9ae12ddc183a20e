"""Captured steps on a real GPU: they train as eager ones do, resume as if nothing had happened, and end in time."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.gpu.step_cases import build, losses, rebuild, without_dropout
from tests.gpu.workers import run
from tests.train.attempts import command, write_attempt
from tests.train.test_checkpoint import StopAtLook
from tests.train.test_family_grid import NO_BIASES, NO_QUESTION_HEAD
from tests.train.tiny import CONFIGS
from xautolm_hpc.catalogue import Model
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.execution import StepMode
from xautolm_hpc.hyperparameters import METHODS, OPTIMIZERS
from xautolm_hpc.jobdir import PIPELINE
from xautolm_hpc.node import list_gpus
from xautolm_hpc.records import Value
from xautolm_hpc.train.checkpoint import load_checkpoint, save_checkpoint
from xautolm_hpc.train.energy import EnergyReader
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.loop import evaluate, train, trainable
from xautolm_hpc.train.stop import StopFlag, StopRequestedError

if not list_gpus(None)[0]:
    pytest.skip("no NVIDIA GPU", allow_module_level=True)

pytestmark = pytest.mark.gpu

SINGLE, HALF = 1e-5, 1e-3
"""How far losses of graph and eager steps may be apart, in single precision and in bf16."""

SCHEDULES = ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant")


def _compare(
    tmp_path: Path, architecture: str, *, atol: float = SINGLE, method: str = "full", kind: str = "text-classification",
    params: dict[str, Value] | None = None,
) -> None:  # fmt: skip
    """Train 30 steps in both ways and compare the loss of each."""
    found: dict[StepMode, list[float]] = {}
    for step in StepMode:
        train_state = without_dropout(
            build(tmp_path / step, architecture, step=step, method=method, kind=kind, params=params)
        )
        found[step] = losses(train_state)
        train(train_state, save=lambda: None)
        assert (train_state.runner.mode, train_state.runner.reason) == (step, None)
    assert len(found[StepMode.GRAPH]) == len(found[StepMode.EAGER]) >= 15
    assert found[StepMode.GRAPH] == pytest.approx(found[StepMode.EAGER], abs=atol, rel=atol)


@pytest.mark.parametrize("method", ["full", "lora", "partial"])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_every_architecture_is_captured(tmp_path: Path, architecture: str, method: str) -> None:
    # Plain gradient descent: an adaptive one turns the rounding of a gradient that should be 0 into a whole step.
    _compare(tmp_path, architecture, method=method, params={"optimizer": "sgd", "learning_rate": 0.05})


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_captured(tmp_path: Path, method: str) -> None:
    assert "bert" not in NO_BIASES
    _compare(tmp_path, "bert", method=method, params={"optimizer": "sgd", "learning_rate": 0.05})


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        ("question-answering", "bert"),
        ("question-answering", "modernbert"),
        ("question-answering", "deberta-v2"),
        ("text-generation", "llama"),
        ("text-generation", "t5"),
    ],
)
def test_every_kind_of_task_is_captured(tmp_path: Path, kind: str, architecture: str) -> None:
    assert architecture not in NO_QUESTION_HEAD
    params: dict[str, Value] = {"optimizer": "sgd", "learning_rate": 0.05, "epochs": 3}
    _compare(tmp_path, architecture, kind=kind, params=params)


@pytest.mark.parametrize("is_half", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_two_hundred_steps_of_every_optimiser_and_schedule(
    tmp_path: Path, optimizer: str, schedule: str, is_half: bool
) -> None:
    params: dict[str, Value] = {
        "optimizer": optimizer, "lr_scheduler": schedule, "weight_decay": 0.01, "use_mixed_precision": is_half,
        "batch_size": 4, "epochs": 50, "early_stopping_patience": 50,  # full batches, of one length
        "learning_rate": 2e-4,
    }  # fmt: skip
    runs = {}
    for name, step in (("eager", StepMode.EAGER), ("again", StepMode.EAGER), ("graph", StepMode.GRAPH)):
        train_state = without_dropout(build(tmp_path / name, "bert", step=step, params=params))
        if is_half and name == "again":
            _round_otherwise(train_state.model)
        runs[name] = losses(train_state)
        train(train_state, save=lambda: None)
        assert (train_state.runner.mode, train_state.runner.reason) == (step, None)

    limit = max(HALF if is_half else SINGLE, 3 * _apart(runs["eager"], runs["again"]))
    assert len(runs["graph"]) == len(runs["eager"]) == 200
    assert _apart(runs["graph"], runs["eager"]) <= limit


def _round_otherwise(model: nn.Module) -> None:
    """Move every weight by one rounding of single precision: in half precision that is what sets two runs apart."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + torch.finfo(torch.float32).eps)


def _apart(losses_of_one: list[float], losses_of_other: list[float]) -> float:
    return max(abs(one - other) for one, other in zip(losses_of_one, losses_of_other, strict=True))


@pytest.mark.parametrize("accumulation", [2, 3])
@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_accumulation_is_captured(tmp_path: Path, optimizer: str, accumulation: int) -> None:
    params: dict[str, Value] = {"optimizer": optimizer, "gradient_accumulation_steps": accumulation, "epochs": 10}
    _compare(tmp_path, "bert", params=params)


def test_class_weights_are_captured(tmp_path: Path) -> None:
    _compare(tmp_path, "bert", params={"class_weighted_loss": True})


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_fp16_scales_its_loss_on_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    scales = []
    found: dict[StepMode, list[float]] = {}
    for step in StepMode:
        params: dict[str, Value] = {"optimizer": optimizer, "use_mixed_precision": True}
        train_state = without_dropout(build(tmp_path / step, "bert", step=step, params=params))
        scaler = train_state.accelerator.scaler
        scaler.load_state_dict({**scaler.state_dict(), "scale": 2.0**24, "growth_interval": 4})
        found[step] = losses(train_state)
        train(train_state, save=lambda: None)
        scales.append(scaler.get_scale())
        assert train_state.runner.reason is None
        assert train_state.scheduler.last_epoch < train_state.progress.step  # the first steps overflow

    assert scales[0] == scales[1] < 2.0**24
    assert found[StepMode.GRAPH] == pytest.approx(found[StepMode.EAGER], abs=5e-3, rel=5e-3)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("step", StepMode)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_resumed_training_is_the_uninterrupted_one(
    tmp_path: Path, step: StepMode, optimizer: str, accumulation: int
) -> None:
    params: dict[str, Value] = {
        "optimizer": optimizer, "dropout_rate": 0.2, "gradient_accumulation_steps": accumulation
    }  # fmt: skip
    whole = build(tmp_path, "bert", step=step, params=params)
    train(whole, save=lambda: None)
    stopped = rebuild(tmp_path, step=step, stop=StopAtLook(9))
    with pytest.raises(StopRequestedError, match=r"^$"):
        train(stopped, save=lambda: None)
    save_checkpoint(tmp_path / "checkpoint", stopped, energy=EnergyReader([]))

    resumed = rebuild(tmp_path, step=step, stop=StopFlag())
    torch.cuda.manual_seed(99)
    load_checkpoint(tmp_path / "checkpoint", resumed)
    train(resumed, save=lambda: None)

    assert 0 < stopped.progress.step < whole.progress.step
    assert whole.runner.reason is resumed.runner.reason is None
    for now, before in zip(resumed.progress.curve, whole.progress.curve, strict=True):
        assert now == pytest.approx(before, rel=1e-5, abs=1e-5)
    expected = trainable(whole.model)
    for name, values in trainable(resumed.model).items():
        torch.testing.assert_close(values, expected[name], atol=1e-4, rtol=1e-3)


def test_dropout_differs_from_step_to_step_and_not_from_run_to_run(tmp_path: Path) -> None:
    params: dict[str, Value] = {"dropout_rate": 0.5, "learning_rate": 1e-12, "batch_size": 16, "epochs": 6}
    runs = []
    for _ in range(2):
        train_state = build(tmp_path, "bert", step=StepMode.GRAPH, params=params)
        seen = losses(train_state)
        train(train_state, save=lambda: None)
        runs.append(seen)

    assert len({round(loss, 6) for loss in runs[0]}) == 6
    assert runs[0] == pytest.approx(runs[1], rel=1e-5)


def test_evaluations_are_replayed_and_score_the_same(tmp_path: Path) -> None:
    scores = []
    for step in StepMode:
        train_state = build(tmp_path, "bert", step=step, params={"epochs": 9})
        train_state.runner.use_edges({"train": [[9]], "evaluation": [[9]]})
        scores.append(evaluate(train_state, "dev"))
        reason = getattr(train_state.runner.evaluator(), "reason", None)
        assert reason is None

    assert scores[1].loss == pytest.approx(scores[0].loss, abs=1e-5)
    assert scores[1].f1 == scores[0].f1


def test_a_loss_that_is_not_finite_is_noticed_within_the_lead(tmp_path: Path) -> None:
    train_state = build(tmp_path, "bert", step=StepMode.GRAPH, params={"epochs": 100, "early_stopping_patience": 100})
    with torch.no_grad():
        train_state.model.get_parameter("classifier.bias")[0] = torch.nan

    with pytest.raises(TrialError, match=r"the training loss is nan in step 1|answers on dev are not finite"):
        train(train_state, save=lambda: None)

    assert train_state.progress.step == 0
    weights = trainable(train_state.model)
    assert sum(int(values.isnan().sum()) for values in weights.values()) == 1  # the one that was put there


def test_the_budget_ends_a_captured_training_in_time(tmp_path: Path) -> None:
    build(tmp_path, "bert", step=StepMode.GRAPH, params={"epochs": 100_000, "early_stopping_patience": 100_000})
    train_state = rebuild(tmp_path, step=StepMode.GRAPH, stop=StopFlag(), time_limit_s=3.0)

    began = time.monotonic()
    with train_state.progress.train, pytest.raises(TrialError, match=r"the budget of 3 s .* was used up after step"):
        train(train_state, save=lambda: None)

    assert 3.0 <= time.monotonic() - began < 3.0 + 2.5  # at most two seconds ahead
    assert train_state.runner.mode is StepMode.GRAPH


def test_what_cannot_be_captured_runs_eagerly_and_says_why(tmp_path: Path) -> None:
    train_state = build(tmp_path, "bert", step=StepMode.GRAPH, params={"dropout_rate": 0.1})

    def wait(module: nn.Module, inputs: object, output: Any) -> None:
        del module, inputs
        assert output[0].sum().item() is not None

    train_state.model.get_submodule("bert.encoder.layer.1").register_forward_hook(wait)

    train(train_state, save=lambda: None)

    assert train_state.runner.mode is StepMode.EAGER
    assert train_state.runner.reason
    assert train_state.progress.step == 30
    assert train_state.progress.curve[-1][1] < train_state.progress.curve[0][1]


@pytest.mark.parametrize("step", ["eager", "graph"])
def test_a_trial_says_how_its_steps_were_computed(tmp_path: Path, bert: Model, step: str) -> None:
    attempt_dir = write_attempt(
        tmp_path, "full", params={"epochs": 20, "early_stopping_patience": 20, "learning_rate": 1e-4}, model=bert,
        limits=command(deterministic=False),
    )  # fmt: skip
    write_json(attempt_dir / PIPELINE, {**read_json(attempt_dir / PIPELINE), "step": step})

    outcome = run(attempt_dir).outcome

    assert outcome.status == "succeeded", outcome.message
    assert (outcome.step, outcome.step_reason) == (step, None)
    assert outcome.peak_gpu_memory_bytes is not None
    assert outcome.peak_gpu_memory_bytes > 4 * 85e6


def test_a_deterministic_trial_is_the_same_twice(tmp_path: Path, bert: Model) -> None:
    ends = []
    for name in ("a", "b"):
        attempt_dir = write_attempt(
            tmp_path / name, "full", params={"epochs": 4, "dropout_rate": 0.1, "learning_rate": 1e-4}, model=bert
        )
        write_json(attempt_dir / PIPELINE, {**read_json(attempt_dir / PIPELINE), "step": "graph"})
        ends.append(run(attempt_dir).outcome)

    assert [row[:4] for row in ends[0].curve] == [row[:4] for row in ends[1].curve]  # the fifth is the time
    assert ends[0].step == "graph" or ends[0].step_reason
