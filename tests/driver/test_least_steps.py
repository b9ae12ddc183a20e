"""Which least numbers of steps a search, an evaluation and a run begun before go by."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.driving import SEARCH, TASK, end_attempt, ledger_of, make_setup, search_in
from tests.fakes import FakeLauncher
from tests.nouns import SYSTEM
from xautolm_hpc.driver.evaluation import run_evaluation
from xautolm_hpc.driver.proposal import SearchProposer, read_stores
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.errors import RunFolderError
from xautolm_hpc.jobdir import ProfileResult
from xautolm_hpc.sample import EnoughSteps

LINE = {
    "model": "minilm-l1",
    "method": "head",
    "params": {"learning_rate": 1e-3, "batch_size": 64, "max_length": 32, "epochs": 1},
}
TEXT = SEARCH.replace("generations = 3", "generations = 1")


def _drawn(folder: Path) -> list[dict[str, Any]]:
    plans: list[Any] = [line["plans"] for line in ledger_of(folder) if line["event"] == "drawn"]
    return [plan for generation in plans for plan in generation]


def _launcher() -> FakeLauncher:
    return FakeLauncher(end_attempt)


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ("", {100}),
        ("[space]\npreset = 'xautolm'\nparams.full = { warmup_steps = [0], batch_size = [4] }", {None}),
        ("[trial]\nearly_stopping_min_steps = 7", {7}),
        ("[trial]\nearly_stopping_min_steps = 0", {None}),
    ],
)
def test_a_search_plans_its_trials_with_the_least_steps_of_preset_or_file(
    tmp_path: Path, added: str, expected: set[int | None]
) -> None:
    text = (
        TEXT.replace("[space]", added, 1).replace(', "head"]', "]")
        if added.startswith("[space]")
        else f"{TEXT}\n{added}\n"
    )

    search_in(tmp_path, text=text, launcher=_launcher())

    assert {plan.get("early_stopping_min_steps") for plan in _drawn(tmp_path)} == expected


def test_a_search_draws_nothing_below_the_least_steps_that_are_written(tmp_path: Path) -> None:
    facts = search_in(tmp_path, text=f"{TEXT}\n[constraints]\nmin_steps = 400\n", launcher=_launcher())

    assert facts.rejections["steps"] > 0
    assert "constraints.min_steps = 400" in facts.reasons["steps"]


def test_an_evaluation_trains_a_list_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text(json.dumps(LINE) + "\n")

    run_evaluation(make_setup(tmp_path, text=TEXT, launcher=_launcher()), path)

    assert [plan.get("early_stopping_min_steps") for plan in _drawn(tmp_path)] == [None]


def test_a_run_begun_before_goes_on_with_the_old_rules(tmp_path: Path) -> None:
    search_in(tmp_path, text=TEXT, launcher=_launcher())
    path = tmp_path / "runs" / "fake" / "run.json"
    begun = read_json(path)
    del begun["search"]["constraints"], begun["search"]["trial"]["early_stopping_min_steps"]
    del begun["space"]["min_steps"], begun["space"]["early_stopping_min_steps"]
    write_json(path, begun)

    search_in(tmp_path, text=TEXT.replace("generations = 1", "generations = 2"), launcher=_launcher())

    n_first = sum(plan.get("early_stopping_min_steps") == 100 for plan in _drawn(tmp_path))
    assert [plan.get("early_stopping_min_steps") for plan in _drawn(tmp_path)[n_first:]] == [None] * n_first
    with pytest.raises(RunFolderError, match=r"constraints\.min_steps = 0; the search file now says 16"):
        make_setup(tmp_path, text=f"{TEXT}\n[constraints]\nmin_steps = 16\n")


def test_the_presets_least_steps_are_one_where_the_data_has_too_few_rows_for_them(tmp_path: Path) -> None:
    setup = make_setup(tmp_path, text=TEXT)
    few, many = (_profile(n_train=n) for n in (8, 4_000))

    least = [_least_steps(SearchProposer(setup, profile, past=read_stores(setup))) for profile in (few, many)]

    assert least == [1, 16]


def _profile(*, n_train: int) -> ProfileResult:
    task = replace(TASK, n_train=n_train)
    return ProfileResult(task=task, system=SYSTEM, sha256={}, from_cache=False, majority_f1=None)


def _least_steps(proposer: SearchProposer) -> int:
    return next(c.min_steps for c in proposer.constraints if isinstance(c, EnoughSteps))
