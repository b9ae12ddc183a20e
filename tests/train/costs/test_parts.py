"""The parts of training are measured, each second once, and a trial's log and the benchmark tell them."""

import re

import pytest

from tests.train.steps.cpu_recorder import capture
from tests.train.tiny import tiny_train_state
from xautolm_hpc.train.costs.parts import Part, PartTimer
from xautolm_hpc.train.limit.trial_budget import Progress
from xautolm_hpc.train.loop import train


class Clock:
    """A clock that is set."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_part_within_another_is_not_counted_there() -> None:
    clock = Clock()
    timer = PartTimer(clock=clock)

    clock.now_s = 1.0  # before any part: of none
    with timer.measure(Part.STEPS):
        clock.now_s = 3.0
        with timer.measure(Part.CAPTURES):
            clock.now_s = 7.0
            with timer.measure(Part.WAITS):
                clock.now_s = 7.5
        clock.now_s = 8.5
    clock.now_s = 20.0
    with timer.measure(Part.CAPTURES):
        clock.now_s = 21.0

    assert timer.take() == {Part.STEPS: 3.0, Part.CAPTURES: 5.0, Part.WAITS: 0.5}
    assert timer.take() == {}


def test_a_part_that_ends_with_an_error_is_counted_and_closed() -> None:
    clock = Clock()
    timer = PartTimer(clock=clock)

    def fail() -> None:
        clock.now_s = 2.0
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), timer.measure(Part.STEPS):
        fail()
    clock.now_s = 9.0

    assert timer.take() == {Part.STEPS: 2.0}


def test_every_epoch_of_a_captured_training_has_its_parts() -> None:
    train_state = tiny_train_state(n_rows=19, epochs=3, early_stopping_patience=9, learning_rate=1e-3)
    capture(train_state)

    with train_state.progress.train:
        train(train_state, save=lambda: None)

    progress = train_state.progress
    first, second, last = progress.epoch_parts_s
    assert set(first) - {Part.BEST_WEIGHTS} == {Part.CAPTURES, Part.STEPS, Part.WAITS, Part.EVALUATION, Part.SCORES}
    assert Part.CAPTURES not in second
    assert Part.CAPTURES not in last
    assert sum(sum(epoch.values()) for epoch in progress.epoch_parts_s) <= progress.train.here_s


def test_the_best_weights_and_checkpoints_are_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xautolm_hpc.train.loop.CHECKPOINT_INTERVAL_S", -1.0)
    train_state = tiny_train_state(n_rows=19, epochs=2)

    train(train_state, save=lambda: None)

    first, last = train_state.progress.epoch_parts_s
    assert {Part.BEST_WEIGHTS, Part.CHECKPOINT} <= set(first)
    assert not {Part.BEST_WEIGHTS, Part.CHECKPOINT} & set(last)  # at the end they are in the model


def test_the_log_tells_the_parts_of_all_epochs() -> None:
    progress = Progress()
    progress.epoch_parts_s += [{Part.STEPS: 1.25, Part.CAPTURES: 0.5}, {Part.STEPS: 1.0}]

    summary = progress.train_summary()

    assert re.sub(r"^train: \S+ s", "train: … s", summary) == (
        "train: … s (captures 0.50 s, steps 2.25 s, waiting for the device 0.00 s, evaluation 0.00 s, scores 0.00 s, "
        "best weights 0.00 s, checkpoint 0.00 s)\n"
    )
