"""A folder that ``datasets.save_to_disk`` wrote is read as its splits, with the names of its classes."""

import re
from pathlib import Path

import datasets
import pytest

from tests.profile.profile_samples import NODE, make_request, read_split, sample_rows
from xautolm_hpc.errors import DataError
from xautolm_hpc.profile import profile_task
from xautolm_hpc.profile.source import find_files

LABELS = ["jobs", "storage"]
FEATURES = datasets.Features({"label": datasets.ClassLabel(names=LABELS), "text": datasets.Value("string")})


def _dataset(n_rows: int, seed: int) -> datasets.Dataset:
    rows = sample_rows(n_rows, labels=LABELS, seed=seed)
    columns = {"label": [LABELS.index(row.label) for row in rows], "text": [row.text for row in rows]}
    return datasets.Dataset.from_dict(columns, features=FEATURES)


def test_every_split_of_a_saved_folder_is_read_in_all_its_files(tmp_path: Path) -> None:
    sizes = {"train": 60, "valid": 20, "test": 10, "extra": 4}
    saved = datasets.DatasetDict({name: _dataset(n_rows, seed) for seed, (name, n_rows) in enumerate(sizes.items())})
    saved.save_to_disk(str(tmp_path / "saved"), num_shards={"train": 3, "valid": 1, "test": 1, "extra": 1})
    request = make_request(tmp_path / "saved", tmp_path)

    result = profile_task(request, system=NODE)

    assert result.task.labels == ("jobs", "storage")
    parts = {name: read_split(request, name) for name in ("train", "dev", "validation", "test")}
    assert sorted(parts["train"] + parts["dev"]) == sorted(sample_rows(60, labels=LABELS, seed=0))
    assert sorted(parts["validation"]) == sorted(sample_rows(20, labels=LABELS, seed=1))
    assert sorted(parts["test"]) == sorted(sample_rows(10, labels=LABELS, seed=2))


def test_rows_chosen_before_saving_are_the_rows_that_are_read(tmp_path: Path) -> None:
    _dataset(200, 0).select(range(150, 50, -3)).save_to_disk(str(tmp_path / "saved"))
    request = make_request(tmp_path / "saved", tmp_path)

    profile_task(request, system=NODE)

    read = [row for name in ("train", "dev", "validation", "test") for row in read_split(request, name)]
    assert sorted(read) == sorted(sample_rows(200, labels=LABELS, seed=0)[150:50:-3])


def test_a_saved_folder_that_is_damaged_says_where(tmp_path: Path) -> None:
    datasets.DatasetDict(train=_dataset(60, 0)).save_to_disk(str(tmp_path / "saved"))
    (shard,) = (tmp_path / "saved" / "train").glob("*.arrow")
    shard.write_bytes(shard.read_bytes()[:200])
    with pytest.raises(DataError, match=f"^`{re.escape(str(shard))}` is no whole Arrow file"):
        profile_task(make_request(tmp_path / "saved", tmp_path), system=NODE)

    shard.unlink()
    with pytest.raises(DataError, match=f"^`{re.escape(str(shard))}` cannot be read on node"):
        profile_task(make_request(tmp_path / "saved", tmp_path), system=NODE)

    (tmp_path / "saved" / "train" / "state.json").write_text("{}")
    with pytest.raises(DataError, match=r"state\.json` lacks the list '_data_files'; save the data again"):
        find_files(tmp_path / "saved")

    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["a"]}')
    with pytest.raises(DataError, match="has no split train; its splits: a"):
        find_files(tmp_path / "saved")
