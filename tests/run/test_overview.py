"""A run at one moment: what claims, heartbeats and ends on disk become on the screen."""

from pathlib import Path

import pytest

from tests.nouns import claim, end, failed, pipeline, succeeded, trial
from xautolm_hpc.durable import write_json
from xautolm_hpc.jobdir import OUTCOME, End, Heartbeat, claim_path, heartbeat_path
from xautolm_hpc.launcher import JobState, JobStatus
from xautolm_hpc.records import Outcome, to_json
from xautolm_hpc.run import attempt_end
from xautolm_hpc.run.attempt_end import find_end
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.history import History, Trial
from xautolm_hpc.run.overview import best_trial, ended_line, fill_view, view_trial
from xautolm_hpc.view import BestTrial, Phase, RunView, TrialEnd, TrialView

LORA = pipeline(method="lora")


def history_of(folder: Path, *trials: Trial) -> History:
    """Build a run of these trials."""
    return History(RunDir(folder), trials={trial.number: trial for trial in trials})


def seen(shown: Trial, job: JobStatus | None, *, now: float) -> TrialView:
    """Return the line about a trial of a run that goes on."""
    run_dir = RunDir(shown.last.path.parents[2])
    return view_trial(shown, job, history=History(run_dir, trials={shown.number: shown}), now=now)


def write_claim(path: Path, restart: int, *, claimed_at: float, node: str = "node-3") -> None:
    """Claim an attempt as its job does."""
    path.mkdir(parents=True, exist_ok=True)
    made = claim(job_id="77", node=node, restart=restart, claimed_at=claimed_at)
    write_json(claim_path(path, restart), to_json(made))


def test_a_running_trial_shows_node_time_and_steps(tmp_path: Path) -> None:
    running = trial(tmp_path, None, given=LORA)
    write_claim(running.last.path, 0, claimed_at=900.0)
    beat = Heartbeat(at=995.0, phase="train", step=12, n_steps=40)
    write_json(heartbeat_path(running.last.path, 0), to_json(beat))

    view = seen(running, JobStatus(state=JobState.RUNNING, reason="None"), now=1000.0)

    assert view == TrialView(
        trial=0, attempt=0, model="minilm-l2", method="lora", state=JobState.RUNNING, reason="None", node="node-3",
        elapsed_s=100.0, step=12, n_steps=40,
    )  # fmt: skip


def test_the_last_restart_is_the_one_that_is_shown(tmp_path: Path) -> None:
    running = trial(tmp_path, None)
    write_claim(running.last.path, 9, claimed_at=100.0, node="old")
    write_json(heartbeat_path(running.last.path, 9), to_json(Heartbeat(at=200.0, phase="train", step=99)))
    write_claim(running.last.path, 10, claimed_at=900.0, node="new")

    view = seen(running, JobStatus(state=JobState.RUNNING), now=1000.0)

    assert (view.node, view.elapsed_s, view.step) == ("new", 100.0, 0)


def test_a_trial_nobody_asked_about_yet_is_pending(tmp_path: Path) -> None:
    view = seen(trial(tmp_path, None), None, now=1000.0)

    assert (view.state, view.reason, view.node, view.elapsed_s) == ("PENDING", "", None, None)


def test_a_waiting_trial_shows_the_queues_reason(tmp_path: Path) -> None:
    waiting = trial(tmp_path, None)
    waiting.last.path.mkdir(parents=True)

    view = seen(waiting, JobStatus(state=JobState.PENDING, reason="QOSMaxJobsPerUserLimit"), now=1000.0)

    assert (view.state, view.reason, view.elapsed_s) == ("PENDING", "QOSMaxJobsPerUserLimit", None)


@pytest.mark.parametrize("content", ["", '{"at": 1', '{"at": "x", "phase": "train"}'])
def test_a_heartbeat_that_is_being_replaced_does_not_disturb(tmp_path: Path, content: str) -> None:
    running = trial(tmp_path, None)
    write_claim(running.last.path, 0, claimed_at=900.0)
    heartbeat_path(running.last.path, 0).write_text(content)

    view = seen(running, JobStatus(state=JobState.RUNNING), now=1000.0)

    assert (view.node, view.elapsed_s, view.step, view.n_steps) == ("node-3", 100.0, 0, 0)


@pytest.mark.parametrize(
    ("outcome", "state", "reason", "f1"),
    [(succeeded(0.75), TrialEnd.SUCCEEDED, "", 0.75), (failed("gpu_oom"), TrialEnd.FAILED, "gpu_oom", None)],
)
def test_an_ended_trial_shows_what_came_of_it(
    tmp_path: Path, outcome: Outcome, state: TrialEnd, reason: str, f1: float | None
) -> None:
    ended = trial(tmp_path, failed("lost"), outcome, number=5)

    view = seen(ended, JobStatus(state=JobState.COMPLETED), now=9999.0)

    assert view == TrialView(
        trial=5, attempt=1, model="minilm-l2", method="full", state=state, reason=reason, node="node-1",
        elapsed_s=60.0, f1=f1,
    )  # fmt: skip


