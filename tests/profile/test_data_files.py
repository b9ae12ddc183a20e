"""Files of other encodings, with unknown features and in shards are read; what is missing is named."""

import json
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from xautolm_hpc.dataset import pick_files
from xautolm_hpc.errors import DataError
from xautolm_hpc.profile.formats import read_file
from xautolm_hpc.profile.source import find_files

COLUMNS = {"text": "text", "label": "label"}
CSV = "text,label\r\ngrößer 日本 😀,a\r\n"
JSONL = '{"text": "größer 日本 😀", "label": "a"}\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize(("name", "text"), [("x.csv", CSV), ("x.tsv", CSV.replace(",", "\t")), ("x.jsonl", JSONL)])
def test_files_of_every_unicode_encoding_are_read(name: str, text: str, encoding: str) -> None:
    read = read_file(Path(name), text.encode(encoding), columns=COLUMNS)

    assert read.cells == [("größer 日本 😀", "a")]


def test_a_utf16_file_with_its_mark_of_the_other_byte_order_is_read() -> None:
    read = read_file(Path("x.csv"), b"\xfe\xff" + CSV.encode("utf-16-be"), columns=COLUMNS)

    assert read.cells == [("größer 日本 😀", "a")]


def test_a_torn_utf16_file_is_refused_without_advice_that_destroys_it() -> None:
    with pytest.raises(
        DataError, match=r"`x\.csv` is no whole UTF-16 text: truncated data .*Save it again, as UTF-8"
    ) as e:
        read_file(Path("x.csv"), CSV.encode("utf-16")[:-1], columns=COLUMNS)

    assert "iconv" not in str(e.value)


FEATURES = {
    "text": {"dtype": "string", "_type": "Value"},
    "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
    "scan": {"_type": "Hologram", "depth": 3},
}


def _table(metadata: object) -> pa.Table:
    table = pa.table({"text": ["a", "b"], "label": [1, 0], "scan": [1.0, 2.0]})
    return table.replace_schema_metadata({"huggingface": json.dumps(metadata)})


@pytest.mark.parametrize("extension", ["parquet", "arrow"])
def test_a_column_of_an_unknown_kind_that_nobody_reads_does_no_harm(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"x.{extension}"
    table = _table({"info": {"features": FEATURES}})
    if extension == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table)

    read = read_file(path, path.read_bytes(), columns=COLUMNS)

    assert read.cells == [("a", "pos"), ("b", "neg")]
    assert read.class_names == {"label": ("neg", "pos")}


@pytest.mark.parametrize("metadata", [[], {"info": None}, {"info": {"features": {"label": 3, "text": None}}}])
def test_metadata_of_another_shape_give_no_names(tmp_path: Path, metadata: object) -> None:
    pq.write_table(_table(metadata), tmp_path / "x.parquet")

    read = read_file(tmp_path / "x.parquet", (tmp_path / "x.parquet").read_bytes(), columns=COLUMNS)

    assert read.cells == [("a", 1), ("b", 0)]


def test_a_class_that_the_file_does_not_name_is_refused(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"], "label": [5]})
    pq.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})}),
        tmp_path / "x.parquet",
    )

    with pytest.raises(DataError, match="column 'label' holds class 5, but the file names 2 classes, from 0: neg, pos"):
        read_file(tmp_path / "x.parquet", (tmp_path / "x.parquet").read_bytes(), columns=COLUMNS)


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize("extension", [".parquet", ".csv", ".jsonl", ".jsonl.gz", ".csv.gz", ".tsv"])
@pytest.mark.parametrize("folder", ["", "data"])
def test_shards_in_a_local_folder_are_read_in_order(tmp_path: Path, extension: str, folder: str) -> None:
    train = [f"train-0000{number}-of-00002{extension}" for number in (1, 0)]
    _touch(tmp_path / folder, *train, f"test-00000-of-00001-0a1b2c3d{extension}")
    _touch(tmp_path, "README.md")

    found = find_files(tmp_path)

    names = {split: [path.name for path in paths] for split, paths in found.items()}
    assert names == {"train": sorted(train), "test": [f"test-00000-of-00001-0a1b2c3d{extension}"]}
    assert found["train"][0].parent == tmp_path / folder


def test_splits_may_lie_in_folders_of_their_names(tmp_path: Path) -> None:
    _touch(tmp_path, "default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet")

    found = find_files(tmp_path)

    assert [path.relative_to(tmp_path).as_posix() for paths in found.values() for path in paths] == [
        "default/train/0000.parquet",
        "default/train/0001.parquet",
        "default/test/0000.parquet",
    ]


REFUSED = {
    "a missing shard": (
        ["train-00000-of-00003.csv", "train-00002-of-00003.csv"],
        r"lacks 1 of 3 shards: 00001-of-00003; there: train-00000-of-00003\.csv",
    ),
    "shards of two sets": (
        ["train-00000-of-00001.csv", "train-00000-of-00002.csv", "train-00001-of-00002.csv"],
        "mixes sets of shards",
    ),
    "a whole file beside shards": (["train.csv", "train-00000-of-00001.csv"], "mixes sets of shards"),
    "shards of two formats": (
        ["train-00000-of-00001.csv", "train-00000-of-00001.parquet"],
        "has 2 files for train: train-00000-of-00001.csv, train-00000-of-00001.parquet. Keep one",
    ),
    "two folders with sets": (
        ["en/train.csv", "de/train.csv"],
        "holds several sets of files, in de, en. Set data.path to one of these folders",
    ),
    "two formats in the folder of a split": (
        ["train/a.csv", "train/a.jsonl"],
        "holds files of several formats: a.csv",
    ),
}


@pytest.mark.parametrize(("names", "message"), REFUSED.values(), ids=REFUSED)
def test_a_set_that_is_not_whole_or_not_clear_is_refused(tmp_path: Path, names: list[str], message: str) -> None:
    _touch(tmp_path, *names)

    with pytest.raises(DataError, match=message):
        find_files(tmp_path)


def test_a_missing_shard_of_the_hub_is_named_too() -> None:
    names = ["data/train-00000-of-00002.parquet", "data/test-00000-of-00001.parquet"]

    with pytest.raises(DataError, match="lacks 1 of 2 shards: 00001-of-00002"):
        pick_files(names, {}, where="owner/name")
    assert pick_files(names, {"train": "data/train-*"}, where="owner/name") == {"train": (names[0],)}
