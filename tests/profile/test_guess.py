"""What is guessed of data, and what is asked instead of guessed."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from xautolm_hpc.errors import DataError
from xautolm_hpc.profile.guess import guess_data

TEXTS = [
    f"the {word} of case {number} is not as it was said to be" for number in range(15) for word in ("end", "price")
]
TEAMS = ["north", "south", "west"]


def write_csv(path: Path, columns: Mapping[str, Sequence[object]], delimiter: str = ",") -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def teams(n_rows: int = len(TEXTS)) -> list[str]:
    return [TEAMS[row % len(TEAMS)] for row in range(n_rows)]


def write_jsonl(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_columns_of_other_names_and_a_semicolon_are_found_by_their_content(tmp_path: Path) -> None:
    columns = {"nr": range(len(TEXTS)), "nachricht": TEXTS, "abteilung": teams()}

    guess = guess_data(write_csv(tmp_path / "a.csv", columns, ";"), given={})

    assert guess.kind == "text-classification"
    assert guess.columns == {"text": "nachricht", "label": "abteilung"}
    assert guess.delimiter == ";"
    assert guess.unused == ("nr",)
    assert guess.n_rows == {"train": 30}


def test_usual_names_come_before_content(tmp_path: Path) -> None:
    rows = [
        {"Tweet": text[:20], "url": f"{text} {text}", "lang": "en" if row % 2 else "de", "emotion": row % 4}
        for row, text in enumerate(TEXTS)
    ]

    guess = guess_data(write_jsonl(tmp_path / "tweets.jsonl", rows), given={})

    assert guess.columns == {"text": "Tweet", "label": "emotion"}
    assert guess.delimiter is None


def test_a_part_of_a_name_is_enough_where_one_column_has_it(tmp_path: Path) -> None:
    columns = {"body": TEXTS, "ticket_category": teams(), "branch": teams()[::-1]}

    assert guess_data(write_csv(tmp_path / "a.csv", columns), given={}).columns["label"] == "ticket_category"


def test_two_columns_that_could_be_the_label_are_not_guessed(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", {"note": TEXTS, "north": teams(), "south": teams()[::-1]})

    with pytest.raises(DataError, match=r"2 could be it: north, south; columns: note \(str, 13 words, 30 different\)"):
        guess_data(path, given={})
    assert guess_data(path, given={"label": "south"}).columns == {"text": "note", "label": "south"}


def test_no_column_that_repeats_is_an_error_that_names_the_columns_and_the_option(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", {"id": range(len(TEXTS)), "note": TEXTS})

    with pytest.raises(DataError, match=r"label is not clear: none repeats .*; columns: id .*note .*--label COLUMN"):
        guess_data(path, given={})


def test_a_column_that_was_said_but_does_not_exist_is_an_error(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", {"note": TEXTS, "team": teams()})

    with pytest.raises(DataError, match=r"no column 'tema' \(--label\); its columns: note, team"):
        guess_data(path, given={"label": "tema"})


def test_a_folder_with_one_readable_file_is_that_file(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "survey.csv", {"note": TEXTS, "team": teams()})
    (tmp_path / "notes.docx").write_bytes(b"PK")

    assert guess_data(tmp_path, given={}).path == path


def test_a_folder_with_splits_keeps_them(tmp_path: Path) -> None:
    for name, n_rows in (("train", 30), ("validation", 12), ("test", 9)):
        write_csv(tmp_path / f"{name}.tsv", {"note": TEXTS[:n_rows], "team": teams(n_rows)}, "\t")

    guess = guess_data(tmp_path, given={})

    assert guess.path == tmp_path
    assert guess.n_rows == {"train": 30, "validation": 12, "test": 9}
    assert guess.delimiter == "\t"


def test_a_folder_without_readable_files_is_an_error_that_lists_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes.docx").write_bytes(b"PK")

    with pytest.raises(DataError, match=r"has no file that can be read; read are \.jsonl.*, found: notes\.docx"):
        guess_data(tmp_path, given={})

    (tmp_path / "one.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"found: notes\.docx, one\.xlsx\. For \.xlsx: save the table as CSV$"):
        guess_data(tmp_path, given={})


def test_a_folder_with_files_of_unknown_role_is_an_error(tmp_path: Path) -> None:
    for name in ("may.csv", "june.csv"):
        write_csv(tmp_path / name, {"note": TEXTS, "team": teams()})

    with pytest.raises(DataError, match=r"2 files and none is called train: june\.csv, may\.csv"):
        guess_data(tmp_path, given={})


def test_answers_that_stand_in_their_context_are_extracted(tmp_path: Path) -> None:
    rows = [
        {"question": f"which {n}?", "context": f"it is case {n} of many", "answers": [f"case {n}"]} for n in range(6)
    ]

    guess = guess_data(write_jsonl(tmp_path / "qa.jsonl", rows), given={})

    assert guess.kind == "question-answering"
    assert guess.columns == {"question": "question", "context": "context", "answers": "answers"}


def test_answers_that_stand_nowhere_are_generated(tmp_path: Path) -> None:
    rows = [{"query": f"how many {n}?", "passage": "some and more", "answer": str(n)} for n in range(6)]

    guess = guess_data(write_jsonl(tmp_path / "qa.jsonl", rows), given={})

    assert guess.kind == "text-generation"
    assert guess.columns == {"question": "query", "context": "passage", "answers": "answer"}


def test_a_label_that_stands_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "note,team,team\n" + "".join(f"{text},{name},x\n" for text, name in zip(TEXTS, teams(), strict=True))
    )

    with pytest.raises(DataError, match="column 'team' stands twice in the header; rename one"):
        guess_data(path, given={})


def write_header(path: Path, header: str) -> Path:
    """Write a file whose first columns hold texts and whose last one holds classes, under any header."""
    n_texts = header.count(",")
    rows = [",".join([text] * n_texts + [label]) for text, label in zip(TEXTS, teams(), strict=True)]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.mark.parametrize(
    ("header", "given", "doubled"),
    [
        ("text,text,label", {}, "text"),
        ("text,text,comment,label", {}, "text"),
        ("notiz,notiz,label", {"text": "notiz"}, "notiz"),
        ("Text,Text", {}, "Text"),
    ],
)
def test_a_wanted_column_that_stands_twice_is_named(
    tmp_path: Path, header: str, given: Mapping[str, str], doubled: str
) -> None:
    path = write_header(tmp_path / "a.csv", header)

    with pytest.raises(DataError, match=f"a.csv`: column '{doubled}' stands twice in the header; rename one"):
        guess_data(path, given=given)


def test_columns_that_are_said_may_stand_beside_others_that_stand_twice(tmp_path: Path) -> None:
    path = write_header(tmp_path / "a.csv", "text,text,comment,label")

    guess = guess_data(path, given={"text": "comment", "label": "label"})

    assert guess.columns == {"text": "comment", "label": "label"}


def test_where_nothing_is_clear_the_columns_that_stand_twice_are_noted(tmp_path: Path) -> None:
    path = write_header(tmp_path / "a.csv", "notiz,notiz,label")

    with pytest.raises(DataError, match="no column beside the label 'label' holds text") as caught:
        guess_data(path, given={})

    assert caught.value.__notes__ == ["column 'notiz' stands twice in the header; rename one"]


def test_text_and_label_are_two_columns(tmp_path: Path) -> None:
    path = write_header(tmp_path / "a.csv", "comment,label")

    with pytest.raises(DataError, match="--text and --label both name column 'label'; expected two columns"):
        guess_data(path, given={"text": "label", "label": "label"})


def test_a_column_called_label_is_the_label_also_if_it_holds_one_class(tmp_path: Path) -> None:
    columns = {"text": TEXTS, "label": ["spam"] * len(TEXTS), "language": teams()}

    guess = guess_data(write_csv(tmp_path / "a.csv", columns), given={})

    assert guess.columns == {"text": "text", "label": "label"}


def test_a_usual_name_is_enough_where_nothing_repeats(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", {"note": TEXTS, "category": [f"c{row}" for row in range(len(TEXTS))]})

    assert guess_data(path, given={}).columns == {"text": "note", "label": "category"}


def test_a_constant_column_of_a_usual_name_does_not_hide_the_classes(tmp_path: Path) -> None:
    columns = {"note": TEXTS, "language": ["en"] * len(TEXTS), "abteilung": teams()}

    assert guess_data(write_csv(tmp_path / "a.csv", columns), given={}).columns["label"] == "abteilung"


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_numbers_with_decimals_are_called_regression(tmp_path: Path, name: str) -> None:
    columns: dict[str, Sequence[object]] = {"text": TEXTS, "rating": [row + 0.37 for row in range(len(TEXTS))]}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    path = write_csv(tmp_path / name, columns) if name == "a.csv" else write_jsonl(tmp_path / name, rows)

    with pytest.raises(DataError, match=r"column 'rating': the values look like numbers to predict \(regression\)"):
        guess_data(path, given={})
    with pytest.raises(DataError, match="regression"):
        guess_data(path, given={"label": "rating"})


def test_a_file_of_one_column_lacks_one_with_the_label(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("Text\na\nb, c\n")

    with pytest.raises(DataError, match="has one column, 'Text': a column with the label is missing"):
        guess_data(tmp_path / "rows.csv", given={})
