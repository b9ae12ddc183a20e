"""What ``predict`` reads, and what it refuses before a worker starts."""

import gzip
import json
import subprocess
from pathlib import Path

import pytest

from xautolm_hpc import cli
from xautolm_hpc.commands.predict import read_rows
from xautolm_hpc.errors import InputError
from xautolm_hpc.predictions import ANSWERS, PREDICT, ROWS


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", 'body\n"a, b"\nc\n'),
        ("rows.csv", "body\na, b\nc\n"),
        ("rows.csv", '\ufeffbody\r\n"a, b"\r\nc\r\n'),
        ("rows.csv", "\n \nbody\na, b\nc\n"),
        ("rows.csv", '"body"\ra, b\rc\r'),
        ("rows.csv", 'n,body\n1,"a, b"\n2,c\n'),
        ("rows.tsv", "body\tn\na, b\t1\nc\t2\n"),
        ("rows.jsonl", '{"body": "a, b"}\n{"body": "c", "other": 1}\n'),
    ],
)
def test_rows_are_read_in_their_order(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content.encode()))

    for path in (tmp_path / name, tmp_path / f"{name}.gz"):
        assert read_rows(path, {"text": "body"}) == [{"text": "a, b"}, {"text": "c"}]


def test_a_single_column_is_read_in_utf_16_and_with_letters_that_divide_nothing(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("body\na\0b, c\n", encoding="utf-16")

    assert read_rows(tmp_path / "rows.csv", {"text": "body"}) == [{"text": "a\0b, c"}]


def test_a_delimiter_that_does_not_fit_asks_for_no_label(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("body\nhello, world\n")

    with pytest.raises(InputError, match="line 2 has 2 fields, the header 1") as caught:
        read_rows(tmp_path / "rows.csv", {"text": "body"}, delimiter=",")
    assert "label" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"body": "a"}\n{"body": null}\n', "row 2, column 'body' is None; expected a text"),
        ('{"body": 3}\n', "row 1, column 'body' is 3; expected a text"),
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
        ({"predict.json": '{"kind": "text-classification", "columns": {"text": 3}}'}, "columns = {'text': 3}"),
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


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an exported model that learnt from other column names; a worker in its place repeats the rows."""

    def repeat_rows(argv: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        step_dir = Path(argv[-1])
        (step_dir / ANSWERS).write_text((step_dir / ROWS).read_text())
        return subprocess.CompletedProcess(argv, 0)

    monkeypatch.setattr("xautolm_hpc.commands.predict.subprocess.run", repeat_rows)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    described = {"kind": "text-classification", "columns": {"text": "comment"}}
    (tmp_path / "model" / PREDICT).write_text(json.dumps(described))
    (tmp_path / "new.csv").write_text("n,comment\n1,a\n")
    return tmp_path / "model"


def test_columns_are_those_of_the_data_that_the_model_has_learnt_from(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["predict", "model", "new.csv"]) == 0
    assert cli.main(["predict", "model", "new.csv", "--text", "n"]) == 0

    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [{"text": "a"}, {"text": "1"}]


def test_a_model_that_does_not_say_its_columns_reads_the_usual_ones(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (model / PREDICT).write_text(json.dumps({"kind": "text-classification"}))
    Path("new.csv").write_text("n,text\n1,a\n")

    assert cli.main(["predict", "model", "new.csv"]) == 0

    assert json.loads(capsys.readouterr().out) == {"text": "a"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("n,body\n1,a\n", "column 'comment' does not exist; columns: n, body. Set --text COLUMN\n"),
        ("n:body\n1:a\n", "columns: n:body. Set --text COLUMN, or --delimiter CHARACTER: comma (',') divides nothing"),
        ("comment,comment\na,b\n", "column 'comment' stands twice in the header; rename one"),
    ],
)
def test_a_missing_column_is_told_in_the_options_of_predict(
    model: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    Path("new.csv").write_text(content)

    assert cli.main(["predict", "model", "new.csv"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["new.json", "new.xlsx", "new.txt", "new"])
def test_a_file_of_another_extension_is_refused(model: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    Path(name).write_text("comment\na\n")

    assert cli.main(["predict", "model", name]) == 2
    assert f"`{name}`: its extension is not known; valid: .jsonl, " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("new.csv", "`new.csv` is what this command reads, and would be lost"),
        ("link.csv", "`link.csv` is what this command reads, and would be lost"),
        ("model/predict.json", "`model/predict.json` is what this command reads, and would be lost"),
        ("model", "`model` is a folder; give a file"),
        (".", "`.` is a folder; give a file"),
        ("gone/answers.jsonl", "`gone/answers.jsonl` cannot be written: `gone` does not exist; make it first"),
    ],
)
def test_what_must_not_be_written_is_refused_even_by_force(
    model: Path, capsys: pytest.CaptureFixture[str], to: str, message: str
) -> None:
    Path("link.csv").symlink_to("new.csv")
    before = sorted(model.parent.rglob("*"))

    status = cli.main(["predict", "model", "new.csv", "--to", to, "--force"])

    assert status == 2
    assert message in capsys.readouterr().err
    assert sorted(model.parent.rglob("*")) == before
    assert Path("new.csv").read_text() == "n,comment\n1,a\n"


def test_answers_overwrite_a_file_only_by_force(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("answers.jsonl").write_text("mine")

    refused = cli.main(["predict", "model", "new.csv", "--to", "answers.jsonl"])

    assert refused == 2
    assert "`answers.jsonl` exists; --force overwrites it" in capsys.readouterr().err
    assert Path("answers.jsonl").read_text() == "mine"
    assert cli.main(["predict", "model", "new.csv", "--to", "answers.jsonl", "--force"]) == 0
    assert json.loads(Path("answers.jsonl").read_text()) == {"text": "a"}
