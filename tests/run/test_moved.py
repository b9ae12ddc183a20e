"""A project that was moved as a whole: its search file has not changed, and its run goes on."""

import shutil
from pathlib import Path

import pytest

from tests.driving import SEARCH, Notes, end_attempt, make_setup, projection, search_in
from tests.fakes import FakeLauncher, end_with
from tests.nouns import succeeded
from xautolm_hpc.config import load_search
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.errors import InterruptedSearchError, RunFolderError
from xautolm_hpc.jobdir import End
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.moved import Moved, find_moved
from xautolm_hpc.run.run_file import profile_path

OWN = """
[[model]]
id = "mine"
path = "models/mine"
family = "encoder"
n_parameters = 1000000
n_layers = 2
hidden_size = 64
context_length = 512
vocab_size = 1000
"""
TEXT = (
    SEARCH.replace('models = ["minilm-l1"', 'models = ["mine", "minilm-l1"')
    .replace("generations = 3", "generations = 2")
    .replace('path = "store"', 'path = "store"\nalso_read = ["other"]')
    .replace("[task]", 'profile = "site.toml"\n[task]')
    + OWN
)


def leave(folder: Path) -> None:
    """Begin a search in a folder and leave it when its first trials have been submitted and ran for nothing."""
    folder.mkdir()
    (folder / "site.toml").write_text("")
    launcher = FakeLauncher(end_attempt)
    setup = make_setup(folder, launcher=launcher, text=TEXT, n_interrupts=lambda: 2 * (len(launcher.submissions) > 1))
    with pytest.raises(InterruptedSearchError, match="detached"):
        run_search(setup)
    shutil.rmtree(setup.run_dir.path / "gen-000")


def end_also_final(attempt_dir: Path) -> End | None:
    """End the job that evaluates on test, too."""
    is_final = attempt_dir.parent.name == "final"
    return end_with(succeeded(None)) if is_final else end_attempt(attempt_dir)


def move(folder: Path) -> Path:
    """Move a project."""
    there = folder.with_name("there")
    folder.rename(there)
    return there


def test_a_run_that_was_moved_with_its_search_file_goes_on_and_says_so(tmp_path: Path) -> None:
    leave(tmp_path / "here")
    there = move(tmp_path / "here")
    setup = make_setup(there, text=TEXT)

    run_search(setup)

    keys = ["data.path", "model.0.path", "profile", "store.also_read.0", "store.path"]
    assert [line.partition(":")[0] for line in setup.changes] == keys
    assert setup.changes[0] == f"data.path: '{tmp_path}/here/rows.jsonl' -> '{there}/rows.jsonl'"
    assert isinstance(setup.watcher, Notes)
    assert f"changed since the search began: {setup.changes[0]}" in setup.watcher.lines
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "site.toml").write_text("")
    search_in(whole, text=TEXT)
    drawn, expected = projection(there), projection(whole)
    # The fake's results follow from a trial's files, paths included: later generations differ.
    assert [row[:4] for row in drawn if row[0] == 0] == [row[:4] for row in expected if row[0] == 0]
    assert len(drawn) == len(expected) == 8
    assert not (tmp_path / "here").exists()


def test_the_models_of_drawn_trials_are_where_the_project_is(tmp_path: Path) -> None:
    leave(tmp_path / "here")
    there = move(tmp_path / "here")

    search_in(there, text=TEXT)

    plans = [read_json(path)["model"] for path in sorted((there / "runs").rglob("pipeline.json"))]
    paths = {plan["path"] for plan in plans if plan["id"] == "mine"}
    assert paths == {str(there / "models" / "mine")}
    stored = read_json(there / "runs" / "fake" / "run.json")
    assert stored["space"]["models"][0]["path"] == str(there / "models" / "mine")
    assert str(tmp_path / "here") not in (there / "runs" / "fake" / "run.json").read_text()


@pytest.mark.parametrize("lacking", [(), ("written",), ("path",), ("written", "space", "path")])
def test_a_run_of_an_earlier_version_may_be_moved(tmp_path: Path, lacking: tuple[str, ...]) -> None:
    leave(tmp_path / "here")
    there = move(tmp_path / "here")
    run_path = there / "runs" / "fake" / "run.json"
    write_json(run_path, {key: value for key, value in read_json(run_path).items() if key not in lacking})

    search_in(there, text=TEXT)

    assert read_json(run_path)["search"]["data"]["path"] == str(there / "rows.jsonl")


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('path = "rows.jsonl"', 'path = "others.jsonl"', "data.path"),
        ('also_read = ["other"]', 'also_read = ["others"]', "store.also_read"),
        ('path = "models/mine"', 'path = "models/others"', "model"),
    ],
)
def test_a_path_that_is_written_otherwise_is_a_change_after_a_move_too(
    tmp_path: Path, old: str, new: str, key: str
) -> None:
    leave(tmp_path / "here")
    there = move(tmp_path / "here")

    with pytest.raises(RunFolderError, match=f"holds a search with {key} = "):
        make_setup(there, text=TEXT.replace(old, new))


def test_a_path_that_is_written_otherwise_and_leads_to_the_same_place_is_no_change(tmp_path: Path) -> None:
    leave(tmp_path / "here")

    setup = make_setup(tmp_path / "here", text=TEXT.replace('"rows.jsonl"', f'"{tmp_path}/here/./rows.jsonl"'))

    assert setup.changes == ()


def test_the_profile_of_a_run_that_was_moved_is_found_beside_it(tmp_path: Path) -> None:
    leave(tmp_path / "here")
    there = move(tmp_path / "here")

    assert profile_path(RunDir(there / "runs" / "fake")) == there / "site.toml"


def test_a_default_path_moves_with_the_project_unless_the_default_has_changed(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(SEARCH.replace('[store]\npath = "store"', ""))
    now = load_search(tmp_path / "s.toml").model_dump(mode="json")
    then = {**now, "store": {**now["store"], "path": "/here/experience-store"}}

    assert find_moved(then, now, written=({}, {}))[0] == Moved(
        "store.path", "/here/experience-store", f"{tmp_path}/experience-store"
    )
    assert find_moved({**then, "store": {"path": "/here/old-name"}}, now, written=({}, {})) == []


def test_kept_weights_are_evaluated_with_their_model_where_it_lies_now(tmp_path: Path) -> None:
    leave(tmp_path / "here")
    there = move(tmp_path / "here")
    search_in(there, text=TEXT)
    again = there.rename(tmp_path / "again")
    paths = sorted((again / "runs").rglob("pipeline.json"))
    own = [path for path in paths if read_json(path)["model"]["id"] == "mine"]
    for path in paths:
        (path.parent / "weights.safetensors").write_bytes(b"")
    numbers = tuple(int(path.parent.parent.name.removeprefix("trial-")) for path in own)

    search_in(again, text=TEXT, final=numbers, launcher=FakeLauncher(end_also_final))

    assert own
    assert {read_json(path)["model"]["path"] for path in own} == {str(again / "models" / "mine")}
