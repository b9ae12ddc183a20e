"""The estimates hold against real trials wherever those are at hand."""

from pathlib import Path

from benchmarks.estimates import judge, measured, read_trials


def test_the_estimates_agree_with_how_the_published_trials_ended(shared_dir: Path) -> None:
    trials = read_trials(shared_dir / "peer-records" / "trials.jsonl")

    goals = [*judge(trials), *judge(trials, time_calibration=measured(trials))]

    assert [trial.label for trial in trials].count("memory") == 69
    assert [goal.name for goal in goals if not goal.is_met] == []
    assert sum(goal.limit is not None for goal in goals) == 8
