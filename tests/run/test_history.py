"""The history of a run, replayed from a ledger written by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.nouns import SYSTEM, end, failed, pipeline, plan, succeeded, system
from xautolm_hpc.durable import write_json
from xautolm_hpc.errors import InputError
from xautolm_hpc.jobdir import OUTCOME, VERDICT, End, TrialPlan
from xautolm_hpc.launcher import Resources
from xautolm_hpc.records import to_json
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.history import History

SECOND_PLAN = plan(pipeline(method="head", epochs=1), seed=8)
GPU_NODE = system(n_gpus=2)


def line(event: str, at: float, *, lease: int = 1, **fields: Any) -> dict[str, Any]:
    """Write a ledger line."""
    return {"event": event, "at": at, "lease": lease, **fields}


def drawn(plans: list[TrialPlan], *, generation: int = 0, at: float = 100.0, **fields: Any) -> dict[str, Any]:
    """Write the line of a draw."""
    written = json.loads(json.dumps(to_json(plans)))
    given = {"generation": generation, "plans": written, "refusals": {}, "exhausted": False}
    return line("drawn", at, **{**given, **fields})


def write_end(history: History, trial: int, attempt: int, *, ended: End, name: str = OUTCOME) -> dict[str, Any]:
    """Write how an attempt ended, and give its line."""
    path = history.attempt(trial, attempt).path
    path.mkdir(parents=True, exist_ok=True)
    write_json(path / name, to_json(ended))
    source = "outcome" if name == OUTCOME else "verdict"
    return line("end", 150.0, trial=trial, attempt=attempt, source=source)


@pytest.fixture
def history(tmp_path: Path) -> History:
    """Give a run whose first generation of two trials was drawn."""
    history = History(RunDir(tmp_path))
    history.apply(drawn([plan(), SECOND_PLAN], refusals={"memory": 3, "duplicate": 1}))
    return history


def test_a_drawn_generation_has_the_trials_of_its_ledger_line(history: History) -> None:
    trials = history.generation(0)

    assert [trial.number for trial in trials] == [0, 1]
    assert [trial.plan for trial in trials] == [plan(), SECOND_PLAN]
    assert trials[1].last.path == history.run_dir.path / "gen-000" / "trial-001" / "attempt-0"
    assert (trials[1].last.end, trials[1].last.submission) == (None, None)
    assert history.n_generations() == 1
    assert not history.exhausted


def test_trials_are_numbered_through_the_run_and_known_by_generation(history: History) -> None:
    history.apply(drawn([plan()], generation=1))

    assert [trial.number for trial in history.generation(1)] == [2]
    assert history.n_generations() == 2


def test_rejections_add_up_by_constraint(history: History) -> None:
    first = {"memory": "9 GiB of 4", "time": "90 s of 60"}
    later = {"memory": "8 GiB of 4"}
    history.apply(drawn([], generation=1, refusals={"memory": 4, "time": 2}, refusal_reasons=first, exhausted=True))
    history.apply(drawn([], generation=2, refusals={"memory": 1}, refusal_reasons=later, exhausted=True))

    assert history.rejections == {"memory": 8, "duplicate": 1, "time": 2}
    assert history.reasons == first
    assert history.exhausted


def test_a_submission_is_known_with_its_attempts_and_job_ids(history: History) -> None:
    intent = line("intent", 110.0, name="xa-1", attempts=[[0, 0], [1, 0]])

    history.apply(intent)
    history.apply(line("submitted", 112.0, name="xa-1", jobs={"0/0": "77_0", "1/0": "77_1"}))

    assert history.submissions == {"xa-1": intent}
    attempts = [trial.last for trial in history.generation(0)]
    assert [(a.submission, a.job_id, a.submitted_at) for a in attempts] == [
        ("xa-1", "77_0", 112.0),
        ("xa-1", "77_1", 112.0),
    ]


def old_intent(name: str, generation: int, attempts: list[list[int]]) -> dict[str, Any]:
    """Write an intent as the first versions did: it names neither its folder nor those of its attempts."""
    resources = to_json(Resources(n_gpus=1))
    fields = {"generation": generation, "attempts": attempts, "resources": resources, "max_parallel": None}
    return line("intent", 110.0, name=name, **fields)


@pytest.mark.parametrize(
    ("intent", "folder", "members"),
    [
        (old_intent("xa-1f-profile-0", -1, []), "profile/submission-attempt-0", ["profile/attempt-0"]),
        (old_intent("xa-1f-final-0", -1, []), "final/submission-attempt-0", ["final/attempt-0"]),
        (old_intent("xa-1f-final-12", -1, []), "final/submission-attempt-12", ["final/attempt-12"]),
        (
            old_intent("xa-1f-g0-s2", 0, [[0, 0], [1, 0]]),
            "gen-000/submission-2",
            ["gen-000/trial-000/attempt-0", "gen-000/trial-001/attempt-0"],
        ),
    ],
)
def test_an_intent_of_the_first_versions_is_found_by_its_name(
    history: History, intent: dict[str, Any], folder: str, members: list[str]
) -> None:
    history.apply(intent)

    submission = history.submission(intent["name"])

    run_dir = history.run_dir.path
    assert submission.folder == run_dir / folder
    assert list(submission.attempt_dirs) == [run_dir / member for member in members]
    assert submission.resources.n_gpus == 1


def test_a_second_attempt_appears_with_its_intent(history: History) -> None:
    history.apply(write_end(history, 0, 0, ended=end(failed("node_failure")), name=VERDICT))

    history.apply(line("intent", 160.0, name="xa-2", attempts=[[0, 1]]))

    trial = history.trials[0]
    assert [attempt.number for attempt in trial.attempts] == [0, 1]
    assert trial.last.path == history.run_dir.path / "gen-000" / "trial-000" / "attempt-1"
    assert trial.last.submission == "xa-2"
    assert trial.last.end is None


def test_an_end_is_read_from_the_file_that_counts(history: History) -> None:
    write_end(history, 0, 0, ended=end(succeeded(0.9)))

    history.apply(write_end(history, 0, 0, ended=end(failed("lost")), name=VERDICT))

    last = history.trials[0].last
    assert last.end is not None
    assert (last.end.outcome.kind, last.source) == ("lost", "verdict")


def test_ends_stand_in_the_order_they_came_each_once(history: History) -> None:
    for trial in (1, 0):
        history.apply(write_end(history, trial, 0, ended=end(succeeded())))

    assert history.ends == [(1, 0), (0, 0)]


def test_a_late_outcome_replaces_a_verdict_without_being_an_end_of_its_own(history: History) -> None:
    history.apply(write_end(history, 0, 0, ended=end(failed("lost")), name=VERDICT))
    late = write_end(history, 0, 0, ended=end(succeeded(0.8)))

    history.apply({**late, "event": "late"})

    last = history.trials[0].last
    assert last.end is not None
    assert (last.end.outcome.status, last.source) == ("succeeded", "outcome")
    assert history.ends == [(0, 0)]


def test_commits_and_the_stop_are_remembered(history: History) -> None:
    assert (history.committed, history.stopped, history.suspects) == ([], None, set())

    history.apply(line("commit", 200.0, generation=0))
    history.apply(line("stop", 210.0, reason="stopped: alike", suspects=[1, 0]))

    assert (history.committed, history.stopped, history.suspects) == ([0], "stopped: alike", {0, 1})


def test_what_was_spent_is_added_up_over_attempts_and_drivers(history: History) -> None:
    # Lease 1 worked from 100 to 150, lease 2 from 400 to 430; the third works since 1000.
    gpu_end = end(failed("gpu_oom", gpu_energy_j=50.0), system=GPU_NODE, started_at=100.0, ended_at=130.0)
    history.apply(write_end(history, 0, 0, ended=gpu_end))
    history.apply(line("commit", 400.0, lease=2, generation=0))
    cpu_end = end(succeeded(cpu_energy_j=7.0), system=SYSTEM, started_at=400.0, ended_at=410.0)
    history.apply({**write_end(history, 1, 0, ended=cpu_end), "lease": 2, "at": 430.0})
    history.apply(line("finish", 1000.0, lease=3))

    spent = history.spent(1005.0, 3)

    assert spent.wall_s == (150.0 - 100.0) + (430.0 - 400.0) + (1005.0 - 1000.0)
    assert spent.trial_s == 30.0 + 10.0
    assert spent.gpu_s == 30.0 * 2
    assert spent.energy_j == 57.0
    assert (spent.n_generations, spent.n_trials) == (1, 2)


def test_an_attempt_that_never_started_costs_nothing_and_unknown_energy_is_not_zero(history: History) -> None:
    lost = end(failed("launch_failure"), system=None, started_at=None)
    history.apply(write_end(history, 0, 0, ended=lost, name=VERDICT))

    spent = history.spent(5000.0, 9)

    assert (spent.trial_s, spent.gpu_s, spent.energy_j, spent.n_trials) == (0.0, 0.0, None, 1)
    assert spent.wall_s == 50.0


def test_a_new_run_has_spent_nothing(tmp_path: Path) -> None:
    spent = History(RunDir(tmp_path)).spent(5.0, 1)

    assert (spent.n_generations, spent.n_trials, spent.wall_s, spent.energy_j) == (0, 0, 0.0, None)
    assert History(RunDir(tmp_path)).n_generations() == 0


def test_a_damaged_plan_in_the_ledger_is_refused_with_its_trial(history: History) -> None:
    line = drawn([plan()], generation=1)
    line["plans"][0]["seed"] = "7"

    with pytest.raises(InputError, match=r"^`.*ledger.jsonl`: trial 2: seed: expected int, found '7'$"):
        history.apply(line)
