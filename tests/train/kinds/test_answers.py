"""Answers in words are scored as the published scripts of SQuAD and DROP score them."""

import pytest

from xautolm_hpc.train.kinds.answers import drop_scores, row_scores, squad_scores
from xautolm_hpc.train.kinds.metrics import score_answers


@pytest.mark.parametrize(
    ("answer", "references", "exact", "f1"),
    [
        ("1976", ["1976"], 1.0, 1.0),  # the example of the metric's published card
        ("the Denver Broncos.", ["Denver Broncos", "Denver Broncos", "The Denver Broncos"], 1.0, 1.0),
        ("Broncos", ["Denver Broncos"], 0.0, 2 / 3),
        ("a big black dog", ["black dogs", "big dog"], 0.0, 4 / 5),  # 2 of 3 words and 2 of 2
        ("cat cat", ["cat"], 0.0, 2 / 3),  # words count as often as they stand
        ("the", ["a"], 1.0, 1.0),  # nothing is left of either
        ("", [], 1.0, 1.0),  # no answer, and there is none
        ("something", [], 0.0, 0.0),
        ("", ["something"], 0.0, 0.0),
    ],
)
def test_squad(answer: str, references: list[str], exact: float, f1: float) -> None:
    scores = squad_scores(answer, [(reference,) for reference in references])

    assert scores == pytest.approx((exact, f1))


# Predictions, gold spans and scores as the published tests of DROP's evaluation state them.
PUBLISHED = [
    (["78"], ["78.0"], 1.0, 1.0),
    (["td"], ["the td"], 1.0, 1.0),
    (["the a NOT an ARTICLE the an a"], ["NOT ARTICLE"], 1.0, 1.0),
    (["John Elton"], ["Elton John"], 0.0, 1.0),
    (["50 yard"], ["yard 50"], 0.0, 1.0),
    (["Per.i.o.d...."], [".P....e.r,,i;;;o...d,,"], 1.0, 1.0),
    (["Spa     c  e   s     "], ["    Spa c     e s"], 1.0, 1.0),
    (["78-yard"], ["78 yard"], 1.0, 1.0),
    (["78"], ["78-yard"], 0.0, 0.67),
    (["78-yard"], ["78"], 0.0, 0.67),
    (["This was a triumph"], ["tHIS Was A TRIUMPH"], 1.0, 1.0),
    (["Green bay packers"], ["Green bay packers"], 1.0, 1.0),
    (["cat"], ["the", "fat", "cat", "the fat", "fat cat", "the fat cat"], 0.0, 0.17),
    (["the", "fat", "cat", "the fat", "fat cat", "the fat cat"], ["cat", "cat dog"], 0.0, 0.25),
]


@pytest.mark.parametrize(("spans", "gold", "exact", "f1"), PUBLISHED)
def test_drop_as_published(spans: list[str], gold: list[str], exact: float, f1: float) -> None:
    assert drop_scores("; ".join(spans), [tuple(gold)]) == (exact, f1)


def test_a_number_that_is_not_the_reference_s_scores_nothing() -> None:
    assert drop_scores("12 yards", [("15 yards",)]) == (0.0, 0.0)
    assert drop_scores("15 metres", [("15 yards",)]) == (0.0, 0.5)


def test_the_best_reference_counts_and_an_empty_one_does_not() -> None:
    assert drop_scores("ten", [("",), ("10",), ("ten",)]) == (1.0, 1.0)
    assert drop_scores("", [("",)]) == (0.0, 0.0)


def test_scores_are_averaged_over_questions() -> None:
    pairs = row_scores("squad-f1", ["Rome", "Oslo town"], references=[[("Rome",)], [("Oslo",)]])
    scores = score_answers(pairs, loss=0.5)

    assert pairs.tolist() == [[1.0, 1.0], [0.0, pytest.approx(2 / 3)]]
    assert (scores.exact_match, scores.f1) == pytest.approx((0.5, (1 + 2 / 3) / 2))
