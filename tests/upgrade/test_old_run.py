"""Runs and stores that commit 082bfba wrote are read, resumed and added to."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.driving import ledger_of, search_in
from tests.upgrade.old_run import OLD, RECORDED_PATH, SEARCHES, launcher, rows_of, unpack
from xautolm_hpc import cli
from xautolm_hpc.durable import read_json
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.inspect import inspect_run
from xautolm_hpc.store import ExperienceStore

NAMES = sorted(SEARCHES)
STORES = {"past": 28, "store": 23, "chosen-store": 23}
"""Store -> experiences in it: of every attempt of the generations that were committed."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of the searches with the frozen runs in it."""
    unpack(tmp_path)
    return tmp_path


def test_a_search_from_the_beginning_draws_what_it_drew_then(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    anew = tmp_path_factory.mktemp("anew")
    (folder / "past").rename(anew / "past")

    # The least steps of the preset are newer than what was drawn then.
    search_in(anew, text=OLD.replace("[trial]", "[constraints]\nmin_steps = 0\n[trial]"), launcher=launcher())

    assert rows_of(anew, "old") == read_json(RECORDED_PATH)["old"]


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_equals_an_uninterrupted_one(folder: Path, name: str) -> None:
    search_in(folder, text=SEARCHES[name], launcher=launcher())

    assert rows_of(folder, name) == read_json(RECORDED_PATH)[name]
    assert ledger_of(folder, name)[-1]["event"] == "commit"
    assert not [line for line in ledger_of(folder, name) if line["event"] == "changed"]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_had_been_submitted_is_submitted_again(folder: Path, name: str) -> None:
    run_path, resumed = folder / "runs" / name, launcher()
    outcomes = {path: path.read_bytes() for path in run_path.rglob("outcome.json")}

    search_in(folder, text=SEARCHES[name], launcher=resumed)

    assert {path: path.read_bytes() for path in outcomes} == outcomes
    attempts = [str(path.relative_to(run_path)) for s in resumed.submissions for path in s.attempt_dirs]
    assert [path for path in attempts if "gen-003" not in path] == ["gen-002/trial-026/attempt-1"]
    ends = [(line["trial"], line["attempt"]) for line in ledger_of(folder, name) if line["event"] == "end"]
    retried = (2, 8, 14, 20, 26, 32, 38)
    assert sorted(ends) == sorted([*((trial, 0) for trial in range(40)), *((trial, 1) for trial in retried)])


@pytest.mark.parametrize("name", NAMES)
def test_a_snapshot_shows_committed_ended_and_running_trials(folder: Path, name: str) -> None:
    run_dir = RunDir(folder / "runs" / name)

    snapshot = inspect_run(run_dir, slurm=None, stale_s=120.0)

    assert snapshot.holder is None
    assert snapshot.history.committed == [0, 1]
    assert snapshot.history.ends[-4:] == [(20, 0), (21, 0), (22, 0), (23, 0)]
    assert len(snapshot.history.trials) == 30
    assert {trial.number for trial in snapshot.history.trials.values() if trial.last.end is None} == {27, 28, 29}
    running = [run_dir.attempt_dir(2, trial, attempt=0) for trial in (27, 28, 29)]
    assert {path: state.state for path, state in snapshot.states.items()} == dict.fromkeys(running, "RUNNING")


def test_status_and_report_show_the_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--runs-dir", str(folder / "runs"), "--json", "old"]

    assert cli.main(["status", *arguments]) == 0
    status = json.loads(capsys.readouterr().out)
    assert cli.main(["report", *arguments]) == 0
    report = json.loads(capsys.readouterr().out)

    where = {key: status[key] for key in ("name", "phase", "generation", "n_generations")}
    assert where == {"name": "old", "phase": "generation", "generation": 2, "n_generations": 4}
    assert status["note"].startswith("no driver")
    assert report["run"]["finish"] == "the search goes on"
    assert report == read_json(folder / "runs" / "old" / "report" / "report.json")


@pytest.mark.parametrize(("name", "n"), STORES.items())
def test_a_store_is_read_verified_and_added_to(folder: Path, name: str, n: int) -> None:
    store = ExperienceStore(folder / name)
    assert store.verify() == []
    stored = store.read()
    assert len(stored) == n

    known = replace(stored[0], provenance=replace(stored[0].provenance, node="fake-2"))
    new = replace(stored[0], provenance=replace(stored[0].provenance, trial=999))
    appended = store.append([known, new])

    assert appended.n_new == 1
    assert sorted(e.id for e in ExperienceStore(folder / name).read()) == sorted([*(e.id for e in stored), new.id])
    assert store.verify() == []
