"""Rows become tokens and batches: every row once an epoch, similar lengths together, the same order every time."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tests.train.attempts import LABELS, minilm, write_split
from tests.train.tiny import tiny_tokens
from xautolm_hpc.train.data import (
    Tokens,
    collate,
    n_epoch_steps,
    pad,
    plan_epoch,
    plan_evaluation,
    read_rows,
    take_share,
)
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.kinds.classification import Classification, class_weights, label_indices
from xautolm_hpc.train.pretrained import find_source
from xautolm_hpc.train.ragged import pack, pad_rows

CPU = torch.device("cpu")


@given(
    n_rows=st.integers(1, 300), batch_size=st.integers(1, 16), accumulation=st.integers(1, 5), seed=st.integers(0, 9)
)
def test_every_row_occurs_once_in_an_epoch_of_the_planned_number_of_steps(
    n_rows: int, batch_size: int, accumulation: int, seed: int
) -> None:
    lengths = np.random.default_rng(seed).integers(1, 50, size=n_rows)

    steps = plan_epoch(lengths, batch_size=batch_size, accumulation=accumulation, rng=np.random.default_rng([seed, 0]))

    rows = np.concatenate([rows for step in steps for rows in step])
    assert sorted(rows) == list(range(n_rows))
    assert len(steps) == n_epoch_steps(n_rows, batch_size=batch_size, accumulation=accumulation)
    assert len(steps) == -(-n_rows // (batch_size * accumulation))
    assert max(len(step) for step in steps) <= accumulation
    assert max(len(rows) for step in steps for rows in step) <= batch_size
    assert lengths[steps[0][0]].max() == lengths.max()


def test_the_order_follows_from_the_seed_and_changes_with_the_epoch() -> None:
    lengths = tiny_tokens(40).lengths

    def plan(epoch: int) -> list[int]:
        steps = plan_epoch(lengths, batch_size=4, accumulation=1, rng=np.random.default_rng([7, epoch]))
        return [int(row) for step in steps for rows in step for row in rows]

    assert plan(0) == plan(0)
    assert plan(0) != plan(1)


def test_rows_of_similar_length_share_a_batch() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, size=1000)

    steps = plan_epoch(lengths, batch_size=10, accumulation=1, rng=np.random.default_rng(0))

    padded = sum(len(rows) * lengths[rows].max() for step in steps for rows in step)
    assert padded / lengths.sum() < 1.1


def test_rows_share_their_batch_with_others_in_each_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, size=400)

    def neighbours(epoch: int) -> set[tuple[int, int]]:
        steps = plan_epoch(lengths, batch_size=10, accumulation=1, rng=np.random.default_rng([0, epoch]))
        return {(int(a), int(b)) for step in steps for rows in step for a in rows for b in rows if a < b}

    first, second = neighbours(0), neighbours(1)
    assert len(first & second) / len(first) < 0.2  # sorted all together it is .94, without sorting .025


def test_an_evaluation_begins_with_the_longest_rows() -> None:
    batches = plan_evaluation(np.array([3, 9, 1, 7, 5]), 2)

    assert [list(rows) for rows in batches] == [[1, 3], [4, 0], [2]]


def test_a_batch_is_padded_to_its_longest_row_and_masked() -> None:
    tokens = Tokens(
        columns=pack({"input_ids": [[5, 6], [7, 8, 9], [1] * 9], "attention_mask": [[1, 1], [1, 1, 1], [1] * 9]}),
        padding={"input_ids": 4, "attention_mask": 0},
        targets=np.array([2, 0, 1]),
        lengths=np.array([2, 3, 9]),
        weights=np.ones(3, dtype=np.int64),
        facts=(),
    )

    inputs, targets = collate(tokens, np.array([1, 0]), device=CPU)

    assert inputs["input_ids"].tolist() == [[7, 8, 9], [5, 6, 4]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert targets.tolist() == [0, 2]


@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=12), other=st.integers(0, 1), seed=st.integers(0, 99))
def test_rows_of_flat_columns_are_padded_as_one_by_one(lengths: list[int], other: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = {
        "input_ids": [rng.integers(-100, 2**31 - 1, size=n).tolist() for n in lengths],
        "attention_mask": [[1] * n for n in lengths],
        "labels": [rng.integers(-100, 9, size=n + other).tolist() for n in lengths],
    }
    padding = {"input_ids": 4, "attention_mask": 0, "labels": -100}
    rows = rng.integers(0, len(lengths), size=7)
    into = {name: np.full((7, 11), 77) for name in columns}

    packed = pack(columns)
    pad_rows(packed, rows, into=into, padding=padding)

    for name, column in columns.items():
        assert [row + [padding[name]] * (11 - len(row)) for row in (column[row] for row in rows)] == into[name].tolist()
        assert list(packed[name]) == column
        assert packed[name].lengths.tolist() == list(map(len, column))
    assert packed["input_ids"].starts is packed["attention_mask"].starts
    assert (packed["labels"].starts is packed["input_ids"].starts) is (other == 0)


def test_padding_is_on_either_side() -> None:
    assert pad([[1], [2, 3]], value=9).tolist() == [[1, 9], [2, 3]]
    assert pad([[1], [2, 3]], value=9, on_left=True).tolist() == [[9, 1], [2, 3]]


def test_padding_is_that_of_the_tokeniser_itself() -> None:
    tokenizer = AutoTokenizer.from_pretrained(find_source(minilm(), None).place)
    texts = ("a joy", "what a dull and dreadful evening it was", "")
    task = Classification(labels={"a": 0}, tokenizer=tokenizer, max_length=8, class_weights=None)
    tokens = task.tokenise([{"text": text, "label": "a"} for text in texts])

    inputs, _ = collate(tokens, np.arange(3), device=CPU)

    expected = tokenizer(list(texts), truncation=True, max_length=8, padding=True, return_tensors="pt")
    assert set(inputs) == set(expected)
    assert all(torch.equal(inputs[name], expected[name]) for name in expected)
    assert tokens.lengths.max() == 8


def test_class_weights_average_one_over_the_rows_and_an_absent_class_weighs_nothing() -> None:
    weights = class_weights(np.array([0, 0, 0, 2]), 3)

    assert weights.tolist() == pytest.approx([4 / (3 * 3), 0.0, 4 / (3 * 1)])


def test_a_split_is_read_and_its_labels_become_numbers(tmp_path: Path) -> None:
    rows = [{"text": "Größe, naïve", "label": "good"}, {"text": "dull", "label": "bad"}]
    sha256 = write_split(tmp_path, {"dev": rows})

    read = read_rows(tmp_path, "dev", sha256=sha256["dev"])

    assert read == rows
    assert label_indices(read, {"bad": 0, "good": 1}).tolist() == [1, 0]


def test_data_that_is_not_what_the_profile_wrote_is_not_used(tmp_path: Path) -> None:
    sha256 = write_split(tmp_path, {"train": [{"text": "x", "label": "good"}], "empty": []})
    write_split(tmp_path, {"train": [{"text": "y", "label": "good"}]})

    for name, digest, message in (
        ("train", sha256["train"], r"train.jsonl.gz` has sha256 [0-9a-f]{64}, but the profile wrote"),
        ("validation", "0" * 64, r"validation.jsonl.gz` is missing; is the run folder visible"),
        ("empty", sha256["empty"], r"empty.jsonl.gz` has no rows"),
    ):
        with pytest.raises(TrialError, match=message) as caught:
            read_rows(tmp_path, name, sha256=digest)
        assert caught.value.kind == "data_unavailable"


def test_a_share_of_the_training_rows_keeps_every_label_and_lies_in_a_larger_share() -> None:
    rows = [{"text": str(number), "label": "b" if number == 9 else "a"} for number in range(10)]

    small, large = take_share(rows, 0.21), take_share(rows, 0.5)

    assert small == [*rows[:3], rows[9]]
    assert [row for row in small if row not in large] == []
    assert take_share(rows, 1.0) == rows


def test_a_label_that_the_task_does_not_have_is_refused() -> None:
    with pytest.raises(TrialError, match=r"has the label 'meh'; the task has \['bad', 'good'\]") as caught:
        label_indices([{"text": "y", "label": "meh"}], dict.fromkeys(LABELS, 0))

    assert caught.value.kind == "data_unavailable"
