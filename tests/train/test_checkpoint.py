"""A training that was stopped and resumed is bit for bit the one that never stopped."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.attempts import without_seconds
from tests.train.tiny import tiny_model, tiny_train_state
from xautolm_hpc.train.checkpoint import load_checkpoint, save_checkpoint
from xautolm_hpc.train.energy import Counter, EnergyReader
from xautolm_hpc.train.loop import TrainState, trainable
from xautolm_hpc.train.loop import train as run_training
from xautolm_hpc.train.stop import StopFlag, StopRequestedError

# 20 rows in batches of 4, two a step: 3 steps an epoch, and one look at the clock for each step and each batch of dev.
PARAMS: dict[str, Any] = {
    "epochs": 3,
    "gradient_accumulation_steps": 2,
    "warmup_ratio": 0.3,
    "early_stopping_patience": 9,
}
LOOKS_AN_EPOCH = 4


class StopAtLook(StopFlag):
    """A stop that is requested when it is looked at for the n-th time."""

    def __init__(self, look: int) -> None:
        self._left = look
        super().__init__()

    @property
    def requested(self) -> bool:
        self._left -= 1
        return self._left <= 0

    @requested.setter
    def requested(self, value: bool) -> None:
        """Ignore what the base class sets."""


def _train_state(method: str, optimizer: str, stop: StopFlag | None = None, *, seed: int = 3) -> TrainState:
    model = tiny_model("bert", dropout=0.2)
    train_state = tiny_train_state(model, method=method, stop=stop, optimizer=optimizer, **PARAMS)
    torch.manual_seed(seed)  # dropout draws from here
    return train_state


def _no_energy() -> EnergyReader:
    return EnergyReader([])


@pytest.mark.parametrize("look", [1, 2, LOOKS_AN_EPOCH, LOOKS_AN_EPOCH + 2, 2 * LOOKS_AN_EPOCH + 1])
@pytest.mark.parametrize(("method", "optimizer"), [("full", "adamw"), ("lora", "adafactor"), ("partial", "sgd")])
def test_resumed_training_gives_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, look: int, method: str, optimizer: str
) -> None:
    whole = _train_state(method, optimizer)
    run_training(whole, save=lambda: None)
    stopped = _train_state(method, optimizer, StopAtLook(look))
    with pytest.raises(StopRequestedError, match=r"^$"):
        run_training(stopped, save=lambda: None)
    save_checkpoint(tmp_path / "checkpoint", stopped, energy=_no_energy())

    resumed = _train_state(method, optimizer, seed=99)
    load_checkpoint(tmp_path / "checkpoint", resumed)
    run_training(resumed, save=lambda: None)

    assert without_seconds(resumed.progress.curve) == without_seconds(whole.progress.curve)
    assert resumed.progress.step == whole.progress.step == 9
    expected = trainable(whole.model)
    for name, values in trainable(resumed.model).items():
        assert torch.equal(values, expected[name]), name


def test_a_checkpoint_during_the_final_evaluation_keeps_the_best_weights(tmp_path: Path) -> None:
    train_state = _train_state("full", "adamw")
    run_training(train_state, save=lambda: None)
    save_checkpoint(tmp_path, train_state, energy=_no_energy())

    resumed = _train_state("full", "adamw", seed=99)
    load_checkpoint(tmp_path, resumed)
    run_training(resumed, save=lambda: None)

    assert resumed.progress.step == train_state.progress.step
    assert all(torch.equal(v, trainable(train_state.model)[name]) for name, v in trainable(resumed.model).items())


def test_times_and_energy_are_summed_over_restarts(tmp_path: Path) -> None:
    readings = iter([100.0, 130.0, 131.0, 0.0, 5.0])
    counter = Counter(device="gpu", read_j=lambda: next(readings))
    first = _train_state("head", "adamw")
    first.progress.train.before_s = 40.0
    first.progress.gpu_energy_before_j = 1000.0
    energy = EnergyReader([counter])
    energy.begin()

    save_checkpoint(tmp_path, first, energy=energy)
    energy.end()
    second = _train_state("head", "adamw")
    load_checkpoint(tmp_path, second)
    later = EnergyReader([counter])
    later.begin()
    later.end()

    assert second.progress.train.total_s == 40.0
    assert second.progress.train.here_s == 0.0
    assert second.progress.energy_j(later, "gpu") == 1000 + 30 + 5
    assert second.progress.energy_j(later, "cpu") is None


def test_without_a_checkpoint_nothing_is_resumed(tmp_path: Path) -> None:
    assert not load_checkpoint(tmp_path / "checkpoint", _train_state("head", "adamw"))


def test_a_checkpoint_replaces_the_last_one_whole(tmp_path: Path) -> None:
    train_state = _train_state("head", "adamw")
    save_checkpoint(tmp_path, train_state, energy=_no_energy())
    train_state.progress.step = 5

    save_checkpoint(tmp_path, train_state, energy=_no_energy())

    resumed = _train_state("head", "adamw")
    load_checkpoint(tmp_path, resumed)
    assert resumed.progress.step == 5
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
