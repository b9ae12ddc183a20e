"""Going on with a run: the same identity, and which settings may be different."""

import re
import uuid
from pathlib import Path
from typing import Any

import pytest

from xautolm_hpc import __version__
from xautolm_hpc.durable import read_json
from xautolm_hpc.errors import RunFolderError
from xautolm_hpc.jobdir import RunDir
from xautolm_hpc.resume import changed_keys, may_change, open_run

SEARCH: dict[str, Any] = {
    "name": "one",
    "profile": None,
    "search": {"population": 20, "seed": 0, "objectives": ["f1"]},
    "trial": {"time_limit_min": 60.0, "max_attempts": 3},
    "budget": {"generations": 3, "trials": None},
}


class StillClock:
    """A clock that stands still."""

    def now(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        del seconds


def changed(section: str, **values: Any) -> dict[str, Any]:
    """Give the search with other values in one section."""
    return {**SEARCH, section: {**SEARCH[section], **values}}


def begin(folder: Path, search: dict[str, Any] = SEARCH, *, text: str = "name = 'one'\n") -> tuple[str, list[str]]:
    """Open a run in a folder as the command does."""
    source = folder / "written.toml"
    source.write_text(text)
    run_dir = RunDir(folder / "run")
    run_dir.create()
    return open_run(run_dir, search, source=source, clock=StillClock())


def test_a_new_run_keeps_its_settings_and_the_file_as_written(tmp_path: Path) -> None:
    run_id, changes = begin(tmp_path, text="name = 'one'  # mine\n")

    assert read_json(tmp_path / "run" / "run.json") == {
        "run_id": run_id,
        "created_at": "1970-01-01T00:00:00.000+00:00",
        "package_version": __version__,
        "search": SEARCH,
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
    message = (
        f"run folder `{tmp_path / 'run'}` holds a search with {change}. Put it back, or begin a new search with: "
        "run --fork NEWNAME. May change while a search is under way: budget, profile, trial.max_attempts"
    )

    with pytest.raises(RunFolderError, match=f"^{re.escape(message)}$"):
        begin(tmp_path, search)

    assert read_json(tmp_path / "run" / "run.json")["search"] == SEARCH


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