def test_an_attempt_that_never_started_has_no_length(tmp_path: Path) -> None:
    ended = trial(tmp_path, failed("launch_failure"))
    ended.last.end = end(failed("launch_failure"), started_at=None)

    assert seen(ended, None, now=9999.0).elapsed_s is None


def test_a_view_is_filled_with_the_present_generation_and_counts_the_whole_run(tmp_path: Path) -> None:
    old = [trial(tmp_path, succeeded(0.4), number=0), trial(tmp_path, failed("error"), number=1)]
    new = [trial(tmp_path, succeeded(0.6), number=2), trial(tmp_path, None, number=3)]
    for present in new:
        present.generation = 1
    states = {new[1].last.path: JobStatus(state=JobState.RUNNING)}

    view = fill_view(
        RunView(name="one", phase=Phase.GENERATION, generation=1, objectives=("f1",)),
        history_of(tmp_path, *old, *new),
        states=states,
        now=1.0,
    )

    assert [(t.trial, t.state) for t in view.trials] == [(2, "SUCCEEDED"), (3, "RUNNING")]
    assert (view.n_succeeded, view.n_failed) == (2, 1)
    assert view.best == BestTrial(trial=2, model="minilm-l2", method="full", f1=0.6, objective="f1", value=0.6)
    assert (view.name, view.phase) == ("one", "generation")


def test_the_file_of_an_end_that_the_ledger_lacks_is_read_once_for_a_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = trial(tmp_path, None)
    shown.last.submission = "gen-000"
    shown.last.path.mkdir(parents=True, exist_ok=True)
    write_json(shown.last.path / OUTCOME, to_json(end(succeeded(0.6))))
    read: list[Path] = []

    def count(path: Path) -> End | None:
        read.append(path)
        return find_end(path)

    monkeypatch.setattr(attempt_end, "find_end", count)

    view = fill_view(
        RunView(name="one", phase=Phase.GENERATION, objectives=("f1",)),
        history_of(tmp_path, shown),
        states={},
        now=1.0,
    )

    assert (view.n_succeeded, view.best is not None, view.trials[0].state) == (1, True, "SUCCEEDED")
    assert read == [shown.last.path]


def test_attempts_that_were_just_polled_are_not_read_again_for_a_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, running = trial(tmp_path, None, number=0), trial(tmp_path, None, number=1)
    for shown in (ended, running):
        shown.last.submission = "gen-000"
    read: list[Path] = []
    monkeypatch.setattr(attempt_end, "find_end", read.append)

    view = fill_view(
        RunView(name="one", phase=Phase.GENERATION, objectives=("f1",)),
        history_of(tmp_path, ended, running),
        states={running.last.path: JobStatus(state=JobState.RUNNING)},
        now=1.0,
        polled={ended.last.path: end(succeeded(0.6)), running.last.path: None},
    )

    assert [shown.state for shown in view.trials] == ["SUCCEEDED", "RUNNING"]
    assert view.n_succeeded == 1
    assert read == []


def test_the_best_trial_is_the_first_of_those_with_the_highest_f1(tmp_path: Path) -> None:
    trials = [
        trial(tmp_path, succeeded(0.5), number=0),
        trial(tmp_path, succeeded(0.8), number=1, given=LORA),
        trial(tmp_path, succeeded(0.8), number=2),
        trial(tmp_path, failed("error", metrics={"f1": 0.9}), number=3),
        trial(tmp_path, succeeded(None), number=4),
        trial(tmp_path, None, number=5),
    ]

    assert best_trial(history_of(tmp_path, *trials), ["f1"]) == BestTrial(
        trial=1, model="minilm-l2", method="lora", f1=0.8, objective="f1", value=0.8
    )


def test_without_a_success_there_is_no_best_trial(tmp_path: Path) -> None:
    assert best_trial(history_of(tmp_path, trial(tmp_path, failed("error"))), ["f1"]) is None


@pytest.mark.parametrize(
    ("outcomes", "line"),
    [
        ([succeeded(0.81234, evaluation_time_s=12.34)], "trial 7 minilm-l2 lora: f1 0.812 in 12.3 s"),
        ([succeeded(0.5)], "trial 7 minilm-l2 lora: f1 0.500"),
        ([failed("gpu_oom", "Traceback\n  here\nCUDA out of memory\n")],
         "trial 7 minilm-l2 lora: gpu_oom (pipeline): CUDA out of memory"),
        ([failed("lost"), failed("node_failure")],
         "trial 7 (attempt 1) minilm-l2 lora: node_failure (infrastructure)"),
        ([failed("error", " \n ")], "trial 7 minilm-l2 lora: error (pipeline)"),
    ],
)  # fmt: skip
def test_an_end_is_told_in_one_line(tmp_path: Path, outcomes: list[Outcome], line: str) -> None:
    ended = trial(tmp_path, *outcomes, number=7, given=LORA)
    assert ended.last.end is not None

    assert ended_line(ended, ended.last.end) == line
