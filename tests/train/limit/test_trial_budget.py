"""What a trial's time limit says: nothing about the pipeline if others used the cores meanwhile."""

from collections.abc import Callable

import pytest

from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.limit.foreign_load import CpuReading, LoadMeter
from xautolm_hpc.train.limit.trial_budget import Decision, Progress, TrialBudget
from xautolm_hpc.train.stop import StopFlag


def delayed_by(*delays_s: float) -> LoadMeter:
    """Build a meter that finds the trial delayed so much more at each look; a look is 1,000 s after the last one."""
    lost_s, readings = 0.0, [CpuReading(at_s=0.0, run_s={}, wait_s={}, busy_s=0.0)]
    for number, delay_s in enumerate(delays_s, start=1):
        lost_s += delay_s
        run_s = 1000.0 * number - lost_s
        readings.append(
            CpuReading(at_s=1000.0 * number, run_s={(1, 1): run_s}, wait_s={(1, 1): lost_s}, busy_s=1000.0 * number)
        )
    given = iter(readings)
    load = LoadMeter(read=lambda: next(given), n_allotted=1)
    load.delay_s()
    return load


def used_up(load: LoadMeter | None, *, delay_before_s: float = 0.0) -> TrialBudget:
    """Build the budget of a trial that trained for 1,000 s in an earlier restart, longer than it may."""
    progress = Progress(step=8, n_steps=9, phase="train")
    progress.train.before_s = 1000.0
    return TrialBudget(progress, StopFlag(), time_limit_s=900.0, load=load, delay_before_s=delay_before_s)


@pytest.mark.parametrize(
    ("budget", "kind"),
    [
        (lambda: used_up(None), "time_limit"),
        (lambda: used_up(delayed_by(99.0)), "time_limit"),
        (lambda: used_up(delayed_by(101.0)), "node_busy"),
        (lambda: used_up(delayed_by(60.0), delay_before_s=50.0), "node_busy"),
    ],
)
def test_a_time_limit_under_the_load_of_others_is_node_busy(budget: Callable[[], TrialBudget], kind: str) -> None:
    with pytest.raises(TrialError, match="the budget of 900 s for training and evaluation was used up") as caught:
        budget().check()

    assert caught.value.kind == kind
    assert ("kept the trial from running" in str(caught.value)) is (kind == "node_busy")


def test_an_evaluation_that_a_restart_cut_off_is_not_held_against_the_next_one() -> None:
    progress = Progress(step=8, n_steps=9, phase="eval")
    progress.train.before_s, progress.eval.before_s = 890.0, 20.0

    assert TrialBudget(progress, StopFlag(), time_limit_s=900.0).check() is Decision.CONTINUE


def test_what_others_took_while_the_trial_was_loading_is_no_part_of_its_budget() -> None:
    budget = used_up(delayed_by(500.0, 20.0))
    budget.begin()

    with pytest.raises(TrialError, match=r"in phase train$") as caught:
        budget.check()

    assert caught.value.kind == "time_limit"


def test_one_rank_on_a_busy_node_delays_all() -> None:
    budget = used_up(delayed_by(0.0))
    answers = iter([1, 1])  # the ranks agree that time is up, and that one of them was delayed
    budget.agree = lambda own: max(own, next(answers))

    with pytest.raises(TrialError, match="kept the trial from running") as caught:
        budget.check()

    assert caught.value.kind == "node_busy"
