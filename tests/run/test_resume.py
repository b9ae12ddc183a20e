"""Going on with a run: the same identity, and which settings may be different."""

import re
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeClock
from tests.nouns import end, failed
from xautolm_hpc import __version__
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.errors import RunFolderError
from xautolm_hpc.records import to_json
from xautolm_hpc.run import resume
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.lease import Lease
from xautolm_hpc.run.ledger import Ledger
from xautolm_hpc.run.resume import (
    RunConfig,
    changed_keys,
    effective_config,
    may_change,
    open_run,
    store_config,
)
from xautolm_hpc.run.run_file import began_at

SEARCH: dict[str, Any] = {
    "name": "one",
    "profile": None,
    "search": {"population": 20, "seed": 0, "objectives": ["f1"]},
    "trial": {
        "time_limit_min": 60.0, "max_attempts": 3, "early_stopping_min_steps": None, "step": "graph", "at_limit": None,
        "foretell": None,
    },
    "constraints": {"min_steps": None},
    "budget": {"generations": 3, "trials": None},
}  # fmt: skip


def changed(section: str, **values: Any) -> dict[str, Any]:
    """Give the search with other values in one section."""
    return {**SEARCH, section: {**SEARCH[section], **values}}


def config_of(search: dict[str, Any] = SEARCH, *, written: dict[str, Any] | None = None) -> RunConfig:
    """Build a configuration; by default the user wrote every key."""
    return RunConfig(search=search, written=search if written is None else written, space={"models": ["m"]})


def begin(folder: Path, search: dict[str, Any] = SEARCH, *, text: str = "name = 'one'\n") -> tuple[str, list[str]]:
    """Open a run in a folder as the command does, every key of the search written."""
    return begin_with(folder, config_of(search), text=text)


def begin_with(folder: Path, config: RunConfig, *, text: str = "name = 'one'\n") -> tuple[str, list[str]]:
    """Open a run in a folder with a configuration."""
    source = folder / "written.toml"
    source.write_text(text)
    run_dir = RunDir(folder / "run")
    run_dir.create()
    return open_run(run_dir, config, source=source, clock=FakeClock(0.0), lease_stale_s=60.0)


def draw_a_trial(folder: Path) -> None:
    """Let the run's ledger say that its search is under way."""
    Ledger(folder / "run" / "ledger.jsonl", 1).append(
        "drawn", 0.0, generation=0, plans=[], refusals={}, exhausted=False
    )


def test_a_new_run_keeps_its_settings_and_the_file_as_written(tmp_path: Path) -> None:
    run_id, changes = begin(tmp_path, text="name = 'one'  # mine\n")

    assert read_json(tmp_path / "run" / "run.json") == {
        "run_id": run_id,
        "created_at": "1970-01-01T00:00:00.000+00:00",
        "package_version": __version__,
        "stops_unmeasured": True,
        "path": str(tmp_path / "run"),
        "search": SEARCH,
        "written": SEARCH,
        "space": {"models": ["m"]},
    }
    assert (tmp_path / "run" / "search.toml").read_text() == "name = 'one'  # mine\n"
    assert changes == []
    assert uuid.UUID(run_id).version == 4


def test_the_same_settings_go_on_with_the_same_run(tmp_path: Path) -> None:
    run_id, _ = begin(tmp_path)

    assert begin(tmp_path) == (run_id, [])


def test_two_runs_have_two_ids(tmp_path: Path) -> None:
    ids = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        ids.add(begin(tmp_path / name)[0])

    assert len(ids) == 2


@pytest.mark.parametrize(
    ("search", "line"),
    [
        (changed("budget", generations=5), "budget.generations: 3 -> 5"),
        (changed("budget", trials=9), "budget.trials: None -> 9"),
        (changed("trial", max_attempts=5), "trial.max_attempts: 3 -> 5"),
        ({**SEARCH, "profile": "/slurm/site.toml"}, "profile: None -> '/slurm/site.toml'"),
    ],
)
def test_budget_attempts_and_profile_may_change_and_are_reported(
    tmp_path: Path, search: dict[str, Any], line: str
) -> None:
    run_id, _ = begin(tmp_path)

    assert begin(tmp_path, search, text="changed") == (run_id, [line])
    assert (tmp_path / "run" / "search.toml").read_text() == "name = 'one'\n"


