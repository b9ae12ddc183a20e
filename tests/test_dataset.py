"""Which files of a repository are which split, and what ``[data]`` may say."""

import re

import pytest
from pydantic import ValidationError

from xautolm_hpc.dataset import DataSection, pick_files
from xautolm_hpc.errors import DataError

COMMIT = "0" * 40
LAYOUTS = {
    "the hub's own": (
        ["README.md", "data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"],
        {"train": ("data/train-00000-of-00001.parquet",), "test": ("data/test-00000-of-00001.parquet",)},
    ),
    "converted to Parquet by the hub": (
        ["plain_text/train/0001.parquet", "plain_text/train/0000.parquet", "plain_text/validation/0000.parquet"],
        {
            "train": ("plain_text/train/0000.parquet", "plain_text/train/0001.parquet"),
            "validation": ("plain_text/validation/0000.parquet",),
        },
    ),
    "a file for each split": (
        ["Train.csv", "dev.csv", "my_test_set.csv", "contest.txt"],
        {"train": ("Train.csv",), "validation": ("dev.csv",), "test": ("my_test_set.csv",)},
    ),
    "one file": (["rows.jsonl", "LICENSE"], {"train": ("rows.jsonl",)}),
}


@pytest.mark.parametrize(("names", "expected"), LAYOUTS.values(), ids=LAYOUTS)
def test_the_names_of_files_say_their_split(names: list[str], expected: dict[str, tuple[str, ...]]) -> None:
    assert pick_files(names, {}, where="a/b") == expected


def test_patterns_say_it_where_names_do_not() -> None:
    names = ["en/a.parquet", "en/b.parquet", "de/a.parquet"]

    assert pick_files(names, {"train": "en/*", "test": "de/*"}, where="a/b") == {
        "train": ("en/a.parquet", "en/b.parquet"),
        "test": ("de/a.parquet",),
    }


@pytest.mark.parametrize(
    ("names", "patterns", "message"),
    [
        (["data.zip"], {}, "a/b: no files for train; files: none that is read. Read are .jsonl"),
        (["a.csv", "b.csv"], {}, "a/b: no files for train; files: a.csv, b.csv. Read are"),
        (["train.csv"], {"train": "train*", "test": "t/*"}, "a/b: no files for test; files: train.csv."),
        (["x/train.csv", "train.csv"], {}, "a/b holds several sets of files, in the top, x."),
    ],
)
def test_files_that_fit_no_split_are_listed(names: list[str], patterns: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(message)}"):
        pick_files(names, patterns, where="a/b")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "expected one of path and hub"),
        ({"path": "x.csv", "hub": "a/b", "revision": COMMIT}, "expected one of path and hub"),
        ({"hub": "a/b"}, "hub needs revision, a commit of 40 hexadecimal digits"),
        ({"hub": "a/b", "revision": "main"}, r"should match pattern '\^\[0-9a-f\]\{40\}\$'"),
        ({"path": "x.csv", "files": {"train": "t*"}}, "files goes with hub"),
        ({"hub": "a/b", "revision": COMMIT, "files": {"all": "*"}}, "has train and perhaps others of train, val"),
    ],
)
def test_a_place_that_is_none_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataSection.model_validate(given)
