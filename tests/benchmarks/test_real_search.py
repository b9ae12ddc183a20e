"""The searches for real: their files are the product's, their table is counted by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.real_search import main
from tests.priors.builders import TASK, a_failure, a_success, an_experience
from xautolm_hpc.driver.inputs import Inputs
from xautolm_hpc.store import ExperienceStore


def test_six_searches_are_written_that_know_the_other_tasks_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = replace(TASK, name="other", fingerprint="other")
    ExperienceStore(tmp_path / "store").append(
        [an_experience(a_success(), i, task=task) for i, task in enumerate((TASK, other, other))]
    )
    folder = tmp_path / "real"

    main(["write", str(tmp_path / "store"), str(folder), "--task", TASK.name, "--data", str(tmp_path)])

    assert [e.task.name for e in ExperienceStore(folder / "past").read()] == ["other", "other"]
    searches = [Inputs.load(path, (), environ={}).search for path in sorted(folder.glob("*-?.toml"))]
    assert [(s.prior.kind, s.search.seed) for s in searches] == [
        (kind, seed) for kind in ("evidence", "uniform") for seed in (1, 2, 3)
    ]
    assert capsys.readouterr().out.count("xautolm-hpc run") == 6


def test_the_table_counts_trials_seconds_and_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ends = [a_success(0.5, 10.0), a_failure("time_limit"), a_success(0.8, 20.0), a_success(0.79, 5.0)]
    for kind in ("uniform", "evidence"):
        for seed in (1, 2, 3):
            kept = ends[2:] if kind == "evidence" else ends[: 1 + seed]
            trials = [an_experience(outcome, i, run_id=f"{kind}-{seed}") for i, outcome in enumerate(kept)]
            ExperienceStore(tmp_path / f"store-{kind}-{seed}").append(trials)

    main(["table", str(tmp_path)])

    shown = capsys.readouterr().out
    assert "| uniform-1 | 2 | 1 | 0.500 | 0.500 | 0.500 | 0.500 | missed | 11 |" in shown
    assert "| uniform-2 | 3 | 1 | 0.800 | 0.800 | 0.800 | 0.600 | 3 | 31 |" in shown
    assert "| evidence-1 | 2 | 0 | 0.800 | 0.800 | 0.800 | 0.800 | 1 | 25 |" in shown
