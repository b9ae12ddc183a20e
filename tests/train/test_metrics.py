"""Scores against scikit-learn and torch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from xautolm_hpc.train.kinds.metrics import macro_f1, score_classes

CLASSES = 4


@given(st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=40))
def test_macro_f1_is_scikit_learn_s_over_all_classes(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = np.array(pairs, dtype=np.int64).T

    f1 = macro_f1(truth, predicted, n_classes=CLASSES)

    expected = f1_score(truth, predicted, average="macro", labels=range(CLASSES), zero_division=0)
    assert f1 == pytest.approx(expected, abs=1e-12)


def test_a_score_is_that_of_scikit_learn_and_torch() -> None:
    rng = np.random.default_rng(5)
    logits = (rng.normal(size=(50, CLASSES)) * 100).astype(np.float32)
    truth = rng.integers(0, CLASSES, size=50)

    scores = score_classes(logits, truth)

    loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(truth))
    assert scores.loss == pytest.approx(float(loss), rel=1e-5)
    assert scores.accuracy == accuracy_score(truth, logits.argmax(axis=1))
    assert scores.f1 == pytest.approx(f1_score(truth, logits.argmax(axis=1), average="macro"))
