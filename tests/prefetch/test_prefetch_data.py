"""A data set of the hub comes into the offline cache as models do, and a search then reads it there."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import pytest

from tests.driving import make_setup
from tests.prefetch.hub import COMMIT, Hub
from tests.prefetch.test_prefetch import command, prefetch
from tests.submit.test_apptainer import CONTAINER
from xautolm_hpc.config import load_search
from xautolm_hpc.dataset import cached_files, repository_dir, snapshot_dir
from xautolm_hpc.durable import read_json

REPO = "someone/tickets"
SEARCH = f"""
name = "hub-data"
[task]
name = "tickets"
[data]
hub = "{REPO}"
revision = "{COMMIT}"
text = "message"
[space]
models = ["minilm-l1"]
methods = ["head"]
[space.params.head]
epochs = [1]
[search]
population = 1
[budget]
trials = 1
"""


@pytest.fixture(scope="session")
def _repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a data set as the hub holds it: Parquet in several files, class names in their schema, and a card."""
    folder = tmp_path_factory.mktemp("data-hub")
    features = datasets.Features(
        {"message": datasets.Value("string"), "label": datasets.ClassLabel(names=["refund", "login"])}
    )
    for name, start in (("train-00000-of-00002", 0), ("train-00001-of-00002", 40), ("test-00000-of-00001", 80)):
        rows = {"message": [f"please number {start + n}" for n in range(40)], "label": [n % 2 for n in range(40)]}
        path = folder / "datasets" / REPO / "data" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))
    (folder / "datasets" / REPO / "README.md").write_text("# tickets")
    return folder


@pytest.fixture
def search_path(tmp_path: Path) -> Path:
    path = tmp_path / "search.toml"
    path.write_text(SEARCH)
    return path


def test_a_search_learns_from_a_prefetched_data_set(hub: Hub, search_path: Path, tmp_path: Path) -> None:
    hf_home, runs_dir = tmp_path / "cache", tmp_path / "runs"
    refused = command("run", str(search_path), "--runs-dir", str(runs_dir), hf_home=hf_home)

    fetched = prefetch(search_path, hub, "--json", hf_home=hf_home)
    searched = command("run", str(search_path), "--runs-dir", str(runs_dir), hf_home=hf_home)

    assert refused.returncode == 2
    assert f"data set '{REPO}' at {COMMIT} is not whole in the offline cache" in refused.stderr
    assert f"xautolm-hpc prefetch {search_path}" in refused.stderr
    assert fetched.returncode == 0, fetched.stderr
    assert re.search(rf"{REPO} +{COMMIT} +3 ", fetched.stderr)
    printed = json.loads(fetched.stdout)
    assert (printed["models"], printed["data"]["commit"]) == ([], COMMIT)
    assert not hub.downloads("README.md")
    assert searched.returncode == 0, searched.stderr
    task = read_json(next(runs_dir.glob("*/profile/attempt-0/profile-result.json")))["task"]
    assert task["labels"] == ["refund", "login"]  # the order that the data set gives its classes
    assert (task["n_train"] + task["n_dev"] + task["n_validation"], task["n_test"]) == (80, 40)


def test_a_data_set_fetched_in_part_or_damaged_is_not_there(hub: Hub, search_path: Path, tmp_path: Path) -> None:
    hf_home, data = tmp_path / "cache", load_search(search_path).data
    last = "train-00001-of-00002.parquet"
    hub.damaged.add(f"data/{last}")

    damaged = prefetch(search_path, hub, hf_home=hf_home)
    seen_damaged = cached_files(hf_home, data)
    hub.damaged.clear()
    repeated = prefetch(search_path, hub, hf_home=hf_home)
    seen_whole = cached_files(hf_home, data)
    (snapshot_dir(hf_home, data) / "data" / last).unlink()

    assert damaged.returncode == 1
    assert f"{last} does not have the checksum that the hub says" in damaged.stderr
    assert seen_damaged is None
    assert repeated.returncode == 0, repeated.stderr
    assert seen_whole == {
        "train": ("data/train-00000-of-00002.parquet", f"data/{last}"),
        "test": ("data/test-00000-of-00001.parquet",),
    }
    assert len(hub.downloads("train-00000-of-00002.parquet")) == 1
    assert cached_files(hf_home, data) is None


def test_an_image_sees_the_repository_that_the_files_are_links_into(
    hub: Hub, search_path: Path, tmp_path: Path
) -> None:
    hf_home = tmp_path / "cache"
    prefetch(search_path, hub, hf_home=hf_home)
    setup = replace(make_setup(tmp_path, text=SEARCH), hf_home=str(hf_home), container=CONTAINER)

    profile = setup.profile_command()

    assert profile.container is not None
    (bind,) = set(profile.container.binds) - set(CONTAINER.binds)
    assert bind.source == bind.target == str(repository_dir(hf_home, REPO))
    for names in (setup.profile_request().data_files or {}).values():
        assert all(
            (snapshot_dir(hf_home, setup.search.data) / name).resolve().is_relative_to(bind.source) for name in names
        )


def test_files_that_cannot_be_assigned_to_splits_are_named_by_the_search_file(
    hub: Hub, search_path: Path, tmp_path: Path
) -> None:
    served = hub.folder / "datasets" / REPO
    shutil.copytree(served / "data", served / "other")

    unclear = prefetch(search_path, hub, "--dry-run", hf_home=tmp_path)
    search_path.write_text(SEARCH.replace("text =", 'files = {train = "other/train-*"}\ntext ='))
    named = prefetch(search_path, hub, hf_home=tmp_path)

    assert unclear.returncode == 2
    assert "holds several sets of files, in data, other. Name one with data.files" in unclear.stderr
    assert named.returncode == 0, named.stderr
    data = load_search(search_path).data
    assert cached_files(tmp_path, data) == {
        "train": ("other/train-00000-of-00002.parquet", "other/train-00001-of-00002.parquet")
    }
    assert repository_dir(tmp_path, REPO).name == "datasets--someone--tickets"


def test_init_fetches_a_data_set_and_names_its_commit(hub: Hub, tmp_path: Path) -> None:
    hf_home, path = tmp_path / "cache", tmp_path / "tickets.toml"

    begun = command("init", REPO, "--to", str(path), hf_home=hf_home, environ={"HF_ENDPOINT": hub.address})
    again = command("init", REPO, "--to", str(path), "--force", hf_home=hf_home, environ={"HF_HUB_OFFLINE": "1"})

    assert (begun.returncode, again.returncode) == (0, 0), begun.stderr + again.stderr
    data = load_search(path).data
    assert (data.hub, data.revision, data.text, data.label) == (REPO, COMMIT, "message", "label")
    assert cached_files(hf_home, data) is not None
    assert "2 classes: refund, login" in begun.stdout
