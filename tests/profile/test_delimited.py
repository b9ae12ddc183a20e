"""CSV and TSV files are read as people's programs write them, and what is not clear is refused."""

import csv
import dataclasses
import gzip
import io
import random
import re
from pathlib import Path

import pytest

from tests.profile.profile_samples import NODE, make_request, sample_rows
from xautolm_hpc.errors import DataError
from xautolm_hpc.profile import profile_task
from xautolm_hpc.profile.formats import read_file

COLUMNS = {"text": "text", "label": "label"}


def read(path: Path, content: str | bytes, *, delimiter: str | None = None) -> list[tuple[object, ...]]:
    raw = content.encode() if isinstance(content, str) else content
    return list(read_file(path, raw, columns=COLUMNS, delimiter=delimiter).cells)


WRITTEN = {
    "a space before a quote": ("x.csv", 'text,label\n"a, b", "spam"\n', [("a, b", "spam")]),
    "blanks on both sides of quotes": ("x.csv", 'text , label\n "a, b"\t, "spam" \n', [("a, b", "spam")]),
    "semicolons": ("x.csv", "text;label\na, b;spam\n", [("a, b", "spam")]),
    "decimal commas": (
        "x.csv",
        "text;score;label\na;0,5;spam\nb;1,25;ham\n",
        [("a", "spam"), ("b", "ham")],
    ),
    "tabs in .csv": ("x.csv", "text\tlabel\na; b, c\tspam\n", [("a; b, c", "spam")]),
    "vertical bars": ("x.csv", "id|text|label\n1|a, b|spam\n", [("a, b", "spam")]),
    "commas in .tsv": ("x.tsv", "text,label\na\tb,spam\n", [("a\tb", "spam")]),
    "a quoted header": ("x.csv", '"text";"label"\n"a;b";"spam"\n', [("a;b", "spam")]),
    "a header that holds another delimiter": ("x.csv", '"x;y",text,label\n1,a,spam\n', [("a", "spam")]),
    "a byte order mark and CRLF": ("x.csv", "\ufefftext;label\r\na;spam\r\n", [("a", "spam")]),
    "carriage returns alone": ("x.csv", "text,label\ra,spam\rb,ham", [("a", "spam"), ("b", "ham")]),
    "line ends and quotes in quotes": (
        "x.csv",
        'text,label\n"a\r\nsaid ""b""",spam\n',
        [('a\r\nsaid "b"', "spam")],
    ),
    "line ends in a quoted TSV": (
        "x.tsv",
        'text\tlabel\n"a\nb\tc"\tspam\nd\tham\n',
        [("a\nb\tc", "spam"), ("d", "ham")],
    ),
    "a space before a quote in a TSV": ("x.tsv", 'text\tlabel\na\t "spam"\n', [("a", "spam")]),
    "quotes inside a field": ("x.csv", 'text,label\n5" disk,hw\n', [('5" disk', "hw")]),
    "blank lines": ("x.csv", "\n  \ntext,label\n\na,spam\n   \n,\nb,ham\n\n", [("a", "spam"), ("b", "ham")]),
    "Excel's first line": ("x.csv", "sep=;\r\ntext;label\r\na,b;spam\r\n", [("a,b", "spam")]),
    "no last line end": ("x.csv", 'text,label\na,"spam"', [("a", "spam")]),
    "an empty last field": ("x.csv", "text,label,note\na,spam,\nb,ham,", [("a", "spam"), ("b", "ham")]),
}


@pytest.mark.parametrize(("name", "content", "rows"), WRITTEN.values(), ids=WRITTEN)
def test_a_file_is_read_as_it_was_meant(tmp_path: Path, name: str, content: str, rows: list[tuple[str, str]]) -> None:
    assert read(tmp_path / name, content) == rows


@pytest.mark.parametrize("name", ["x.csv.gz", "x.tsv.gz"])
def test_a_gzip_file_is_read_as_what_it_holds(tmp_path: Path, name: str) -> None:
    content = gzip.compress(b"text\tlabel\na\tspam\n")

    assert read(tmp_path / name, content) == [("a", "spam")]


