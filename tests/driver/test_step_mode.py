"""How steps are computed: written to the plan of each trial, and unknown to runs begun before."""

from pathlib import Path
from typing import Any

import pytest

from tests.driver.test_least_steps import TEXT
from tests.driving import end_attempt, ledger_of, make_setup, search_in
from tests.fakes import FakeLauncher
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.errors import RunFolderError


def _planned(folder: Path) -> set[str]:
    drawn: list[Any] = [line["plans"] for line in ledger_of(folder) if line["event"] == "drawn"]
    plans = [plan for of_generation in drawn for plan in of_generation]
    return {plan.get("step", "eager") for plan in plans}


@pytest.mark.parametrize("step", ["eager", "graph"])
def test_a_search_plans_steps_as_its_file_says(tmp_path: Path, step: str) -> None:
    search_in(tmp_path, text=f"{TEXT}\n[trial]\nstep = '{step}'\n", launcher=FakeLauncher(end_attempt))

    assert _planned(tmp_path) == {step}


def test_a_run_begun_before_goes_on_eagerly(tmp_path: Path) -> None:
    search_in(tmp_path, text=f"{TEXT}\n[trial]\nstep = 'eager'\n", launcher=FakeLauncher(end_attempt))
    path = tmp_path / "runs" / "fake" / "run.json"
    begun = read_json(path)
    del begun["search"]["trial"]["step"]
    del begun["written"]["trial"]
    write_json(path, begun)

    search_in(
        tmp_path,
        text=TEXT.replace("generations = 1", "generations = 2"),
        launcher=FakeLauncher(end_attempt),
    )

    assert _planned(tmp_path) == {"eager"}
    with pytest.raises(RunFolderError, match=r"trial\.step = 'eager'; the search file now says 'graph'"):
        make_setup(tmp_path, text=f"{TEXT}\n[trial]\nstep = 'graph'\n")
