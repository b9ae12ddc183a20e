"""What several trials in a job save, as `plan` says it."""

import pytest

from xautolm_hpc.driver.start_up import StartUp, plan_start_up, start_up_notes


def notes(
    n: int, *trials_s: float, start_s: float | None = 8.0, is_calibrated: bool = True, population: int = 100
) -> list[str]:
    """Return what is said of trials of some length."""
    start_up = plan_start_up(trials_s, trials_per_job=n, start_s=start_s, is_calibrated=is_calibrated)
    return start_up_notes(start_up, has_one_process=True, population=population, n_parallel=4)


def test_the_share_that_is_saved_is_that_of_the_starts_left_out() -> None:
    start_up = StartUp(start_s=10.0, is_measured=True, trial_s=30.0, is_calibrated=True, trials_per_job=1)

    assert start_up.saved_share(1) == 0
    assert start_up.saved_share(5) == pytest.approx(4 * 10 / (5 * 40))


def test_ten_trials_a_job_are_proposed_where_they_save_a_fifth() -> None:
    assert notes(1, 5.0, 15.0) == [
        "job.trials_per_job = 10 in the cluster profile would save 40% of the time of jobs: "
        "a worker starts for 8.0 s (by doctor --job), a trial takes about 10.0 s"
    ]
    assert notes(1, 28.0) == [
        "job.trials_per_job = 10 in the cluster profile would save 20% of the time of jobs: "
        "a worker starts for 8.0 s (by doctor --job), a trial takes about 28.0 s"
    ]
    assert notes(1, 29.0) == []


def test_what_is_set_is_told_with_what_it_saves() -> None:
    (line,) = notes(10, 10.0, start_s=None, is_calibrated=False)

    assert line == (
        "job.trials_per_job = 10 saves up to 40% of the time of jobs: a worker starts for 8.0 s (not measured here: "
        "doctor --job does), a trial takes at least 10.0 s"
    )


def test_more_trials_a_job_are_proposed_beside_few_where_they_save_a_fifth_again() -> None:
    first, second = notes(2, 1.0, start_s=20.0)

    assert first.startswith("job.trials_per_job = 2 saves 48% of the time of jobs")
    assert second.startswith("job.trials_per_job = 10 in the cluster profile would save 73% of the time of jobs")


def test_nothing_is_said_where_durations_are_unknown_or_trials_cannot_share_a_job() -> None:
    assert notes(1, 0.0, 5.0) == []
    assert notes(1) == []
    start_up = plan_start_up([1.0], trials_per_job=1, start_s=8.0, is_calibrated=True)
    assert start_up_notes(start_up, has_one_process=False, population=100, n_parallel=4) == []


def test_no_more_trials_a_job_are_proposed_than_a_generation_has_for_each_slot() -> None:
    (line,) = notes(1, 2.0, population=10)

    assert line.startswith("job.trials_per_job = 3 in the cluster profile would save 53% of the time of jobs")
    assert notes(1, 2.0, population=4) == [], "every trial has a slot of its own"
    assert len(notes(3, 2.0, population=10)) == 1, "what is set is as much as helps"