@pytest.mark.parametrize("delimiter", list(",;\t|~"))
def test_whatever_csv_writes_is_read_back(tmp_path: Path, delimiter: str) -> None:

    rng = random.Random(7)
    rows = [("".join(rng.choices('ab ,;\t|"\n\r', k=12)) + "x", rng.choice(["spam", 'h"am'])) for _ in range(300)]
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *rows])

    assert read(tmp_path / "x.csv", written.getvalue(), delimiter=delimiter if delimiter == "~" else None) == rows


REFUSED = {
    "several delimiters": (
        "text;label,x\na;b,c\n",
        "what divides its columns is not clear: comma (',') gives ['text;label', 'x']; semicolon (';') gives "
        "['text', 'label,x']. Set data.delimiter",
    ),
    "one column": (
        "text\nhello\n",
        "column 'label' does not exist; columns: text. Set data.label, or data.delimiter: comma (',') divides nothing",
    ),
    "a row that is too long": (
        "text;label\na;spam\n\nb;c;ham\nd;spam\n",
        "line 4 has 3 fields, the header 2, divided by semicolon (';'): b;c;ham. So have 1 of 3 rows",
    ),
    "a row that is too short, after a quoted line end": (
        'text,label\n"a\nb",spam\nc\n',
        "line 4 has 1 fields, the header 2, divided by comma (','): c. So have 1 of 2 rows",
    ),
    "a quote that is not closed": (
        'text,label\na,spam\n"b,ham\nc,ham\n',
        'line 3 is not valid CSV: a quoted field is not closed, or something follows its closing quote: "b,ham',
    ),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_clear_is_refused_with_file_and_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(f"`{tmp_path / 'x.csv'}`: {message}")):
        read(tmp_path / "x.csv", content)


def test_the_delimiter_that_is_set_decides(tmp_path: Path) -> None:
    content = "text;label\na,b;spam\n"

    assert read(tmp_path / "x.tsv", content, delimiter=";") == [("a,b", "spam")]
    with pytest.raises(DataError, match=r"columns: text;label\. Set data\.text, or data\.delimiter: comma"):
        read(tmp_path / "x.csv", content, delimiter=",")


def test_a_semicolon_file_with_blanks_is_profiled_without_quotes_in_its_classes(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text; label\n" + "".join(f'"{row.text}"; "{row.label}"\n' for row in sample_rows(60)))

    task = profile_task(make_request(path, tmp_path), system=NODE).task

    assert task.labels == ("jobs", "storage")


def test_a_delimiter_for_no_file_is_refused(tmp_path: Path) -> None:

    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "label": "b"}\n')
    request = dataclasses.replace(make_request(path, tmp_path), delimiter=";")

    with pytest.raises(DataError, match=r"data\.delimiter = ';', but no file of .* is one of \.csv, "):
        profile_task(request, system=NODE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\n'a','spam'\n'b','ham'\n", "every cell of column 'text' is in single quotes"),
        ("text,label\na,'spam'\nb,'ham'\n", "every cell of column 'label' is in single quotes"),
        ("text;label\na; 'spam'\nb;'it''s'\n", "every cell of column 'label' is in single quotes"),
        ("'text','label'\n'a','spam'\n", "its column names are in single quotes"),
        ('"text,label"\n"a,spam"\n', "quotes stand around whole lines: the header is one field, 'text,label'"),
        ('"text;label"\n"a;spam"\n', "quotes stand around whole lines"),
    ],
)
def test_quotes_that_would_become_part_of_the_data_are_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        read(tmp_path / "x.csv", content)


def test_a_text_in_single_quotes_among_others_is_left_as_it_is(tmp_path: Path) -> None:
    assert read(tmp_path / "x.csv", "text,label\n'a',spam\nb,ham\n") == [("'a'", "spam"), ("b", "ham")]
