"""Training: steps, accumulation, schedules, early stopping, the best epoch, and what ends it halfway."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.tiny import tiny_model, tiny_tokens, tiny_train_state, weights_of
from xautolm_hpc.execution import Execution
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.loop import TrainState, evaluate, train


def _trained(**params: Any) -> TrainState:
    train_state = tiny_train_state(**params)
    train(train_state, save=lambda: None)
    return train_state


@pytest.mark.parametrize("class_weighted", [False, True])
@pytest.mark.parametrize(("n_rows", "small", "accumulation"), [(8, 2, 4), (7, 2, 4), (7, 3, 3)])
def test_accumulated_batches_give_the_gradient_of_one_large_batch(
    n_rows: int, small: int, accumulation: int, class_weighted: bool
) -> None:
    start = weights_of(tiny_model("bert", dropout=0.0))
    # Plain SGD at rate 1 without clipping: the change of a weight is its gradient.
    sgd: dict[str, Any] = {
        "n_rows": n_rows,
        "optimizer": "sgd",
        "learning_rate": 1.0,
        "lr_scheduler": "constant",
        "use_gradient_clipping": False,
        "class_weighted_loss": class_weighted,
    }

    large = _trained(**sgd, batch_size=n_rows)
    parts = _trained(**sgd, batch_size=small, gradient_accumulation_steps=accumulation)

    assert large.progress.step == parts.progress.step == 1
    assert parts.progress.curve[0][1] == pytest.approx(large.progress.curve[0][1], rel=1e-5)  # training loss
    for name, after in weights_of(large.model).items():
        torch.testing.assert_close(weights_of(parts.model)[name], after, atol=2e-5, rtol=1e-4)
    assert any(not torch.equal(start[name], after) for name, after in weights_of(large.model).items())


@pytest.mark.parametrize("class_weighted", [False, True])
def test_the_training_loss_is_the_mean_over_samples(class_weighted: bool) -> None:
    frozen = _trained(n_rows=7, batch_size=2, learning_rate=1e-30, class_weighted_loss=class_weighted)

    tokens = frozen.tokens["train"]
    counts = np.bincount(tokens.targets, minlength=3)
    weights = 7 / (3 * counts) if class_weighted else np.ones(3)
    losses = []
    with torch.no_grad():
        for ids, label in zip(tokens.columns["input_ids"], tokens.targets, strict=True):
            logits = frozen.model.train(mode=False)(input_ids=torch.tensor([ids])).logits
            losses.append(weights[label] * torch.nn.functional.cross_entropy(logits, torch.tensor([label])).item())
    assert len(set(counts)) > 1
    assert frozen.progress.curve[0][1] == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize(("n_rows", "n_steps"), [(10, 9), (12, 9), (13, 12), (1, 3)])
def test_steps_and_schedule_count_accumulation_and_the_last_short_step(n_rows: int, n_steps: int) -> None:
    train_state = _trained(
        n_rows=n_rows, batch_size=2, gradient_accumulation_steps=2, epochs=3, early_stopping_patience=9, warmup_steps=2
    )

    assert train_state.progress.step == train_state.progress.n_steps == n_steps
    assert train_state.progress.n_samples == 3 * n_rows
    assert train_state.scheduler.get_last_lr() == [0.0, 0.0]  # linear: down to 0 exactly at the last step


def test_training_stops_after_epochs_without_a_gain() -> None:
    train_state = _trained(learning_rate=1e-30, epochs=9, early_stopping_patience=3)

    assert [row[0] for row in train_state.progress.curve] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("min_steps", "warmup_steps", "n_epochs"),
    [
        (0, 0, 3),  # 5 steps an epoch; epochs 2 and 3 bring no gain
        (0, 20, 3),
        (5, 0, 3),
        (11, 0, 4),  # epoch 3, after 15 steps, is the first that counts
        (15, 0, 4),
        (16, 0, 5),
        (11, 5, 5),
        (100, 0, 9),
    ],
)
def test_early_stopping_counts_no_epoch_before_enough_steps_after_the_warm_up(
    min_steps: int, warmup_steps: int, n_epochs: int
) -> None:
    train_state = tiny_train_state(learning_rate=1e-30, epochs=9, early_stopping_patience=2, warmup_steps=warmup_steps)
    train_state.early_stopping_min_steps = min_steps

    train(train_state, save=lambda: None)

    assert len(train_state.progress.curve) == n_epochs


def test_a_gain_smaller_than_delta_is_none() -> None:
    patient = _trained(epochs=6, early_stopping_patience=1, early_stopping_delta=0.0)
    strict = _trained(epochs=6, early_stopping_patience=1, early_stopping_delta=1.0)

    assert len(strict.progress.curve) == 2 < len(patient.progress.curve)


def test_a_falling_loss_is_a_gain_while_f1_stays_the_same() -> None:
    train_state = _trained(learning_rate=1e-4, epochs=5, early_stopping_patience=1, early_stopping_delta=1e-6)

    curve = train_state.progress.curve
    assert len(curve) == 5
    assert len({row[3] for row in curve}) == 1
    assert all(later[2] < earlier[2] for earlier, later in pairwise(curve))


def test_the_best_epoch_comes_back_not_the_last() -> None:
    train_state = _trained(learning_rate=0.02, epochs=8, early_stopping_patience=8)

    best = max(train_state.progress.curve, key=lambda row: (row[3], -row[2]))
    scores = evaluate(train_state, "dev")
    assert best[0] < len(train_state.progress.curve)
    assert (scores.f1, scores.loss) == (best[3], best[2])
    assert train_state.progress.metrics == {"train_loss": best[1], "dev_loss": best[2], "dev_f1": best[3]}


def test_a_model_learns_what_can_be_learnt() -> None:
    train_state = _trained(n_rows=12, epochs=40, early_stopping_patience=40)

    assert train_state.progress.curve[-1][1] < 0.1 < 0.9 < train_state.progress.curve[0][1]


def test_a_loss_that_is_not_finite_is_divergence() -> None:
    blown_up: dict[str, Any] = {"learning_rate": 1e3, "weight_decay": 1e3, "use_gradient_clipping": False}
    train_state = tiny_train_state(optimizer="sgd", epochs=9, early_stopping_patience=9, **blown_up)

    with pytest.raises(TrialError, match=r"the training loss is (nan|inf) in step \d+|answers on dev are not finite"):
        train(train_state, save=lambda: None)


def test_gradients_are_clipped_to_the_norm() -> None:
    model = tiny_model("bert", dropout=0.0)
    before = weights_of(model)

    train_state = tiny_train_state(
        model, n_rows=4, optimizer="sgd", learning_rate=1.0, lr_scheduler="constant", max_grad_norm=0.001
    )
    train(train_state, save=lambda: None)

    squares = [float(((after - before[name]) ** 2).sum()) for name, after in weights_of(train_state.model).items()]
    assert sum(squares) ** 0.5 == pytest.approx(0.001, rel=0.01)


def test_the_budget_ends_training_between_steps() -> None:
    train_state = tiny_train_state(time_limit_s=0.0)

    with (
        train_state.progress.train,
        pytest.raises(TrialError, match=r"budget of 0 s .* after step 0 of 5, in phase load"),
    ):
        train(train_state, save=lambda: None)


@pytest.mark.parametrize(("evaluation_batch", "batch_sizes"), [(None, [16, 4]), (8, [8, 8, 4]), (1, [1] * 20)])
def test_evaluation_does_not_depend_on_batches_or_padding(evaluation_batch: int | None, batch_sizes: list[int]) -> None:
    train_state = tiny_train_state(tiny_model("bert", dropout=0.5), batch_size=32)
    train_state.execution = Execution(evaluation_batch=evaluation_batch)
    tokens = tiny_tokens(20, seed=1)
    train_state.tokens = {"dev": tokens}
    n_samples: list[int] = []
    hook = train_state.model.register_forward_hook(lambda _, __, given: n_samples.append(len(given.logits)))

    scores = evaluate(train_state, "dev")
    hook.remove()

    with torch.no_grad():
        one_by_one = [
            train_state.model.train(mode=False)(input_ids=torch.tensor([ids])).logits.argmax()
            for ids in tokens.columns["input_ids"]
        ]
    right = [int(answer) == label for answer, label in zip(one_by_one, tokens.targets, strict=True)]
    assert scores.accuracy == pytest.approx(np.mean(right))
    assert len(right) == len(tokens) == 20
    assert n_samples == batch_sizes
