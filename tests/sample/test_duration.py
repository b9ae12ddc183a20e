"""Estimates of time against hand-computed values, and their correction by past trials."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.priors.builders import SPACE, SYSTEM, TASK, a_model, a_pipeline, a_success, an_experience
from xautolm_hpc.execution import StepMode
from xautolm_hpc.failures import FailureOrigin, OutcomeStatus
from xautolm_hpc.records import BUSY_TIME_SCOPE, Experience, Value
from xautolm_hpc.sample.duration import (
    TimeKnowledge,
    measure_time_calibration,
    recalibrate_time,
    seconds_needed,
    throughput_flops_per_s,
)
from xautolm_hpc.sample.memory_need import StepFacts
from xautolm_hpc.table import build_table

# 12 h^2 a block are 76.8 M weights; attention adds 4 x 10 tokens x 800 x 10 blocks operations.
MODEL = a_model()
FORWARD = 2 * 76.8e6 + 0.32e6
ON_CPU = replace(SYSTEM, n_gpus=0, gpu_name=None, gpu_memory_bytes=None, gpu_capability=None)


@pytest.mark.parametrize(
    ("method", "params", "backward"),
    [
        ("full", {}, 2 * FORWARD),
        ("partial", {"n_trainable_blocks": 5}, FORWARD),
        ("lora", {}, 2 * 76.8e6 + 0.64e6),
        ("head", {}, 0),
    ],
)
def test_a_step_takes_the_passes_through_the_weights(method: str, params: dict[str, Value], backward: float) -> None:
    pipeline = a_pipeline(method=method, params={**params, "epochs": 2, "batch_size": 8})

    seconds = seconds_needed(pipeline, MODEL, task=TASK, system=ON_CPU)

    # 2 x 1,000 rows trained, 2 x 200 and 300 evaluated, 10 tokens each, on 8 cores.
    assert seconds == pytest.approx(10 * (2000 * (FORWARD + backward) + 700 * FORWARD) / 8e11)


def test_a_small_batch_waits_for_its_kernels_to_start() -> None:
    pipeline = a_pipeline(params={"epochs": 1, "batch_size": 2})

    seconds = seconds_needed(pipeline, MODEL, task=TASK, system=SYSTEM)

    # 500 steps of 10 blocks forward and twice that backward; 250 forward ones in evaluation.
    assert seconds == pytest.approx(500 * 10 * 3e-4 + 250 * 10 * 1e-4)


def test_training_may_stop_early() -> None:
    def seconds(may_stop: bool = True, **params: Value) -> float:
        pipeline = a_pipeline(params={"batch_size": 8, **params})
        return seconds_needed(pipeline, MODEL, task=TASK, system=ON_CPU, may_stop=may_stop)

    assert seconds(epochs=10, early_stopping_patience=3) == seconds(epochs=4, early_stopping_patience=9)
    assert seconds(epochs=10) == seconds(epochs=3)
    assert seconds(epochs=10, may_stop=False) == seconds(epochs=10, early_stopping_patience=9)


def test_throughput_comes_from_the_hardware() -> None:
    assert throughput_flops_per_s(SYSTEM, is_half=True) == pytest.approx(362e12 * 0.35)
    assert throughput_flops_per_s(SYSTEM, is_half=False) == pytest.approx(91e12 * 0.6)
    assert throughput_flops_per_s(replace(SYSTEM, n_gpus=4), is_half=True) == pytest.approx(4 * 362e12 * 0.35)
    assert throughput_flops_per_s(ON_CPU, is_half=True) == pytest.approx(8e11)
    assert throughput_flops_per_s(replace(SYSTEM, gpu_capability=99.0), is_half=True) is None
    assert throughput_flops_per_s(replace(ON_CPU, n_cpu_cores=None), is_half=True) is None


def _took(factors: Sequence[float], **changes: Any) -> list[Experience]:
    """Build trials that took so many times as long as estimated."""
    experiences = []
    for trial, factor in enumerate(factors):
        pipeline = a_pipeline(params={"batch_size": 8, "epochs": 1 + trial, "optimizer": "adamw"})
        estimate_s = seconds_needed(pipeline, MODEL, task=TASK, system=ON_CPU, may_stop=False)
        outcome = replace(a_success(time_s=factor * estimate_s), **{"epochs_done": 1.0 + trial, **changes})
        experiences.append(an_experience(outcome, trial, pipeline=pipeline, system=ON_CPU))
    return experiences


def test_past_trials_on_such_a_node_calibrate_its_time() -> None:
    table = build_table(_took([1, 2, 3, 4, 5, 6, 7, 8, 9]))

    assert measure_time_calibration(table, SPACE, system=ON_CPU) == pytest.approx(5.0)
    assert measure_time_calibration(table, SPACE, system=replace(ON_CPU, n_cpu_cores=4)) is None
    assert measure_time_calibration(table, SPACE, system=SYSTEM) is None


def test_few_trials_or_times_of_another_scope_do_not_calibrate() -> None:
    assert measure_time_calibration(build_table(_took([3] * 7)), SPACE, system=ON_CPU) is None
    for scope in ("whole", BUSY_TIME_SCOPE):
        assert measure_time_calibration(build_table(_took([3] * 9, time_scope=scope)), SPACE, system=ON_CPU) is None


def test_trials_whose_time_ended_took_at_least_as_long() -> None:
    cut = {"status": OutcomeStatus.FAILED, "kind": "time_limit", "origin": FailureOrigin.PIPELINE}
    left = {"status": OutcomeStatus.STOPPED}
    ended = _took([1, 2, 3, 4, 5, 6, 7, 8, 9])
    for changes in (cut, left):
        known = [*ended[:8], *_took([1, 1, 1, 1, 1, 1, 1, 1, 8.5], **changes)[8:]]

        assert measure_time_calibration(build_table(known), SPACE, system=ON_CPU) == pytest.approx(5.0)


def test_only_ended_trials_beyond_a_cut_one_tell_of_its_time() -> None:
    # At ratio 2 nine of ten are left, at 3 one is cut; of the eight left at 4 and on, half are over after 7.
    cut = {"status": OutcomeStatus.STOPPED}
    known = [*_took([2, 9, 4, 5, 6, 7, 8, 9, 9.5]), *_took([1] * 9 + [3], **cut)[9:]]

    assert measure_time_calibration(build_table(known), SPACE, system=ON_CPU) == pytest.approx(7.0)


def test_where_the_epochs_are_unknown_they_are_between_the_least_and_all() -> None:
    table = build_table(_took([1] * 9, epochs_done=None))  # epochs 1 to 9, of which early stopping needs 3

    found = measure_time_calibration(table, SPACE, system=ON_CPU)

    assert found is not None
    assert 1.0 < found < 3.0


def test_captured_trials_do_not_calibrate_eager_ones() -> None:
    table = build_table(_took([3] * 9, step="graph"))
    captured = TimeKnowledge(system=ON_CPU, measured=StepFacts(step=StepMode.GRAPH))

    assert measure_time_calibration(table, SPACE, system=ON_CPU) is None
    assert measure_time_calibration(table, SPACE, system=ON_CPU, knowledge=captured) == pytest.approx(3.0)
    eager = build_table(_took([3] * 9, step="eager"))
    assert measure_time_calibration(eager, SPACE, system=ON_CPU) == pytest.approx(3.0)


def _recalibrated(first: float, factors: Sequence[float], **changes: Any) -> float:
    results = [(e.pipeline, e.outcome) for e in _took(factors, **changes)]
    return recalibrate_time(first, results, space=SPACE, task=TASK, knowledge=TimeKnowledge(system=ON_CPU))


def test_the_trials_of_a_search_correct_what_it_began_with() -> None:
    # The calibration it began with counts for three trials, nine of its own for nine.
    assert _recalibrated(1.0, [1, 2, 3, 4, 5, 6, 7, 8, 9]) == pytest.approx(5 ** (9 / 12))
    assert _recalibrated(2.0, [5] * 9) == pytest.approx(2 ** (3 / 12) * 5 ** (9 / 12))
    assert _recalibrated(2.0, [5] * 9, truncated=True) == pytest.approx(2 ** (3 / 12) * 5 ** (9 / 12))


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs_done": None},
        {"step": "graph"},
        {"time_scope": BUSY_TIME_SCOPE},
        {"status": OutcomeStatus.FAILED, "kind": "gpu_oom", "origin": FailureOrigin.PIPELINE},
        {"status": OutcomeStatus.FAILED, "kind": "time_limit", "origin": FailureOrigin.PIPELINE},  # a bound alone
    ],
)
def test_trials_of_unknown_duration_correct_nothing(changes: dict[str, Any]) -> None:
    assert _recalibrated(2.0, [5] * 9, **changes) == 2.0
