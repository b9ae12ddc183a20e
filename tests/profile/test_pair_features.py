"""The eleven features of prompts and targets, by hand, and on SQuAD beside what was published."""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xautolm_hpc.profile.features_pairs import (
    FEATURES,
    SEMANTIC,
    describe_pairs,
    make_prompt,
    mean_cosine,
    rouge_l,
    words_of,
)
from xautolm_hpc.profile.features_semantic import embed_pairs, embed_texts
from xautolm_hpc.profile.features_stem import stem
from xautolm_hpc.profile.question_features import describe_questions
from xautolm_hpc.profile.questions import Answer, Question

# Forms and stems that Porter's paper gives, step by step.
PUBLISHED = {
    "caresses": "caress", "ponies": "poni", "ties": "ti", "caress": "caress", "cats": "cat", "feed": "feed",
    "agreed": "agre", "plastered": "plaster", "bled": "bled", "motoring": "motor", "sing": "sing",
    "conflated": "conflat", "troubled": "troubl", "sized": "size", "hopping": "hop", "tanned": "tan",
    "falling": "fall", "hissing": "hiss", "fizzed": "fizz", "failing": "fail", "filing": "file", "happy": "happi",
    "sky": "sky", "relational": "relat", "conditional": "condit", "rational": "ration", "valenci": "valenc",
    "digitizer": "digit", "conformabli": "conform", "radicalli": "radic", "differentli": "differ", "vileli": "vile",
    "analogousli": "analog", "vietnamization": "vietnam", "predication": "predic", "operator": "oper",
    "feudalism": "feudal", "decisiveness": "decis", "hopefulness": "hope", "callousness": "callous",
    "formaliti": "formal", "sensitiviti": "sensit", "sensibiliti": "sensibl", "triplicate": "triplic",
    "formative": "form", "formalize": "formal", "electriciti": "electr", "electrical": "electr", "hopeful": "hope",
    "goodness": "good", "revival": "reviv", "allowance": "allow", "inference": "infer", "airliner": "airlin",
    "gyroscopic": "gyroscop", "adjustable": "adjust", "defensible": "defens", "irritant": "irrit",
    "replacement": "replac", "adjustment": "adjust", "dependent": "depend", "adoption": "adopt", "homologou": "homolog",
    "communism": "commun", "activate": "activ", "angulariti": "angular", "homologous": "homolog",
    "effective": "effect", "bowdlerize": "bowdler", "probate": "probat", "rate": "rate", "cease": "ceas",
    "controll": "control", "roll": "roll",
}  # fmt: skip


def test_words_are_stemmed_as_porter_published() -> None:
    assert {word: stem(word) for word in PUBLISHED} == PUBLISHED


def test_words_have_letters_only_and_say_something() -> None:
    assert words_of("The U.S. army's 3 tanks, and Rome!") == ["army", "tanks", "rome"] or words_of(
        "The U.S. army's 3 tanks, and Rome!"
    ) == ["armys", "tanks", "rome"]


def test_features_of_two_rows_by_hand() -> None:
    pairs = [("red cats sleep", "cats"), ("red dogs", "blue dogs run")]

    found = dict(zip(FEATURES, describe_pairs(pairs, cosine=0.5), strict=True))

    assert found["n_samples"] == 2
    assert (found["mean_prompt_chars"], found["std_prompt_chars"]) == (11.0, 3.0)
    assert (found["mean_target_chars"], found["std_target_chars"]) == (8.5, 4.5)
    assert found["prompt_lexical_diversity"] == 4 / 5
    assert found["target_lexical_diversity"] == 4 / 4
    assert found["mean_length_ratio"] == pytest.approx((4 / 14 + 13 / 8) / 2)
    assert found["vocabulary_novelty"] == pytest.approx((0 + 2 / 3) / 2)
    assert found["mean_cosine"] == 0.5
    assert found["mean_rouge_l"] == pytest.approx((2 * 1 / (1 + 3) + 2 * 1 / (3 + 2)) / 2)


@pytest.mark.parametrize(
    "pair", [("", ""), ("a", ""), ("", "a"), ("!?", "…"), ("\x00\ud7ff", "日本語" * 2000), ("x" * 10**5, "x")]
)
def test_odd_rows_give_finite_numbers_or_none(pair: tuple[str, str]) -> None:
    found = describe_pairs([pair], cosine=None)

    assert len(found) == 11
    assert all(value is None or math.isfinite(value) for value in found)


WORDS = st.lists(st.sampled_from(["cat", "cats", "dog", "running", "run", "of", "sky"]), min_size=1, max_size=12)


@given(WORDS, WORDS)
@settings(max_examples=200, deadline=None)
def test_rouge_l_equals_the_textbook_recursion(target: list[str], prompt: list[str]) -> None:
    a, b = ([stem(w) if len(w) > 3 else w for w in words] for words in (target, prompt))
    table = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    for i in range(len(a)):
        for j in range(len(b)):
            table[i + 1, j + 1] = table[i, j] + 1 if a[i] == b[j] else max(table[i, j + 1], table[i + 1, j])

    assert rouge_l(" ".join(target), " ".join(prompt)) == pytest.approx(2 * table[-1, -1] / (len(a) + len(b)))


def test_the_mean_cosine_leaves_out_rows_without_direction() -> None:
    prompts = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]], dtype=np.float32)
    targets = np.array([[0.0, 2.0], [3.0, 3.0], [1.0, 0.0]], dtype=np.float32)

    assert mean_cosine(prompts, targets) == pytest.approx(0.5)
    assert mean_cosine(prompts[2:], targets[2:]) is None


def test_texts_of_like_meaning_have_like_vectors(capfd: pytest.CaptureFixture[str]) -> None:
    texts = ["A man is eating food.", "Someone eats a meal.", "The stock market fell sharply today.", ""]

    vectors = embed_texts(texts)

    assert vectors is not None
    assert vectors.shape == (4, 384)
    assert np.linalg.norm(vectors[:3], axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[1] > 0.6 > 0.2 > abs(vectors[0] @ vectors[2])
    assert capfd.readouterr() == ("", "")


def test_squad_is_near_what_was_published_of_all_of_it(shared_dir: Path) -> None:
    with gzip.open(shared_dir / "datasets" / "squad" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for _, line in zip(range(1500), lines, strict=False)]
    pairs = [(make_prompt(row["context"], row["question"]), row["answers"][0]["text"]) for row in rows]

    semantic = embed_pairs(pairs[::15])
    assert semantic is not None
    found = dict(zip(FEATURES, describe_pairs(pairs, cosine=semantic[1]), strict=True))

    # Published of 87,599 rows: 842 and 20 characters, novelty .0075, cosine .33, ROUGE-L .051.
    assert found["mean_prompt_chars"] == pytest.approx(842, rel=0.25)
    assert found["mean_target_chars"] == pytest.approx(20, rel=0.3)
    assert found["vocabulary_novelty"] == pytest.approx(0.0075, abs=0.02)
    assert found["mean_cosine"] == pytest.approx(0.33, abs=0.06)
    assert found["mean_rouge_l"] == pytest.approx(0.051, abs=0.012)
    assert len(semantic[0]) == 384


def test_questions_are_described_with_their_meaning() -> None:
    answer = Answer(0, ("Rome",))
    rows = [Question("Rome is old.", "Which town is old?", (answer,)), Question("Rome is old.", "Who?", ())]

    found, semantic = describe_questions(rows, n_threads=1)

    assert len(found) == len(FEATURES)
    assert found[SEMANTIC] is not None
    assert semantic is not None
    assert len(semantic) == 384
