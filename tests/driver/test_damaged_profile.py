"""What the profile job measured is damaged: it is measured again, and trials go on with the split they had."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.driving import SEARCH, Notes, end_attempt, make_setup, projection, search_in
from tests.fakes import FakeLauncher
from tests.fuzz.workplace import end_all
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.errors import RunFolderError
from xautolm_hpc.jobdir import PROFILE, PROFILE_RESULT, End


def search(folder: Path, generations: int, *, end_of: Callable[[Path], End | None] = end_all) -> Notes:
    """Run a search, or go on with it."""
    text = SEARCH.replace("generations = 3", f"generations = {generations}")
    setup = make_setup(folder, text=text, launcher=FakeLauncher(end_of))
    run_search(setup)
    assert isinstance(setup.watcher, Notes)
    return setup.watcher


def end_with_other_data(attempt_dir: Path) -> End | None:
    """End the profile job as if the data had changed."""
    ended = end_all(attempt_dir)
    if (attempt_dir / PROFILE).exists():
        path = Path(read_json(attempt_dir / PROFILE)["data_dir"]) / "train.jsonl.gz"
        path.write_bytes(gzip.compress(b"other\n", mtime=0))
        where = attempt_dir / PROFILE_RESULT
        write_json(where, {**read_json(where), "sha256": {**read_json(where)["sha256"], "train": "other"}})
    return ended


@pytest.mark.parametrize("content", ["", '{"task": 5}', "[]"])
def test_the_task_is_profiled_again_and_the_search_is_as_if_nothing_had_happened(tmp_path: Path, content: str) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    search(whole, 2)
    (tmp_path / "damaged").mkdir()
    search(tmp_path / "damaged", 1)
    run = tmp_path / "damaged" / "runs" / "fake"
    (run / "profile" / "attempt-0" / PROFILE_RESULT).write_text(content)

    watcher = search(tmp_path / "damaged", 2)

    assert any("the task is profiled again" in line for line in watcher.lines)
    assert (run / "profile" / "attempt-1" / PROFILE_RESULT).exists()
    assert not (run / "data-kept").exists()
    assert projection(tmp_path / "damaged") == projection(whole)


def test_where_the_data_has_changed_since_the_split_stays_and_the_search_says_so(tmp_path: Path) -> None:
    search(tmp_path, 1)
    run = tmp_path / "runs" / "fake"
    before = (run / "data" / "train.jsonl.gz").read_bytes()
    (run / "profile" / "attempt-0" / PROFILE_RESULT).write_text("")

    for _ in range(2):  # and again
        with pytest.raises(RunFolderError, match="has changed since the search began, and what was measured then"):
            search(tmp_path, 2, end_of=end_with_other_data)

        assert (run / "data" / "train.jsonl.gz").read_bytes() == before
        assert not (run / "data-kept").exists()

    search(tmp_path, 2)  # the data was put back
    assert len(projection(tmp_path)) == 8


def test_a_damaged_prior_of_a_run_without_trials_is_computed_again(tmp_path: Path) -> None:
    setup = make_setup(tmp_path, launcher=FakeLauncher(end_attempt))
    setup.run_dir.prior_path.write_text("{")

    run_search(setup)

    assert isinstance(setup.watcher, Notes)
    assert any("it is computed again" in line for line in setup.watcher.lines)
    (tmp_path / "whole").mkdir()
    search_in(tmp_path / "whole")
    assert projection(tmp_path) == projection(tmp_path / "whole")