@pytest.mark.parametrize(
    ("search", "change"),
    [
        (changed("search", population=30), "search.population = 20; the search file now says 30"),
        (changed("search", objectives=["f1", "gpu_energy_j"]),
         "search.objectives = ['f1']; the search file now says ['f1', 'gpu_energy_j']"),
        (changed("trial", time_limit_min=5.0), "trial.time_limit_min = 60.0; the search file now says 5.0"),
        ({**changed("budget", trials=9), "name": "two"}, "name = 'one'; the search file now says 'two'"),
        ({**SEARCH, "space": {"preset": "xautolm"}}, "space = None; the search file now says {'preset': 'xautolm'}"),
    ],
)  # fmt: skip
def test_any_other_change_is_refused_with_key_and_both_values(
    tmp_path: Path, search: dict[str, Any], change: str
) -> None:
    begin(tmp_path)
    draw_a_trial(tmp_path)
    message = (
        f"run folder `{tmp_path / 'run'}` holds a search with {change}. Put it back, or begin a new search with: "
        "run --fork NEWNAME. May change while a search is under way: budget, profile, trial.max_attempts"
    )

    with pytest.raises(RunFolderError, match=f"^{re.escape(message)}$"):
        begin(tmp_path, search)

    assert read_json(tmp_path / "run" / "run.json")["search"] == SEARCH


@pytest.mark.parametrize("ended", ["outcome.json", "verdict.json"])
def test_a_run_that_came_to_no_trial_begins_anew_with_the_mended_file(tmp_path: Path, ended: str) -> None:
    run_id, _ = begin(tmp_path)
    profile_dir = tmp_path / "run" / "profile" / "attempt-0"
    profile_dir.mkdir(parents=True)
    write_json(profile_dir / ended, to_json(end(failed("error"))))
    (tmp_path / "run" / "data").mkdir()
    Ledger(tmp_path / "run" / "ledger.jsonl", 1).append(
        "intent", 0.0, name="xa-profile-0", generation=-1, attempts=[], resources={}
    )

    new_id, changes = begin(tmp_path, changed("search", population=30), text="mended")

    assert new_id != run_id
    assert changes == []
    assert read_json(tmp_path / "run" / "run.json")["search"]["search"]["population"] == 30
    left = sorted(path.name for path in (tmp_path / "run").iterdir() if not path.name.startswith("lease-"))
    assert left == ["profile", "run.json", "search.toml"]
    assert (tmp_path / "run" / "search.toml").read_text() == "mended"


def test_a_run_whose_profile_job_may_still_run_does_not_begin_anew(tmp_path: Path) -> None:
    begin(tmp_path)
    (tmp_path / "run" / "profile" / "attempt-0").mkdir(parents=True)

    with pytest.raises(RunFolderError, match=r"search\.population = 20; the search file now says 30"):
        begin(tmp_path, changed("search", population=30))


def test_a_run_in_the_hands_of_another_driver_does_not_begin_anew(tmp_path: Path) -> None:
    begin(tmp_path)
    lease = Lease.acquire(tmp_path / "run", stale_s=60)

    with pytest.raises(RunFolderError, match="in the hands of another driver"):
        begin(tmp_path, changed("search", population=30))

    lease.check()


def test_settings_a_run_goes_on_with_are_kept(tmp_path: Path) -> None:
    begin(tmp_path)
    more = changed("budget", generations=5)

    store_config(RunDir(tmp_path / "run"), config_of(more))

    assert begin(tmp_path, more)[1] == []
    assert began_at(RunDir(tmp_path / "run")) == 0.0
    assert read_json(tmp_path / "run" / "run.json")["search"] == more


