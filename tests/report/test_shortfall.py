"""Why no trial is above the majority baseline, told from made results."""

from dataclasses import replace
from typing import Any

import pytest

from tests.report.facts import facts, failure, success
from xautolm_hpc.records import Experience
from xautolm_hpc.report.sections import report_sections
from xautolm_hpc.report.shortfall import shortfall_text
from xautolm_hpc.report.summary import summarise

MAJORITY = 0.2


def _trial(number: int, *, f1: float = MAJORITY, n_run: int = 2, n_steps: int = 20, **params: Any) -> Experience:
    """Build a success with an evaluation after each epoch it ran."""
    given = {"learning_rate": 2e-5, "epochs": 4, "warmup_ratio": 0.1, **params}
    curve = tuple((epoch + 1.0, 0.7, 0.7, MAJORITY) for epoch in range(n_run))
    return success(number, f1=f1, n_steps=n_steps, curve=curve, params=given)


def _overview(trials: list[Experience], **fields: Any) -> dict[str, str]:
    return dict(report_sections(summarise(facts(trials, **fields)))[0].facts)


def test_steps_epochs_early_stopping_and_rates_are_told_where_no_trial_is_above() -> None:
    trials = [
        _trial(0),  # 40 steps planned, 4 of them warm-up: 16 after it
        _trial(1, n_run=4, n_steps=12, epochs=4, warmup_steps=12),
        _trial(2, n_run=1, n_steps=5, epochs=9, warmup_ratio=0.0, learning_rate=1e-3),
        failure(3, "gpu_oom"),
    ]

    summary = summarise(facts(trials))

    assert summary["shortfall"] == {
        "trials": 3,
        "stopped_early": 2,
        "truncated": 0,
        "steps": [0, 5, 16],
        "epochs_run": [1, 2, 4],
        "epochs_drawn": [4, 4, 9],
        "learning_rate": [2e-5, 2e-5, 1e-3],
        "cut_short": None,
        "causes": ["few-steps", "stopped-early"],
    }
    assert shortfall_text(summary["shortfall"]) == (
        "No trial is above the majority baseline: of 3 trials that succeeded, early stopping ended 2 before all epochs "
        "drawn; optimiser steps after the warm-up: 0 to 16, median 5; epochs run: 1 to 4, median 2; epochs drawn: 4 to "
        "9, median 4; learning rates: 2e-05 to 0.001, median 2e-05. Few steps: raise constraints.min_steps, or write "
        "smaller batches or more epochs in [space.params]. Early stopping: raise trial.early_stopping_min_steps, or "
        "early_stopping_patience in [space.params]."
    )
    assert _overview(trials)["Why"] == shortfall_text(summary["shortfall"])


def test_many_steps_without_a_gain_point_to_rates_models_and_labels() -> None:
    trials = [_trial(number, n_run=4, n_steps=400) for number in range(2)]

    assert summarise(facts(trials))["shortfall"]["causes"] == ["not-learnt"]
    assert _overview(trials)["Why"] == (
        "No trial is above the majority baseline: of 2 trials that succeeded, none was stopped early; optimiser steps "
        "after the warm-up: 360; epochs run: 4; epochs drawn: 4; learning rates: 2e-05. The steps were many: write "
        "higher learning rates in [space.params], try other models, and check that the labels follow from the texts."
    )


@pytest.mark.parametrize("kind", ["time_limit", "node_busy"])
def test_a_failed_trial_that_was_above_the_baseline_when_its_time_ended_points_to_time(kind: str) -> None:
    low, high = ((1.0, 0.7, 0.7, f1, 9.0) for f1 in (0.3, 0.49))
    trials = [
        _trial(0, n_run=4, n_steps=400),
        failure(1, kind, curve=(low, high)),
        failure(1, "gpu_oom", attempt=1),
        failure(2, kind, curve=(low,)),
        failure(3, "diverged", curve=((1.0, 0.7, 0.7, 0.9, 9.0),)),
    ]

    found = summarise(facts(trials))["shortfall"]

    assert (found["cut_short"], found["causes"]) == ({"trial": 1, "f1": 0.49}, ["cut-short"])
    assert shortfall_text(found).endswith(
        "Trial 1 was at F1 0.4900 on dev when its time ended. Time: raise trial.time_limit_min; on your own machine, "
        "or run fewer trials at a time ([local] n_slots = 1)."
    )


def test_where_most_trials_failed_that_is_told_first() -> None:
    trials = [_trial(0, n_run=4, n_steps=400), failure(1, "node_busy"), failure(2, "lost")]
    gone = [trials[0], *(failure(number, "cancelled") for number in (1, 2))]

    found = summarise(facts(trials))["shortfall"]

    assert found["causes"] == ["failed"]
    assert "The steps were many" not in shortfall_text(found)
    assert summarise(facts(gone))["shortfall"]["causes"] == ["not-learnt"]


def test_trials_that_ran_out_of_time_were_not_stopped_early() -> None:
    trial = _trial(0, n_run=1, n_steps=15)
    cut = replace(trial, outcome=replace(trial.outcome, truncated=True, schedule_share=0.375))  # 40 steps planned

    found = summarise(facts([cut]))["shortfall"]

    assert (found["stopped_early"], found["truncated"], found["steps"]) == (0, 1, [11, 11, 11])
    assert found["causes"] == ["few-steps", "truncated"]
    shown = shortfall_text(found)
    assert "of 1 trial that succeeded, none was stopped early, 1 was truncated;" in shown
    assert shown.endswith("Time: raise trial.time_limit_min, or write fewer epochs in [space.params].")


@pytest.mark.parametrize(
    ("trials", "majority_f1"),
    [
        ([_trial(0), _trial(1, f1=0.3)], MAJORITY),
        ([_trial(0)], None),
        ([failure(0, "gpu_oom")], MAJORITY),
        ([], MAJORITY),
    ],
)
def test_nothing_is_told_where_one_is_above_or_nothing_can_be_compared(
    trials: list[Experience], majority_f1: float | None
) -> None:
    assert summarise(facts(trials, majority_f1=majority_f1))["shortfall"] is None
    assert "Why" not in _overview(trials, majority_f1=majority_f1)


def test_a_trial_that_is_best_in_time_alone_hides_none_that_is_above() -> None:
    trials = [_trial(0), _trial(1, f1=0.3)]

    assert summarise(facts(trials, objectives=("evaluation_time_s", "f1")))["shortfall"] is None


def test_what_is_shown_as_no_difference_is_not_above() -> None:
    assert summarise(facts([_trial(0, f1=MAJORITY + 4e-5)]))["shortfall"] is not None
    assert summarise(facts([_trial(0, f1=MAJORITY + 6e-5)]))["shortfall"] is None


def test_records_without_a_curve_leave_steps_and_epochs_out() -> None:
    shortfall = summarise(facts([success(0, f1=MAJORITY)]))["shortfall"]

    assert (shortfall["steps"], shortfall["epochs_run"], shortfall["stopped_early"]) == (None, None, 0)
    assert "epochs run" not in shortfall_text(shortfall)


def test_tables_of_trials_say_how_many_epochs_ran_of_those_drawn() -> None:
    trials = [_trial(0, f1=0.6), success(1, f1=0.5, evaluation_time_s=1.0)]

    table = report_sections(summarise(facts(trials)))[1].table

    assert table is not None
    assert table.columns[-1] == "Epochs run"
    assert [row[-1] for row in table.rows] == ["2 of 4", "–"]
