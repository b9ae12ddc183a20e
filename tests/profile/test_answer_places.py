"""An answer stands where its start says, in whatever unit; else at its nearest mention, which is counted."""

from pathlib import Path

import pytest

from xautolm_hpc.errors import DataError
from xautolm_hpc.profile.answer_places import Mention, Unit, find_unit
from xautolm_hpc.profile.questions import Question, normalise_questions

COLUMNS = ("question", "context", "answers")
CONTEXT = "Über 😀 Łódź: Łódź is a city; who was born in Łódź? Ada, in Łódź."
PLACES = [index for index in range(len(CONTEXT)) if CONTEXT.startswith("Łódź", index)]


def _read(rows: list[tuple[str, object]]) -> tuple[list[Question], list[str]]:
    notes: list[str] = []
    cells = [("where?", context, answers) for context, answers in rows]
    read = normalise_questions(Path("q.jsonl"), cells, columns=COLUMNS, is_extractive=True, note=notes.append)
    return read, notes


def _starts(rows: list[Question]) -> list[int]:
    return [answer.start for row in rows for answer in row.answers]


def _in_bytes(place: int) -> int:
    return len(CONTEXT[:place].encode())


def _in_utf16(place: int) -> int:
    return len(CONTEXT[:place].encode("utf-16-le")) // 2


@pytest.mark.parametrize(("convert", "unit"), [(_in_bytes, "UTF-8 bytes"), (_in_utf16, "UTF-16 code units")])
def test_starts_that_count_another_unit_are_converted_and_told(convert: object, unit: str) -> None:
    assert callable(convert)
    rows: list[tuple[str, object]] = [(CONTEXT, [{"text": "Łódź", "answer_start": convert(place)}]) for place in PLACES]

    read, notes = _read(rows)

    assert _starts(read) == PLACES
    assert notes == [f"`q.jsonl`: answer_start counts {unit}, not characters: 4 were converted"]


@pytest.mark.parametrize("shift", [-3, -1, 2, 3])
def test_a_start_that_is_off_moves_to_the_nearest_mention_not_the_first(shift: int) -> None:
    rows: list[tuple[str, object]] = [(CONTEXT, [{"text": "Łódź", "answer_start": PLACES[-1] + shift}])]

    read, notes = _read(rows)

    assert _starts(read) == [PLACES[-1]]
    assert notes == [
        "`q.jsonl`: 1 of 1 answers do not stand where answer_start says, first in row 1: moved to their nearest "
        f"mentions, by {abs(shift)} characters at most"
    ]


def test_starts_that_are_right_are_not_touched_where_others_are_off() -> None:
    rows: list[tuple[str, object]] = [
        (CONTEXT, [{"text": "Łódź", "answer_start": PLACES[2]}]),
        (CONTEXT, [{"text": "Łódź", "answer_start": 10_000}]),
    ]

    read, notes = _read(rows)

    assert _starts(read) == [PLACES[2], PLACES[3]]
    assert len(notes) == 1
    assert "1 of 2 answers do not stand where answer_start says, first in row 2" in notes[0]


def test_one_wrong_start_does_not_hide_the_unit_of_all_others() -> None:
    starts = [*[_in_bytes(PLACES[3])] * 30, _in_bytes(PLACES[2]) + 1]
    rows: list[tuple[str, object]] = [(CONTEXT, [{"text": "Łódź", "answer_start": start}]) for start in starts]

    read, notes = _read(rows)

    assert _starts(read) == [*[PLACES[3]] * 30, PLACES[2]]
    assert len(notes) == 2


def test_answers_without_a_start_take_the_first_mention_and_say_so() -> None:
    read, notes = _read([(CONTEXT, ["Łódź"]), (CONTEXT, [{"text": "Łódź", "answer_start": -1}]), (CONTEXT, ["Ada"])])

    assert _starts(read) == [PLACES[0], PLACES[0], CONTEXT.index("Ada")]
    assert notes == [
        "`q.jsonl`: 2 answers have no answer_start, and several mentions in their context: the first is taken"
    ]


def test_an_answer_that_stands_nowhere_is_refused() -> None:
    rows: list[tuple[str, object]] = [(CONTEXT, ["Ada"]), (CONTEXT, [{"text": "Lodz", "answer_start": 5}])]

    with pytest.raises(DataError, match=r"answer that does not occur in its context; that in 1 row \(row 2\)"):
        _read(rows)


def test_questions_without_an_answer_stay_and_are_no_note() -> None:
    read, notes = _read([(CONTEXT, []), (CONTEXT, {"text": [], "answer_start": []})])

    assert [row.answers for row in read] == [(), ()]
    assert notes == []


def test_starts_of_plain_text_count_characters() -> None:
    assert find_unit([Mention("a b", "b", 2), Mention("a b", "b", 0), Mention("a b", "b", None)]) is Unit.CHARACTER
    assert find_unit([]) is Unit.CHARACTER


def test_a_near_start_prefers_whole_words_to_parts_of_words() -> None:
    context = "cats chase a cat that is no catfish"
    rows: list[tuple[str, object]] = [
        (context, [{"text": "cat", "answer_start": 26}]),
        (context, [{"text": "cat"}]),
        (context, [{"text": "cat", "answer_start": 28}]),
    ]

    read, _ = _read(rows)

    assert _starts(read) == [13, 13, 28]  # the last one stands where it says


@pytest.mark.parametrize("convert", [_in_bytes, _in_utf16])
def test_one_start_that_fits_another_unit_goes_before_a_nearer_mention(convert: object) -> None:
    assert callable(convert)
    starts = [*PLACES * 5, convert(PLACES[-1])]
    rows: list[tuple[str, object]] = [(CONTEXT, [{"text": "Łódź", "answer_start": start}]) for start in starts]

    read, notes = _read(rows)

    assert _starts(read) == PLACES * 5 + [PLACES[-1]]
    assert notes == [
        "`q.jsonl`: 1 of 21 answers stand where answer_start says only if it counts UTF-8 bytes or UTF-16 code units: "
        "these were converted"
    ]


@pytest.mark.parametrize(("start", "expected"), [(-1, PLACES[0]), (float(PLACES[2]), PLACES[2]), (None, PLACES[0])])
def test_a_start_below_0_is_none_and_a_float_that_is_whole_counts(start: object, expected: int) -> None:
    read, _ = _read([(CONTEXT, [{"text": "Łódź", "answer_start": start}])])

    assert _starts(read) == [expected]


def test_a_start_that_is_a_fraction_is_refused() -> None:
    with pytest.raises(DataError, match="holds an answer_start that is no whole number"):
        _read([(CONTEXT, [{"text": "Łódź", "answer_start": 2.5}])])
