"""What a trial does at its limit: by the search's prior, as its file says, and unknown to runs begun before."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.driver.test_least_steps import TEXT
from tests.driving import TASK, Notes, end_attempt, ledger_of, make_setup, search_in
from tests.fakes import FakeLauncher, end_with
from tests.nouns import SYSTEM, failed, succeeded
from xautolm_hpc.driver.evaluation import EXAMPLE, run_evaluation
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.driver.proposal import SearchProposer, read_stores
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.errors import RunFolderError
from xautolm_hpc.jobdir import ProfileResult
from xautolm_hpc.records import Outcome, Pipeline
from xautolm_hpc.run.history import KnownEnd
from xautolm_hpc.store import ExperienceStore
from xautolm_hpc.view import TrialEnd


def _plans(folder: Path) -> list[Any]:
    drawn: list[Any] = [line["plans"] for line in ledger_of(folder) if line["event"] == "drawn"]
    return [plan for of_generation in drawn for plan in of_generation]


def _planned(folder: Path) -> set[tuple[str, str]]:
    return {(plan.get("at_limit", "fail"), plan.get("foretell", "off")) for plan in _plans(folder)}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", ("evaluate", "obey")),
        ("[prior]\nkind = 'evidence'\n", ("evidence", "obey")),
        ("[prior]\nkind = 'xautolm'\n", ("fail", "off")),
        ("[prior]\nkind = 'knn'\n", ("fail", "off")),
        ("[trial]\nat_limit = 'fail'\nforetell = 'log'\n", ("fail", "log")),
        ("[prior]\nkind = 'xautolm'\n[trial]\nat_limit = 'evaluate'\n", ("evaluate", "off")),
    ],
)
def test_trials_are_evaluated_at_their_limit_unless_the_prior_has_to_stay_as_published(
    tmp_path: Path, written: str, expected: tuple[str, str]
) -> None:
    search_in(tmp_path, text=f"{TEXT}\n{written}", launcher=FakeLauncher(end_attempt))

    assert _planned(tmp_path) == {("evaluate" if expected[0] == "evidence" else expected[0], expected[1])}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (
            "[prior]\nkind = 'evidence'\n",
            {"trial.early_stopping_min_steps": 100, "trial.at_limit": "evaluate", "trial.foretell": "obey"},
        ),
        ("[prior]\nkind = 'xautolm'\n", {"trial.early_stopping_min_steps": 100}),
        ("[prior]\nkind = 'xautolm'\n[trial]\nearly_stopping_min_steps = 0\nforetell = 'log'\n", {}),
        (
            "[prior]\nkind = 'knn'\n[trial]\nat_limit = 'evaluate'\nearly_stopping_min_steps = 0\n",
            {"trial.at_limit": "evaluate"},
        ),
    ],
)
def test_a_run_keeps_what_it_adds_to_the_published_method(
    tmp_path: Path, written: str, expected: dict[str, Any]
) -> None:
    text = TEXT.replace("[space]", "[constraints]\nmin_steps = 0\n[space]", 1)
    search_in(tmp_path, text=f"{text}\n{written}", launcher=FakeLauncher(end_attempt))

    prior: Any = read_json(next(tmp_path.rglob("priors.json")))

    assert prior["additions"] == expected


def test_least_steps_and_the_packaged_store_are_additions_too(tmp_path: Path) -> None:
    text = TEXT.replace("[store]\n", '[store]\nalso_read = ["package:seed"]\n', 1)
    search_in(tmp_path, text=f"{text}\n[constraints]\nmin_steps = 3\n", launcher=FakeLauncher(end_attempt))

    prior: Any = read_json(next(tmp_path.rglob("priors.json")))

    assert (prior["additions"]["constraints.min_steps"], prior["additions"]["store.also_read"]) == (3, "package:seed")


@pytest.mark.parametrize(
    ("written", "expected"), [("", ("fail", "off")), ("at_limit = 'evaluate'", ("evaluate", "off"))]
)
def test_a_list_of_pipelines_fails_at_its_limit_unless_it_is_written(
    tmp_path: Path, written: str, expected: tuple[str, str]
) -> None:
    setup = make_setup(tmp_path, text=f"{TEXT}\n[trial]\n{written}\n", launcher=FakeLauncher(end_attempt))
    pipelines = tmp_path / "list.jsonl"
    pipelines.write_text(EXAMPLE.replace("minilm-l2", setup.space.models[0].id))

    run_evaluation(setup, pipelines)

    assert _planned(tmp_path) == {expected}


def test_a_run_begun_before_fails_at_its_limit_and_foretells_nothing(tmp_path: Path) -> None:
    fails = f"{TEXT}\n[trial]\nat_limit = 'fail'\nforetell = 'off'\n"
    search_in(tmp_path, text=fails, launcher=FakeLauncher(end_attempt))
    path = tmp_path / "runs" / "fake" / "run.json"
    begun = read_json(path)
    del begun["search"]["trial"]["at_limit"], begun["search"]["trial"]["foretell"], begun["written"]["trial"]
    write_json(path, begun)

    search_in(tmp_path, text=TEXT.replace("generations = 1", "generations = 2"), launcher=FakeLauncher(end_attempt))

    assert _planned(tmp_path) == {("fail", "off")}
    with pytest.raises(RunFolderError, match=r"trial\.at_limit = 'fail'; the search file now says 'evaluate'"):
        make_setup(tmp_path, text=f"{TEXT}\n[trial]\nat_limit = 'evaluate'\n")


def _proposer(folder: Path, foretell: str, *, time_limit_min: float = 1.0) -> SearchProposer:
    text = f"{TEXT}\n[trial]\nforetell = '{foretell}'\ntime_limit_min = {time_limit_min}\nstep = 'eager'\n"
    setup = make_setup(folder, text=text.replace("population = 4", "population = 20"))
    profile = ProfileResult(task=TASK, system=SYSTEM, sha256={}, from_cache=False, majority_f1=None)
    return SearchProposer(setup, profile, past=read_stores(setup))


def _slow(proposer: SearchProposer, *, factor: float) -> list[KnownEnd]:
    """End a first generation, each trial after so many times the seconds that were estimated."""
    ends = []
    for number, plan in enumerate(proposer.propose([], []).plans):
        took_s = factor * proposer.foresee(plan).seconds
        done = float(plan.pipeline.params["epochs"])
        outcome = succeeded(0.5, evaluation_time_s=took_s, epochs_done=done, step="eager")
        ends.append(KnownEnd(trial=number, generation=0, pipeline=plan.pipeline, outcome=outcome))
    return ends


@pytest.mark.parametrize(("foretell", "is_filtered"), [("obey", True), ("log", False), ("off", False)])
def test_a_trial_whose_duration_is_forecast_to_exceed_its_budget_is_drawn_again(
    tmp_path: Path, foretell: str, is_filtered: bool
) -> None:
    proposer = _proposer(tmp_path, foretell)
    factor = 60.0 / max(proposer.foresee(plan).least_s for plan in proposer.propose([], []).plans)
    known = _slow(proposer, factor=20 * factor)  # shrunk towards the 1 that it began with

    found = proposer.propose([end.pipeline for end in known], known)

    assert len(found.plans) == 20
    assert (found.rejections.get("time", 0) > 0) is is_filtered
    again = proposer.propose([end.pipeline for end in known], known)
    assert again.plans == found.plans


@pytest.mark.parametrize(("at_limit", "n_learnt"), [("evaluate", 2), ("fail", 3)])
def test_an_evaluation_that_outran_its_reserve_teaches_a_search_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_limit: str, n_learnt: int
) -> None:
    setup = make_setup(tmp_path, text=f"{TEXT}\n[trial]\nat_limit = '{at_limit}'\n")
    profile = ProfileResult(task=TASK, system=SYSTEM, sha256={}, from_cache=False, majority_f1=None)
    proposer = SearchProposer(setup, profile, past=read_stores(setup))
    pipelines = [plan.pipeline for plan in proposer.propose([], []).plans][:3]
    outcomes = [succeeded(0.5), failed("time_limit"), failed("time_limit", eval_s=12.0)]
    known = [
        KnownEnd(trial=number, generation=0, pipeline=pipeline, outcome=outcome)
        for number, (pipeline, outcome) in enumerate(zip(pipelines, outcomes, strict=True))
    ]
    learnt: list[Outcome] = []

    class Learner:
        def after(self, results: Sequence[tuple[Pipeline, Outcome]]) -> None:
            learnt.extend(outcome for _, outcome in results)

    monkeypatch.setattr(proposer, "ranking", Learner())

    proposer.propose(pipelines, known)

    assert learnt == outcomes[:n_learnt]


def test_a_forecast_alone_does_not_exhaust_a_space(tmp_path: Path) -> None:
    proposer = _proposer(tmp_path, "obey")
    known = _slow(proposer, factor=1e12)

    found = proposer.propose([end.pipeline for end in known], known)

    assert (len(found.plans), found.is_exhausted) == (20, False)


def test_a_truncated_trial_is_marked_from_the_log_to_the_store(tmp_path: Path) -> None:
    cut = succeeded(0.5, truncated=True, evaluation_time_s=44.0, epochs_done=0.5, step="eager")
    launcher = FakeLauncher(partial(end_attempt, trial_end=lambda _: end_with(cut)))
    setup = make_setup(tmp_path, text=TEXT, launcher=launcher)

    facts = run_search(setup)

    assert isinstance(setup.watcher, Notes)
    assert [line for line in setup.watcher.lines if line.endswith(": f1 0.500 in 44.0 s, truncated")]
    views = [trial for view in setup.watcher.views for trial in view.trials if trial.state == TrialEnd.SUCCEEDED]
    assert {view.reason for view in views} == {"truncated"}
    assert {e.outcome.truncated for e in facts.experiences} == {True}
    stored = ExperienceStore(tmp_path / "store").read()
    assert {(e.outcome.truncated, e.outcome.epochs_done) for e in stored} == {(True, 0.5)}
