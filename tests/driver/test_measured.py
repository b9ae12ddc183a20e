"""Objectives and budgets that nothing measures are refused before they cost anything, or end a search that shows it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.driving import SEARCH, Notes, end_attempt, make_setup, write_search
from tests.fakes import SYSTEM, FakeLauncher, stub_end
from xautolm_hpc.config import ClusterProfile
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.driver.measured import Unmeasured, check_measured, unmeasured_by_profile, unmeasured_on
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.errors import ConfigError
from xautolm_hpc.jobdir import PROFILE_RESULT, End
from xautolm_hpc.store import ExperienceStore
from xautolm_hpc.view import FinishKind, RunFacts

WITH_ENERGY = SEARCH.replace('["f1"]', '["f1", "gpu_energy_j"]')
NO_GPU = Unmeasured(gpu="no GPU", gpu_energy="no GPU", remedy="ask for one")


def budget(**limits: float) -> str:
    """Write a search file with another budget."""
    return SEARCH.replace("generations = 3", "\n".join(f"{name} = {limit}" for name, limit in limits.items()))


@pytest.mark.parametrize("name", ["gpu_energy_j", "peak_gpu_memory_bytes"])
def test_an_objective_of_gpus_is_refused_where_jobs_have_none(tmp_path: Path, name: str) -> None:
    search = write_search(tmp_path, text=SEARCH.replace('["f1"]', f'["f1", "{name}"]'))

    with pytest.raises(ConfigError, match="no trial can measure") as refused:
        check_measured(search, NO_GPU)

    assert str(refused.value) == (
        f"search.objectives = ['f1', '{name}']: no trial can measure '{name}': no GPU. Take it out (valid here: f1, "
        "evaluation_time_s), or ask for one"
    )


@pytest.mark.parametrize(
    ("limits", "unmeasured"),
    [
        ({"gpu_h": 2.0}, NO_GPU),
        ({"energy_kwh": 2.0}, Unmeasured(energy="no counter")),
        ({"energy_kwh": 2.0, "gpu_h": 2.0}, replace(NO_GPU, energy="no counter")),
    ],
)
def test_a_budget_that_would_never_end_the_search_is_refused(
    tmp_path: Path, limits: dict[str, float], unmeasured: Unmeasured
) -> None:
    search = write_search(tmp_path, text=budget(**limits))

    with pytest.raises(ConfigError, match=r"so nothing would end the search\. Set another limit") as refused:
        check_measured(search, unmeasured)

    assert all(f"budget.{name} = 2 is never reached" in str(refused.value) for name in limits)


def test_beside_another_limit_it_is_a_warning(tmp_path: Path) -> None:
    search = write_search(tmp_path, text=budget(energy_kwh=2.0, gpu_h=1.5, trials=9))

    lines = check_measured(search, replace(NO_GPU, energy="no counter"))

    assert lines == [
        "budget.gpu_h = 1.5 is never reached: no GPU",
        "budget.energy_kwh = 2 is never reached: no counter",
    ]
    assert check_measured(search, Unmeasured()) == []


def profile(**sections: Any) -> ClusterProfile:
    """Build a cluster profile."""
    return ClusterProfile.model_validate({"worker_python": "/python", **sections})


@pytest.mark.parametrize(
    ("given", "has_gpus"),
    [
        (profile(), False),
        (profile(job={"n_gpus": 1}), True),
        (profile(launcher="slurm"), False),
        (profile(launcher="slurm", job={"n_gpus": 2}), True),
        (profile(launcher="slurm", slurm={"gres": "gpu:a100:1"}), True),
        (profile(launcher="slurm", slurm={"options": {"gpus-per-node": 1}}), True),
        (profile(launcher="slurm", slurm={"options": {"gpu-bind": "none"}, "gres": "shard:1"}), True),
        (profile(launcher="slurm", slurm={"gres": "scratch:10"}), False),
    ],
)
def test_a_profile_tells_whether_its_jobs_have_gpus(given: ClusterProfile, has_gpus: bool) -> None:
    found = unmeasured_by_profile(given, environ={"CUDA_VISIBLE_DEVICES": ""})

    assert (found.gpu is None) is has_gpus
    if given.launcher == "slurm":  # what its nodes count is not known here
        assert found.energy is None
        assert (found.gpu_energy is None) is has_gpus


def test_without_a_gpu_to_look_at_a_local_search_cannot_measure_its_energy() -> None:
    found = unmeasured_by_profile(profile(job={"n_gpus": 1}), environ={"CUDA_VISIBLE_DEVICES": ""})

    assert found.gpu_energy == "NVML counts no energy of a GPU on this machine"


def test_the_measured_node_tells_whether_it_has_gpus() -> None:
    assert unmeasured_on(replace(SYSTEM, n_gpus=0)).gpu is not None
    assert unmeasured_on(replace(SYSTEM, n_gpus=1)) == unmeasured_on(replace(SYSTEM, n_gpus=None))


def run(folder: Path, text: str, *, trial_end: Callable[[Path], End | None], n_gpus: int = 1) -> tuple[RunFacts, Notes]:
    """Run a search whose profile job finds so many GPUs."""

    def end_of(path: Path) -> End | None:
        end = end_attempt(path, trial_end=trial_end)
        if (path / PROFILE_RESULT).exists():
            result = read_json(path / PROFILE_RESULT)
            result["system"]["n_gpus"] = n_gpus
            write_json(path / PROFILE_RESULT, result)
        return end

    setup = make_setup(folder, text=text, launcher=FakeLauncher(end_of))
    assert isinstance(setup.watcher, Notes)
    return run_search(setup), setup.watcher


def measured(path: Path, *, gpu_energy_j: float | None = None, cpu_energy_j: float | None = None) -> End:
    """End a trial as the stub does, with energy."""
    end = stub_end(path)
    return replace(end, outcome=replace(end.outcome, gpu_energy_j=gpu_energy_j, cpu_energy_j=cpu_energy_j))


def test_a_node_without_gpus_is_found_out_before_the_first_trial(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no trial can measure 'gpu_energy_j': the node"):
        run(tmp_path, WITH_ENERGY, trial_end=stub_end, n_gpus=0)

    assert not list((tmp_path / "runs" / "fake").glob("gen-*"))


def test_a_generation_without_the_objective_ends_the_search_and_its_records_are_kept(tmp_path: Path) -> None:
    facts, _ = run(tmp_path, WITH_ENERGY, trial_end=stub_end)

    assert facts.finish.kind is FinishKind.STOPPED
    assert "succeeded measured gpu_energy_j (energy was read from: none (none))" in facts.finish.text
    assert len(ExperienceStore(tmp_path / "store").read()) == 4


def test_where_some_trials_have_the_objective_the_search_goes_on(tmp_path: Path) -> None:
    def every_fourth(path: Path) -> End | None:
        is_measured = int(path.parent.name.removeprefix("trial-")) % 4 == 0
        return measured(path, gpu_energy_j=50.0 if is_measured else None)

    facts, _ = run(tmp_path, WITH_ENERGY, trial_end=every_fourth)

    assert facts.finish.kind is FinishKind.BUDGET_USED


@pytest.mark.parametrize(("limits", "kind"), [({}, FinishKind.STOPPED), ({"trials": 8}, FinishKind.BUDGET_USED)])
def test_an_energy_budget_that_nothing_counts_ends_the_search_or_warns(
    tmp_path: Path, limits: dict[str, float], kind: FinishKind
) -> None:
    facts, notes = run(tmp_path, budget(energy_kwh=2.0, **limits), trial_end=stub_end)

    text = "budget.energy_kwh = 2 is never reached: no energy was measured in any of the"
    assert facts.finish.kind is kind
    assert (text in facts.finish.text) is (kind is FinishKind.STOPPED)
    assert any(text in line for line in notes.lines)
    assert len([line for line in notes.lines if line.startswith(f"{text} 4")]) <= 1


def test_another_limit_lets_the_same_command_go_on(tmp_path: Path) -> None:
    run(tmp_path, budget(energy_kwh=2.0), trial_end=stub_end)

    facts, _ = run(tmp_path, budget(energy_kwh=2.0, trials=8), trial_end=stub_end)

    assert facts.finish.kind is FinishKind.BUDGET_USED
    assert len(ExperienceStore(tmp_path / "store").read()) == 8


def test_energy_that_is_counted_ends_the_search_as_before(tmp_path: Path) -> None:
    facts, notes = run(tmp_path, budget(energy_kwh=0.001), trial_end=lambda path: measured(path, cpu_energy_j=1000.0))

    assert facts.finish.kind is FinishKind.BUDGET_USED
    assert not [line for line in notes.lines if "never reached" in line]


def test_a_run_that_began_under_an_earlier_version_goes_on_all_the_same_with_a_warning(tmp_path: Path) -> None:
    setup = make_setup(tmp_path, text=WITH_ENERGY)
    begun = read_json(setup.run_dir.run_path)
    write_json(setup.run_dir.run_path, {key: value for key, value in begun.items() if key != "stops_unmeasured"})

    facts, notes = run(tmp_path, WITH_ENERGY, trial_end=stub_end)

    assert facts.finish.kind is FinishKind.BUDGET_USED
    warned = [line for line in notes.lines if line.startswith("it goes on all the same, but none of the ")]
    assert any("succeeded measured gpu_energy_j" in line for line in warned)
