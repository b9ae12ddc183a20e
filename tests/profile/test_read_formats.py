"""Files of every format give the same rows, and faulty ones a message that names the place."""

import csv
import gzip
import json
import platform
import re
from pathlib import Path

import datasets
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from xautolm_hpc.errors import DataError
from xautolm_hpc.profile.formats import read_file
from xautolm_hpc.profile.rows import Row, normalise_rows
from xautolm_hpc.profile.source import find_files, read_content

# What general readers mangle: missing-value words, line ends inside a text, quotes, other alphabets.
TEXTS = ["NA", "null", "first line\nsecond line", 'he said "no", twice', "  größer\u2028日本 ", "tab\there", "007"]
ROWS = [Row(text.strip(), label) for text, label in zip(TEXTS, "abababa", strict=True)]


def read_rows(path: Path, *, text: str = "text", label: str = "label") -> list[Row]:
    columns = {"text_column": text, "label_column": label}
    wanted = {"text": text, "label": label}
    found = read_file(path, read_content(path), columns=wanted)
    return normalise_rows(path, found.cells, lines=found.lines, **columns)


def write_text(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def as_jsonl(path: Path) -> None:
    records = ({"id": 1, "text": text, "label": row.label} for text, row in zip(TEXTS, ROWS, strict=True))
    lines = (json.dumps(record, ensure_ascii=False) for record in records)
    content = ("\n".join(lines) + "\n\n").encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def as_csv(path: Path) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(TEXTS, [row.label for row in ROWS], strict=True)])


def as_parquet(path: Path) -> None:
    pq.write_table(pa.table({"label": [row.label for row in ROWS], "text": TEXTS}), path)


@pytest.mark.parametrize(
    ("name", "write"),
    [("x.jsonl", as_jsonl), ("x.jsonl.gz", as_jsonl), ("x.csv", as_csv), ("x.parquet", as_parquet)],
)
def test_no_format_loses_rows_or_mangles_text(tmp_path: Path, name: str, write: object) -> None:
    assert callable(write)
    write(tmp_path / name)

    rows = read_rows(tmp_path / name)

    assert rows == ROWS


def test_a_quote_in_a_tsv_without_quoting_swallows_no_row(tmp_path: Path) -> None:
    path = write_text(tmp_path / "x.tsv", 'label\ttext\r\na\t"Says no\r\nb\tand "yes"\r\na\t"whole"\r\n')

    rows = read_rows(path)

    assert rows == [Row('"Says no', "a"), Row('and "yes"', "b"), Row('"whole"', "a")]


def test_quotes_are_taken_off_a_tsv_that_quotes_whole_fields(tmp_path: Path) -> None:
    path = write_text(tmp_path / "x.tsv", 'text\tlabel\n"he said ""no"""\ta\nplain\tb\n')

    rows = read_rows(path)

    assert rows == [Row('he said "no"', "a"), Row("plain", "b")]


def test_a_csv_field_longer_than_the_readers_own_limit_is_read(tmp_path: Path) -> None:
    path = write_text(tmp_path / "x.csv", f"text,label\n{'x' * 200_000},a\n")

    rows = read_rows(path)

    assert len(rows[0].text) == 200_000


