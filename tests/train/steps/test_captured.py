"""Captured steps train as eager ones do, also when stopped and resumed, and leave nothing behind when they cannot."""

from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.families import family_train_state, question_rows
from tests.train.steps.cpu_recorder import CpuRecorder, capture
from tests.train.test_checkpoint import StopAtLook
from tests.train.tiny import tiny_model, tiny_train_state, weights_of
from xautolm_hpc.execution import Execution, StepMode
from xautolm_hpc.hyperparameters import OPTIMIZERS
from xautolm_hpc.train.checkpoint import load_checkpoint, save_checkpoint
from xautolm_hpc.train.energy import EnergyReader
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.limit.trial_budget import Decision
from xautolm_hpc.train.loop import TrainState, evaluate, train, trainable
from xautolm_hpc.train.steps.eager import EagerRunner
from xautolm_hpc.train.stop import StopFlag, StopRequestedError

LONG: dict[str, Any] = {"n_rows": 19, "epochs": 6, "early_stopping_patience": 9, "warmup_ratio": 0.2}
SHORT = {**LONG, "epochs": 2}


def _trained(train_state: TrainState) -> TrainState:
    train(train_state, save=lambda: None)
    return train_state


def _curve(train_state: TrainState) -> list[float]:
    return [value for row in train_state.progress.curve for value in row]


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_thirty_steps_have_the_losses_of_eager_ones(optimizer: str, accumulation: int) -> None:
    params = {**LONG, "optimizer": optimizer, "gradient_accumulation_steps": accumulation, "weight_decay": 0.01}
    eager = _trained(tiny_train_state(**params))

    captured = tiny_train_state(**params)
    recorder = capture(captured)
    _trained(captured)

    assert captured.runner.mode is StepMode.GRAPH
    assert captured.runner.reason is None
    assert recorder.n_replayed >= captured.progress.step == eager.progress.step == 6 * -(-5 // accumulation)
    assert _curve(captured) == pytest.approx(_curve(eager), abs=1e-5, rel=1e-5)
    assert captured.scheduler.state_dict() == eager.scheduler.state_dict()
    assert captured.progress.n_samples == eager.progress.n_samples == 6 * 19


@pytest.mark.parametrize("method", ["full", "partial", "lora", "dora", "ia3", "bitfit", "head"])
def test_every_method_trains_as_it_does_eagerly(method: str) -> None:
    params = {**SHORT, "optimizer": "sgd", "learning_rate": 0.5, "class_weighted_loss": True}
    eager = _trained(tiny_train_state(tiny_model("bert", dropout=0.0), method=method, **params))

    captured = tiny_train_state(tiny_model("bert", dropout=0.0), method=method, **params)
    capture(captured)
    _trained(captured)

    assert captured.runner.reason is None
    assert _curve(captured) == pytest.approx(_curve(eager), abs=1e-5, rel=1e-5)
    for name, values in trainable(eager.model).items():
        torch.testing.assert_close(trainable(captured.model)[name], values, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [("question-answering", "bert"), ("text-generation", "llama"), ("text-generation", "t5")],
)
def test_every_kind_of_task_trains_as_it_does_eagerly(tmp_path: Path, kind: str, architecture: str) -> None:
    params: dict[str, Any] = {
        "learning_rate": 0.1, "batch_size": 3, "max_length": 36, "epochs": 2, "dropout_rate": 0.0, "optimizer": "sgd"
    }  # fmt: skip
    rows = question_rows()[:13]

    def build(name: str) -> TrainState:
        return family_train_state(tmp_path / name, architecture, kind=kind, method="full", params=params, rows=rows)

    eager = _trained(build("eager"))
    captured = build("captured")
    capture(captured)
    _trained(captured)

    assert captured.runner.reason is None
    assert _curve(captured) == pytest.approx(_curve(eager), abs=1e-5, rel=1e-5)


def test_micro_batches_are_graphs_of_their_own() -> None:
    eager = _trained(tiny_train_state(**SHORT, optimizer="sgd", batch_size=8))
    captured = tiny_train_state(**SHORT, optimizer="sgd", batch_size=8)
    captured.execution = Execution(micro_batch=3)
    recorder = capture(captured)

    _trained(captured)

    assert captured.runner.reason is None
    assert recorder.n_replayed > 2 * captured.progress.step
    assert _curve(captured) == pytest.approx(_curve(eager), abs=1e-5, rel=1e-5)


def _with_dropout(stop: StopFlag | None = None) -> TrainState:
    train_state = tiny_train_state(
        tiny_model("bert", dropout=0.2), stop=stop, optimizer="adafactor", gradient_accumulation_steps=2, **SHORT
    )
    capture(train_state)
    return train_state


@pytest.mark.parametrize("look", [1, 2, 4, 6])
def test_a_resumed_training_is_the_uninterrupted_one(tmp_path: Path, look: int) -> None:
    whole = _trained(_with_dropout())
    stopped = _with_dropout(StopAtLook(look))
    with pytest.raises(StopRequestedError, match=r"^$"):
        train(stopped, save=lambda: None)
    save_checkpoint(tmp_path, stopped, energy=EnergyReader([]))

    resumed = _with_dropout()
    torch.manual_seed(99)
    load_checkpoint(tmp_path, resumed)
    _trained(resumed)

    assert whole.runner.reason is resumed.runner.reason is None
    assert resumed.progress.curve == whole.progress.curve
    expected = trainable(whole.model)
    assert all(torch.equal(values, expected[name]) for name, values in trainable(resumed.model).items())


def test_the_padded_lengths_come_from_the_checkpoint(tmp_path: Path) -> None:
    first, second = _with_dropout(), _with_dropout()
    first.runner.use_edges({"train": [[9, 13]], "evaluation": [[8, 13]]})
    save_checkpoint(tmp_path, first, energy=EnergyReader([]))

    load_checkpoint(tmp_path, second)

    assert second.runner.edges() == {"train": [[9, 13]], "evaluation": [[8, 13]]}
    assert _with_dropout().runner.edges() == {"train": ((13,),), "evaluation": ()}


def test_eager_steps_ignore_padded_lengths_of_a_checkpoint(tmp_path: Path) -> None:
    first, second = _with_dropout(), tiny_train_state(optimizer="adafactor", **SHORT)
    train(first, save=lambda: None)
    save_checkpoint(tmp_path, first, energy=EnergyReader([]))

    load_checkpoint(tmp_path, second)
    _trained(second)

    assert second.runner.edges() is None
    assert second.progress.step == first.progress.step


def test_a_loss_that_is_not_finite_ends_the_trial_and_leaves_the_weights() -> None:
    train_state = tiny_train_state(**SHORT)
    capture(train_state)
    with torch.no_grad():
        train_state.model.get_parameter("classifier.bias")[0] = torch.nan
    before = weights_of(train_state.model)

    with pytest.raises(TrialError, match=r"the training loss is nan in step 1"):
        train(train_state, save=lambda: None)

    assert train_state.progress.step == 0
    for name, values in weights_of(train_state.model).items():
        assert torch.equal(values.nan_to_num(), before[name].nan_to_num())


def test_the_budget_ends_training_between_steps_and_counts_those_that_are_over() -> None:
    train_state = tiny_train_state(**SHORT, time_limit_s=0.0)
    capture(train_state)
    train_state.runner.start([torch.arange(4).numpy()])

    with train_state.progress.train, pytest.raises(TrialError, match=r"budget of 0 s .* after step 0 of 10"):
        train(train_state, save=lambda: None)

    assert train_state.progress.step == 1


def test_what_cannot_be_captured_in_the_middle_goes_on_eagerly() -> None:
    params = {**SHORT, "gradient_accumulation_steps": 2, "optimizer": "sgd"}
    eager = _trained(tiny_train_state(**params))
    failing = tiny_train_state(**params)
    recorder = capture(failing, CpuRecorder(fails_at=4))
    failing.runner.use_edges({"train": [[9, 10, 11, 12, 13]], "evaluation": []})

    _trained(failing)

    assert (failing.runner.mode, failing.runner.reason) == (StepMode.EAGER, "the device is out of order")
    assert recorder.n_recovered == 1 <= recorder.n_replayed
    assert failing.progress.step == eager.progress.step
    assert _curve(failing) == pytest.approx(_curve(eager), abs=1e-5, rel=1e-5)
    assert failing.scheduler.state_dict() == eager.scheduler.state_dict()


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_failed_capture_leaves_weights_and_optimiser_as_they_were(optimizer: str, accumulation: int) -> None:
    params = {**SHORT, "optimizer": optimizer, "gradient_accumulation_steps": accumulation}
    eager, failing = tiny_train_state(**params), tiny_train_state(**params)
    capture(eager)
    eager.runner = EagerRunner(eager)
    recorder = capture(failing, CpuRecorder(fails_at=accumulation))

    for train_state in (eager, failing):
        _trained(train_state)

    assert failing.runner.reason == "the device is out of order"
    assert (recorder.n_replayed, recorder.n_recovered) == (0, 1)
    assert failing.progress.curve == eager.progress.curve
    expected = weights_of(eager.model)
    assert all(torch.equal(values, expected[name]) for name, values in weights_of(failing.model).items())


def test_evaluations_are_replayed_and_score_the_same() -> None:
    eager, captured = tiny_train_state(**SHORT), tiny_train_state(**SHORT)
    recorder = capture(captured)
    captured.execution = eager.execution = Execution(evaluation_batch=5)
    captured.runner.use_edges({"train": [[13]], "evaluation": [[9, 13]]})

    scores = [evaluate(train_state, "dev") for train_state in (eager, captured)]
    again = evaluate(captured, "validation")

    assert scores[1].loss == pytest.approx(scores[0].loss, abs=1e-6)
    assert scores[1].f1 == scores[0].f1
    assert recorder.n_recorded <= 2 < recorder.n_replayed == 6
    assert again.loss == pytest.approx(evaluate(eager, "validation").loss, abs=1e-6)


def test_an_evaluation_that_cannot_be_captured_asks_the_model() -> None:
    eager, captured = tiny_train_state(**LONG), tiny_train_state(**LONG)
    recorder = capture(captured, CpuRecorder(fails_at=1))

    scores = [evaluate(train_state, "dev") for train_state in (eager, captured)]

    assert scores[1].loss == scores[0].loss
    assert (recorder.n_replayed, recorder.n_recovered) == (0, 1)
    assert captured.runner.mode is StepMode.GRAPH


def _cut_short(train_state: TrainState) -> TrainState:
    """Train until a limit in the second epoch, with a probe of the evaluation after two steps of the first."""
    decisions, calls = {3: Decision.PROBE, 11: Decision.CUT}, count(1)
    train_state.budget.agree = lambda own: decisions.get(next(calls), own)
    return _trained(train_state)


def test_a_captured_training_is_probed_and_truncated_as_an_eager_one() -> None:
    params = {**LONG, "optimizer": "sgd", "learning_rate": 0.5}
    eager, captured = tiny_train_state(**params), tiny_train_state(**params)
    capture(captured)

    _cut_short(eager)
    _cut_short(captured)

    for train_state in (eager, captured):
        assert (train_state.progress.truncated, train_state.progress.step) == (True, 7)
        assert len(train_state.progress.curve) == 1
        assert len(train_state.budget.plan.evaluations_s) == 2  # that of the probe, and that of the epoch
    assert captured.runner.reason is None
    for name, values in trainable(eager.model).items():
        torch.testing.assert_close(trainable(captured.model)[name], values, atol=2e-5, rtol=1e-4)
    assert evaluate(captured, "validation").f1 == evaluate(eager, "validation").f1