def test_an_unwritten_setting_stays_as_the_run_started_and_a_written_one_is_the_current(tmp_path: Path) -> None:
    begin_with(tmp_path, config_of(written={"name": "one", "search": {"seed": 0}}))
    draw_a_trial(tmp_path)
    later = changed("search", population=30, seed=1)

    kept = effective_config(RunDir(tmp_path / "run"), config_of(later, written={"name": "one", "search": {"seed": 1}}))

    assert kept.search == changed("search", seed=1)


def test_a_setting_that_is_no_longer_written_is_a_change(tmp_path: Path) -> None:
    begin_with(tmp_path, config_of(written={"name": "one", "search": {"population": 20}}))
    draw_a_trial(tmp_path)

    kept = effective_config(
        RunDir(tmp_path / "run"), config_of(changed("search", population=30), written={"name": "one"})
    )

    assert kept.search == changed("search", population=30)


def test_a_new_key_has_its_old_value_unless_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(tmp_path)
    draw_a_trial(tmp_path)
    monkeypatch.setattr(resume, "ADDED_KEYS", {"trial.rehearse": "never", "job.trials_per_job": 1})
    later = {**changed("trial", rehearse="often"), "job": {"trials_per_job": 4}}

    kept = effective_config(RunDir(tmp_path / "run"), config_of(later, written={"job": {"trials_per_job": 4}}))

    assert kept.search == {**changed("trial", rehearse="never"), "job": {"trials_per_job": 4}}
    with pytest.raises(RunFolderError, match=r"job\.trials_per_job = 1; the search file now says 4"):
        begin_with(tmp_path, kept)


def test_a_run_whose_version_stored_less_is_filled_in_from_its_search_file(tmp_path: Path) -> None:
    begin(tmp_path, text="name = 'one'\n[search]\nseed = 0\n")
    draw_a_trial(tmp_path)
    run_path = tmp_path / "run" / "run.json"
    write_json(run_path, {key: value for key, value in read_json(run_path).items() if key not in ("written", "space")})
    later = {**changed("search", population=30, seed=1), "budget": {"generations": 9, "trials": 8}}

    kept = effective_config(RunDir(tmp_path / "run"), config_of(later, written={"name": "one"}))

    assert kept.search == {**changed("search", seed=1), "budget": {"generations": 9, "trials": 8}}
    assert kept.space == {"models": ["m"]}


def test_the_space_is_the_one_the_run_started_with(tmp_path: Path) -> None:
    begin(tmp_path)
    current = RunConfig(search=SEARCH, written=SEARCH, space={"models": ["n"]})

    assert effective_config(RunDir(tmp_path / "run"), current).space == {"models": ["m"]}


def test_a_run_that_starts_over_has_the_current_configuration(tmp_path: Path) -> None:
    begin(tmp_path)
    current = RunConfig(search=changed("search", seed=1), written=SEARCH, space={"models": ["n"]})

    assert effective_config(RunDir(tmp_path / "run"), current) == current
    assert effective_config(RunDir(tmp_path / "none"), current) == current


def test_changed_keys_are_dotted_and_sorted() -> None:
    old = {"b": {"y": 1, "x": {"deep": 1}}, "a": 1, "same": [1]}
    new = {"b": {"y": 2, "x": {"deep": 2}}, "c": 1, "same": [1]}

    assert changed_keys(old, new) == [("a", 1, None), ("b.x.deep", 1, 2), ("b.y", 1, 2), ("c", None, 1)]


@pytest.mark.parametrize(
    ("key", "may"),
    [
        ("budget", True),
        ("budget.trials", True),
        ("profile", True),
        ("trial.max_attempts", True),
        ("trial", False),
        ("trial.time_limit_min", False),
        ("budgets", False),
        ("profile_x", False),
    ],
)
def test_only_whole_keys_count_as_changeable(key: str, may: bool) -> None:
    assert may_change(key) is may
