"""Gradients accumulated over batches equal those of one large batch, also where samples have different weights."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.families import PLACES, family_train_state, question_rows
from tests.train.tiny import weights_of
from xautolm_hpc.train.loop import TrainState, evaluate, train

# Plain SGD at rate 1 without clipping: the change of a weight is its gradient.
SGD: dict[str, Any] = {
    "optimizer": "sgd",
    "learning_rate": 1.0,
    "lr_scheduler": "constant",
    "use_gradient_clipping": False,
    "dropout_rate": 0.0,
    "epochs": 1,
    "max_length": 36,
}


def _rows(kind: str) -> list[dict[str, Any]]:
    """Write 16 questions; answers that are to be written are of one to seven tokens."""
    rows = question_rows()
    if kind == "text-generation":
        for number, row in enumerate(rows):
            row["answers"] = [{"text": " in ".join(PLACES[: 1 + number % 4])}]
    return rows


def _trained(folder: Path, kind: str, architecture: str, **params: Any) -> tuple[TrainState, float]:
    """Do one step over all rows; return the loss on the same rows before it, too."""
    train_state = family_train_state(
        folder, architecture, kind=kind, method="full", params={**SGD, **params}, rows=_rows(kind)
    )
    before = evaluate(train_state, "dev").loss
    train(train_state, save=lambda: None)
    return train_state, before


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [("text-generation", "llama"), ("text-generation", "t5"), ("question-answering", "bert")],
)
def test_an_accumulated_step_has_loss_and_gradients_of_the_whole_batch(
    tmp_path: Path, kind: str, architecture: str
) -> None:
    """Sums in another order differ by the rounding of single precision; a batch's own mean would by hundredths."""
    large, before = _trained(tmp_path / "large", kind, architecture, batch_size=16)

    parts, _ = _trained(tmp_path / "parts", kind, architecture, batch_size=4, gradient_accumulation_steps=4)

    assert large.progress.step == parts.progress.step == 1
    losses = [train_state.progress.curve[0][1] for train_state in (large, parts)]
    assert losses == pytest.approx([before, before], rel=1e-5)
    assert (len(set(large.tokens["train"].weights)) > 1) == (kind == "text-generation")
    for name, after in weights_of(large.model).items():
        torch.testing.assert_close(weights_of(parts.model)[name], after, atol=5e-5, rtol=1e-4)


def test_the_kernel_that_compiles_for_each_new_length_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", asked.append)

    family_train_state(
        tmp_path, "bert", kind="question-answering", method="head", params=SGD, rows=_rows("question-answering")
    )

    assert asked == [False]
