"""Files of an attempt that hold something odd make that attempt lost, and nothing else: it is tried again."""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.driver.test_least_steps import TEXT
from tests.driving import Notes, end_attempt, ledger_of, make_setup, projection, search_in
from tests.fakes import FakeLauncher
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.jobdir import OUTCOME
from xautolm_hpc.launcher import JobStatus
from xautolm_hpc.records import Experience
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.history import read_history
from xautolm_hpc.store import ExperienceStore

TRIAL = "trial-001"
TWO = TEXT.replace("generations = 1", "generations = 2")
N_BRACKETS = 200_000


def with_outcome(**fields: Any) -> Callable[[Path], None]:
    """Make what changes fields of the outcome in an outcome file; ``metrics`` are added to."""

    def change(path: Path) -> None:
        written = json.loads(path.read_text())
        metrics = {**written["outcome"]["metrics"], **fields.pop("metrics", {})}
        written["outcome"] = {**written["outcome"], "metrics": metrics, **fields}
        path.write_text(json.dumps(written))

    return change


def with_end(**fields: Any) -> Callable[[Path], None]:
    """Make what changes other fields of an outcome file."""

    def change(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return change


def with_text(text: str) -> Callable[[Path], None]:
    """Make what writes a text into an outcome file."""

    def change(path: Path) -> None:
        path.write_text(text)

    return change


def as_pipe(path: Path) -> None:
    """Put a pipe that nobody writes to in the place of an outcome file."""
    path.unlink()
    os.mkfifo(path)


ODD: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "brackets": (with_text("[" * N_BRACKETS), "is not valid JSON"),
    "deep": (with_text("[" * 500 + "]" * 500), "nested more than 64 deep"),
    "nan": (with_outcome(metrics={"f1": float("nan")}), "NaN is no number"),
    "five": (with_outcome(metrics={"f1": 5.0}), "metrics.f1 is 5.0; expected a number from 0 to 1"),
    "digits": (with_outcome(metrics={"f1": 10**400}), "metrics: f1: expected float"),
    "negative": (with_outcome(train_s=-5.0), "train_s is -5.0"),
    "word": (with_outcome(step="sideways"), "step is 'sideways'"),
    "late": (with_end(ended_at=1e300), "ended_at is 1e+300; expected seconds since 1970"),
    "restart": (with_end(restart=-1), "restart is -1"),
    "node": (with_end(node="n" * 5_000), "node is"),
    "pipe": (as_pipe, "is no regular file"),
}


class OddLauncher(FakeLauncher):
    """Changes the outcome of the first attempt of a trial as soon as it is there."""

    def __init__(self, change: Callable[[Path], None]) -> None:
        super().__init__(end_attempt)
        self.change = change
        self.changed: list[Path] = []

    def poll(self, attempt_dirs: Sequence[Path]) -> Mapping[Path, JobStatus]:
        """Let the jobs go on, then change the outcome."""
        states = super().poll(attempt_dirs)
        for path in attempt_dirs:
            is_meant = path.parent.name == TRIAL and path.name == "attempt-0" and path not in self.changed
            if is_meant and (path / OUTCOME).exists():
                self.change(path / OUTCOME)
                self.changed.append(path)
        return states


def forget_ends(ledger: Path) -> None:
    """Write a ledger as earlier versions did, whose ends are in the folders of the attempts alone."""
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    kept = [{key: value for key, value in line.items() if key != "end"} for line in lines]
    ledger.write_text("".join(json.dumps(line) + "\n" for line in kept))


def stored(folder: Path, trial: int) -> list[Experience]:
    """Read the experiences of a trial, by attempt."""
    found = [e for e in ExperienceStore(folder / "store").read() if e.provenance.trial == trial]
    return sorted(found, key=lambda e: e.provenance.attempt)


@pytest.mark.parametrize("name", ODD)
def test_an_odd_outcome_makes_its_attempt_lost_and_the_trial_is_tried_again(tmp_path: Path, name: str) -> None:
    change, reason = ODD[name]
    launcher = OddLauncher(change)

    search_in(tmp_path, text=TEXT, launcher=launcher)

    lost, again = stored(tmp_path, 1)
    assert len(launcher.changed) == 1
    assert (lost.outcome.kind, lost.outcome.origin) == ("lost", "infrastructure")
    assert lost.outcome.message is not None
    assert reason in lost.outcome.message
    assert "the outcome cannot be read" in lost.outcome.message
    assert again.outcome.kind != "lost"
    others = [e for e in ExperienceStore(tmp_path / "store").read() if e.provenance.trial != 1]
    assert all(e.outcome.kind != "lost" for e in others)
    search_in(tmp_path, text=TEXT, launcher=FakeLauncher(end_attempt))  # the end of a run can be looked at again


def test_what_the_ledger_says_needs_no_folder(tmp_path: Path) -> None:
    search_in(tmp_path, text=TEXT, launcher=FakeLauncher(end_attempt))
    before = {e.id for e in ExperienceStore(tmp_path / "store").read()}
    shutil.rmtree(tmp_path / "runs" / "fake" / "gen-000")
    history = read_history(RunDir(tmp_path / "runs" / "fake"))

    search_in(tmp_path, text=TWO, launcher=FakeLauncher(end_attempt))

    assert history.unread == {}  # the store was not needed either
    after = {e.id for e in ExperienceStore(tmp_path / "store").read()}
    assert before < after
    assert [line["generation"] for line in ledger_of(tmp_path) if line["event"] == "commit"] == [0, 1]


def test_an_end_of_an_earlier_version_whose_folder_is_gone_comes_from_the_store_or_is_lost(tmp_path: Path) -> None:
    search_in(tmp_path, text=TEXT, launcher=FakeLauncher(end_attempt))
    run = tmp_path / "runs" / "fake"
    forget_ends(run / "ledger.jsonl")
    before = {e.provenance.trial: e.outcome for e in ExperienceStore(tmp_path / "store").read()}
    shutil.rmtree(run / "gen-000")

    search_in(tmp_path, text=TWO, launcher=FakeLauncher(end_attempt))

    after = {e.provenance.trial: e.outcome for e in ExperienceStore(tmp_path / "store").read()}
    assert {trial: after[trial] for trial in before} == before
    assert len(after) == 2 * len(before)
    whole = tmp_path / "whole"
    whole.mkdir()
    search_in(whole, text=TWO, launcher=FakeLauncher(end_attempt))
    assert projection(tmp_path) == projection(whole)  # the second generation is drawn from the same ends


def test_an_end_that_neither_folder_nor_store_has_is_named_and_lost(tmp_path: Path) -> None:
    search_in(tmp_path, text=TEXT, launcher=FakeLauncher(end_attempt))
    run = tmp_path / "runs" / "fake"
    forget_ends(run / "ledger.jsonl")
    shutil.rmtree(run / "gen-000" / TRIAL)
    shutil.rmtree(tmp_path / "store")
    setup = make_setup(tmp_path, text=TWO, launcher=FakeLauncher(end_attempt))

    run_search(setup)

    assert isinstance(setup.watcher, Notes)
    named = [line for line in setup.watcher.lines if line.startswith("trial 1, attempt 0: ")]
    assert len(named) == 1
    assert "The store does not have it: it is lost" in named[0]
