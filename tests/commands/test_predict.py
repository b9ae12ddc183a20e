"""What ``predict`` reads, and what it refuses before a worker starts."""

import json
from pathlib import Path

import pytest

from xautolm_hpc import cli
from xautolm_hpc.commands.predict import read_rows
from xautolm_hpc.errors import InputError


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", 'body\n"a, b"\nc\n'),
        ("rows.csv", 'n,body\n1,"a, b"\n2,c\n'),
        ("rows.tsv", "body\tn\na, b\t1\nc\t2\n"),
        ("rows.jsonl", '{"body": "a, b"}\n{"body": "c", "other": 1}\n'),
    ],
)
def test_rows_are_read_in_their_order(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)

    assert read_rows(tmp_path / name, {"text": "body"}) == [{"text": "a, b"}, {"text": "c"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"body": "a"}\n{"body": null}\n', "row 1, column 'body' is None; expected a text"),
        ('{"body": 3}\n', "row 0, column 'body' is 3; expected a text"),
        ('{"text": "a"}\n', "body"),
    ],
)
def test_a_row_that_cannot_be_answered_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "rows.jsonl").write_text(content)

    with pytest.raises(InputError, match=message):
        read_rows(tmp_path / "rows.jsonl", {"text": "body"})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_rows(tmp_path / "gone.csv", {"text": "text"})


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "is missing: give a folder that `export-model` of this version wrote"),
        ({"adapter_config.json": "{}"}, "holds adapters alone"),
        ({"predict.json": json.dumps({"kind": "poetry"})}, "kind = 'poetry'"),
        ({"predict.json": json.dumps(["text-classification"])}, "is a list; expected an object with `kind`"),
    ],
)
def test_a_folder_that_is_no_exported_model_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str], message: str
) -> None:
    (tmp_path / "model").mkdir()
    for name, content in files.items():
        (tmp_path / "model" / name).write_text(content)
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')

    status = cli.main(["predict", str(tmp_path / "model"), str(tmp_path / "rows.jsonl")])

    assert status == 2
    assert message in capsys.readouterr().err