def test_class_numbers_of_a_hub_parquet_become_their_names(tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["World", "Sports"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    table.to_parquet(str(tmp_path / "x.parquet"))

    rows = read_rows(tmp_path / "x.parquet")

    assert rows == [Row("a", "Sports"), Row("b", "World")]


def test_outer_white_space_and_byte_order_marks_go_and_nothing_else(tmp_path: Path) -> None:
    text = "\u00a0\ufeff \ufeffin\ufeffner  space\n\ufeff\t"
    path = write_text(tmp_path / "x.jsonl", json.dumps({"text": text, "label": " a "}))

    rows = read_rows(path)

    assert rows == [Row("in\ufeffner  space", "a")]


def test_labels_become_text(tmp_path: Path) -> None:
    labels = [3, True, False, 2.0, "x"]
    lines = [json.dumps({"text": "t", "label": label}) for label in labels]
    path = write_text(tmp_path / "x.jsonl", "\n".join(lines))

    rows = read_rows(path)

    assert [row.label for row in rows] == ["3", "true", "false", "2", "x"]


def test_a_folder_gives_a_file_for_each_split_whatever_its_extension(tmp_path: Path) -> None:
    for name in ("train.csv", "dev.jsonl.gz", "test.parquet", "README.md"):
        (tmp_path / name).touch()

    found = find_files(tmp_path)

    assert found == {
        "train": (tmp_path / "train.csv",),
        "validation": (tmp_path / "dev.jsonl.gz",),
        "test": (tmp_path / "test.parquet",),
    }


def test_a_missing_file_names_path_and_node(tmp_path: Path) -> None:
    path = tmp_path / "gone.jsonl"
    message = (
        f"`{path}` cannot be read on node {platform.node()}: No such file or directory. Check data.path, and that "
        "the compute nodes see it"
    )

    with pytest.raises(DataError, match=f"^{re.escape(message)}$") as caught:
        find_files(path)

    assert isinstance(caught.value.__cause__, OSError)


def test_a_file_that_vanishes_after_it_was_found_is_unavailable_too(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read on node") as caught:
        read_content(tmp_path / "gone.jsonl")

    assert isinstance(caught.value.__cause__, OSError)


FAULTY_PLACES = {
    "an extension nobody reads": (
        ["x.xlsx"],
        "x.xlsx",
        "`{path}`: its extension is not known; valid: .jsonl, .jsonl.gz, .csv, .csv.gz, .tsv, .tsv.gz, .parquet, "
        ".arrow. For .xlsx: save the table as CSV",
    ),
    "JSON that is no JSON Lines": (
        ["x.json"],
        "x.json",
        "`{path}`: its extension is not known; valid: .jsonl, .jsonl.gz, .csv, .csv.gz, .tsv, .tsv.gz, .parquet, "
        ".arrow. For .json: write one object a line: pandas.read_json('x.json').to_json('x.jsonl', orient='records', "
        "lines=True); SQuAD is to be flattened to columns question, context and answers",
    ),
    "a folder for each class": (
        ["neg/1.txt", "pos/1.txt"],
        "",
        "`{path}` has no train file; expected train{{.jsonl,.jsonl.gz,.csv,.csv.gz,.tsv,.tsv.gz,.parquet,.arrow}}, "
        "found: neg, pos. For .txt: make one table of all texts, with columns text and label, such as a CSV file",
    ),
    "a folder for each class of each split": (
        ["train/neg/1.txt", "train/pos/1.txt", "test/pos/1.txt"],
        "",
        "`{path}/train` has no file that can be read; read are .jsonl, .jsonl.gz, .csv, .csv.gz, .tsv, .tsv.gz, "
        ".parquet, .arrow, found: neg, pos. For .txt: make one table of all texts, with columns text and label, such "
        "as a CSV file",
    ),
    "a folder without train": (
        ["all.csv", "test.csv"],
        "",
        "`{path}` has no train file; expected train{{.jsonl,.jsonl.gz,.csv,.csv.gz,.tsv,.tsv.gz,.parquet,.arrow}}, "
        "found: all.csv, test.csv",
    ),
    "a folder with two files for a split": (
        ["dev.csv", "train.csv", "valid.csv"],
        "",
        "`{path}` has 2 files for validation: dev.csv, valid.csv. Keep one",
    ),
}


@pytest.mark.parametrize(("names", "data", "message"), FAULTY_PLACES.values(), ids=FAULTY_PLACES)
def test_a_faulty_place_is_refused(tmp_path: Path, names: list[str], data: str, message: str) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    path = tmp_path / data

    with pytest.raises(DataError, match=f"^{re.escape(message.format(path=path))}$"):
        find_files(path)


FAULTY_CONTENTS = {
    "no row": ("x.jsonl", b"\n", "`{path}` is empty; expected rows with columns 'text' and 'label'"),
    "an unknown text column": (
        "x.jsonl",
        b'{"id": 1, "label": "a", "body": "b"}\n',
        "`{path}`: column 'text' does not exist; columns: id, label, body. Set data.text",
    ),
    "an unknown label column": (
        "x.csv",
        b"text,class\nt,a\n",
        "`{path}`: column 'label' does not exist; columns: text, class. Set data.label",
    ),
    "a column twice": (
        "x.csv",
        b"text,label,text\nt,a,u\n",
        "`{path}`: column 'text' stands twice in the header; rename one",
    ),
    "empty texts": (
        "x.csv",
        b'text,label\nt,a\n" ",a\n,b\nu,b\n',
        "`{path}`: column 'text' is empty in 2 rows (line 3, 4). Fill in, mend or remove these rows",
    ),
    "empty labels after a text of two lines and a blank line": (
        "x.csv",
        b'text,label\r\n"t\r\nu",a\r\n\r\nv,\r\nw,\r\nx,\r\ny,\r\n',
        "`{path}`: column 'label' is empty in 4 rows (line 5, 6, 7, ...). Fill in, mend or remove these rows",
    ),
    "a null label and a null text": (
        "x.jsonl",
        b'{"text": "t", "label": "a"}\n{"text": "t"}\n{"text": null, "label": "a"}\n',
        "`{path}`: column 'label' is null in 1 row (line 2); column 'text' is null in 1 row (line 3). "
        "Fill in, mend or remove these rows",
    ),
    "a label that is not a number": (
        "x.jsonl",
        b'{"text": "t", "label": NaN}',
        "`{path}`: column 'label' is null in 1 row (line 1). Fill in, mend or remove these rows",
    ),
    "a label of a wrong type": (
        "x.jsonl",
        b'{"text": "t", "label": 0.5}',
        "`{path}`: column 'label' holds numbers with decimals: the values look like numbers to predict "
        "(regression), which this program does not do, in 1 row (line 1). "
        "Fill in, mend or remove these rows",
    ),
    "a text of a wrong type": (
        "x.jsonl",
        b'{"text": 5, "label": "a"}',
        "`{path}`: column 'text' holds int, expected text, in 1 row (line 1). Fill in, mend or remove these rows",
    ),
    "half a surrogate pair": (
        "x.jsonl",
        rb'{"text": "\ud83d", "label": "a"}',
        "`{path}`: column 'text' holds half a surrogate pair in 1 row (line 1). Fill in, mend or remove these rows",
    ),
    "another encoding": (
        "x.csv",
        b"text,label\nt,a\ngr\xf6\xdfer,b\n",
        "`{path}`: line 3 is not UTF-8 (byte 0xf6; read as CP1252: 'größer,b'). Save the file as UTF-8, or convert it "
        "from the encoding it has: iconv -f CP1252 -t UTF-8, if it comes from a Western Windows program",
    ),
    "a line that is no object": (
        "x.jsonl",
        b'{"text": "t", "label": "a"}\n[1]\n',
        "`{path}`: line 2 is no JSON object: [1]",
    ),
    "a CSV row of another width": (
        "x.csv",
        b"text,label\nhello, world,a\n",
        "`{path}`: line 2 has 3 fields, the header 2, divided by comma (','): hello, world,a. So have 1 of 1 rows. "
        "Quote or remove what divides the fields inside a text, use JSON Lines, or set data.delimiter",
    ),
    "a lone quote in a CSV": (
        "x.csv",
        b'text,label\n"hello,a\n"world",b\n',
        "`{path}`: line 2 is not valid CSV: a quoted field is not closed, or something follows its closing quote: "
        '"hello,a. Double the quotes inside a quoted field, or use JSON Lines',
    ),
}


@pytest.mark.parametrize(("name", "content", "message"), FAULTY_CONTENTS.values(), ids=FAULTY_CONTENTS)
def test_faulty_content_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(DataError, match=f"^{re.escape(message.format(path=path))}$"):
        read_rows(path)


DAMAGED = {
    "no JSON": ("x.jsonl", b'{"text": "t", "label"', "line 1 is not valid JSON: "),
    "a torn gzip file": (
        "x.jsonl.gz",
        gzip.compress(b'{"text": "t", "label": "a"}\n' * 9)[:-9],
        "is no whole gzip file: ",
    ),
    "no gzip file": ("x.jsonl.gz", b'{"text": "t"}', "is no whole gzip file: "),
    "no Parquet file": ("x.parquet", b"text,label\nt,a\n", "is no whole Parquet file: "),
}


@pytest.mark.parametrize(("name", "content", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_the_datas_fault_not_the_nodes(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_rows(tmp_path / name)

    assert not isinstance(caught.value.__cause__, OSError)


def test_a_parquet_without_the_column_lists_those_there(tmp_path: Path) -> None:
    pq.write_table(pa.table({"label": ["a"], "body": ["t"]}), tmp_path / "x.parquet")

    with pytest.raises(DataError, match="column 'text' does not exist; columns: label, body"):
        read_rows(tmp_path / "x.parquet")
