"""A short batch filled up with rows that do not count has the loss and gradients of the short batch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.families import family_train_state, labelled_rows, question_rows
from tests.train.tiny import tiny_tokens
from xautolm_hpc.train.data import collate
from xautolm_hpc.train.loop import TrainState
from xautolm_hpc.train.ragged import pack
from xautolm_hpc.train.steps.fixed_batches import BatchLayout, HostBuffers, measure_lengths

PARAMS: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 4, "max_length": 36, "epochs": 1, "dropout_rate": 0.0}
CASES = [
    ("text-classification", "bert"),
    ("text-classification", "llama"),
    ("text-classification", "t5"),
    ("text-classification", "bart"),
    ("text-classification", "deberta-v2"),
    ("question-answering", "bert"),
    ("question-answering", "roberta"),
    ("text-generation", "gpt2"),
    ("text-generation", "t5"),
]


def _layout(train_state: TrainState, rows: np.ndarray[Any, Any], *, n_rows: int, longer: int) -> BatchLayout:
    tokens = train_state.tokens["train"]
    lengths = measure_lengths(tokens.columns)
    padded = lengths.pad(lengths.longest(rows), [(int(own[rows].max()) + longer,) for own in lengths.distinct])
    return BatchLayout(tuple(padded), tuple(padded.values()), n_rows, tokens.targets.shape[1:])


def _loss_and_gradients(train_state: TrainState, inputs: Any, targets: Any) -> tuple[float, list[torch.Tensor]]:
    train_state.model.zero_grad()
    loss = train_state.task.loss(train_state.model, inputs, targets=targets)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad.clone() for p in train_state.model.parameters() if p.grad is not None]
    return float(loss), gradients


@pytest.mark.parametrize("class_weighted", [False, True])
@pytest.mark.parametrize(("kind", "architecture"), CASES)
def test_rows_that_do_not_count_change_nothing(
    tmp_path: Path, kind: str, architecture: str, class_weighted: bool
) -> None:
    if class_weighted and kind != "text-classification":
        return
    given = labelled_rows() if kind == "text-classification" else question_rows()
    params = {**PARAMS, "class_weighted_loss": class_weighted} if class_weighted else PARAMS
    train_state = family_train_state(tmp_path, architecture, kind=kind, method="full", params=params, rows=given[:13])
    train_state.model.train()
    tokens, rows = train_state.tokens["train"], np.array([2, 7, 11])
    layout = _layout(train_state, rows, n_rows=8, longer=0)
    flat = torch.empty(layout.size, dtype=torch.int64)
    layout.write(flat, tokens, rows=rows, step_weight=3)

    short = _loss_and_gradients(train_state, *collate(tokens, rows, device=torch.device("cpu")))
    filled = _loss_and_gradients(train_state, layout.inputs(flat), layout.targets(flat))

    assert filled[0] == pytest.approx(short[0], abs=1e-6, rel=1e-6)
    for one, other in zip(filled[1], short[1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    assert layout.weight(flat) == 3


@pytest.mark.parametrize(("kind", "architecture"), CASES)
def test_padding_to_a_longer_length_changes_nothing(tmp_path: Path, kind: str, architecture: str) -> None:
    train_state = family_train_state(tmp_path, architecture, kind=kind, method="full", params=PARAMS)
    train_state.model.train()
    tokens, rows = train_state.tokens["train"], np.array([2, 7, 11])
    layout = _layout(train_state, rows, n_rows=3, longer=4)
    flat = torch.empty(layout.size, dtype=torch.int64)
    layout.write(flat, tokens, rows=rows, step_weight=3)

    short = _loss_and_gradients(train_state, *collate(tokens, rows, device=torch.device("cpu")))
    longer = _loss_and_gradients(train_state, layout.inputs(flat), layout.targets(flat))

    assert longer[0] == pytest.approx(short[0], abs=1e-6, rel=2e-6)
    for one, other in zip(longer[1], short[1], strict=True):
        torch.testing.assert_close(one, other, atol=2e-6, rtol=1e-4)


def test_inputs_of_equal_lengths_share_them() -> None:
    tokens = tiny_tokens(6)
    answers = [[1] * (1 + row % 3) for row in range(6)]

    lengths = measure_lengths({**tokens.columns, **pack({"labels": answers})})

    assert lengths.of_input == {"input_ids": 0, "attention_mask": 0, "labels": 1}
    assert lengths.longest(np.array([0, 2])) == (int(tokens.lengths[[0, 2]].max()), 3)


def test_a_batch_is_one_buffer() -> None:
    tokens = tiny_tokens(6)
    layout = BatchLayout(("input_ids", "attention_mask"), (13, 13), 4, ())
    flat = torch.empty(layout.size, dtype=torch.int64)

    layout.write(flat, tokens, rows=np.array([5, 1]), step_weight=7)

    inputs, targets = layout.inputs(flat), layout.targets(flat)
    assert layout.size == len(flat) == 1 + 2 * 4 * 13 + 4
    assert inputs["input_ids"][0, : tokens.lengths[5]].tolist() == list(tokens.columns["input_ids"][5])
    assert inputs["attention_mask"].sum(dim=1).tolist() == [tokens.lengths[row] for row in (5, 1, 5, 5)]
    assert targets.tolist() == [*tokens.targets[[5, 1]], -100, -100]


def test_a_buffer_is_used_again_only_once_it_is_given_back() -> None:
    buffers = HostBuffers(3, dtype=torch.int64, is_pinned=False)
    first, second = buffers.take(), buffers.take()

    buffers.give_back(first)
    third, fourth = buffers.take(), buffers.take()

    assert third is first
    assert len({buffer.data_ptr() for buffer in (first, second, fourth)}) == 3
    assert [buffer.shape for buffer in (first, fourth)] == [(3,), (3,)]
