"""Every architecture can be captured; those that were changed for it compute what transformers' own code computes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import MT5Config, MT5ForSequenceClassification, PreTrainedModel

from tests.train.families import family_train_state
from tests.train.steps.cpu_recorder import capture
from tests.train.tiny import CONFIGS, END, tiny_model
from xautolm_hpc.train.loop import train
from xautolm_hpc.train.methods import apply_method
from xautolm_hpc.train.recipe import parse_recipe
from xautolm_hpc.train.steps.architectures import make_capturable

CHANGED = {
    "t5": ("T5ForSequenceClassification",),
    "bart": ("BartForSequenceClassification",),
    "deberta": ("DebertaEncoder",),
    "deberta-v2": ("DebertaV2Encoder",),
}
PARAMS: dict[str, Any] = {"learning_rate": 0.1, "batch_size": 5, "max_length": 36, "epochs": 1, "optimizer": "sgd"}


def _batch() -> dict[str, torch.Tensor]:
    """Make three texts of 4 to 9 tokens, each ended."""
    ids = torch.zeros((3, 9), dtype=torch.long)
    mask = torch.zeros((3, 9), dtype=torch.long)
    for row, length in enumerate((9, 4, 6)):
        ids[row, :length] = torch.arange(5, 5 + length) + 7 * row
        ids[row, length - 1] = END
        mask[row, :length] = 1
    return {"input_ids": ids, "attention_mask": mask}


def _outputs(model: nn.Module) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    logits = model(**_batch()).logits
    logits.square().sum().backward()
    return logits, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _model(architecture: str) -> PreTrainedModel:
    model = tiny_model(architecture)
    return model.train(mode=False)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_outputs_and_gradients_are_those_of_transformers(architecture: str) -> None:
    own, theirs = _model(architecture), _model(architecture)

    changed = make_capturable(own)
    twice = [_outputs(own) for _ in range(2)][1]

    assert changed == CHANGED.get(architecture, ())
    logits, gradients = _outputs(theirs)
    torch.testing.assert_close(twice[0], logits, atol=1e-6, rtol=1e-6)
    assert twice[1].keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(twice[1][name], gradient, atol=1e-6, rtol=1e-5)


def test_a_multilingual_t5_is_changed_as_t5_is() -> None:
    given = {key: value for key, value in CONFIGS["t5"].to_dict().items() if key not in ("model_type", "architectures")}
    torch.manual_seed(0)
    own: Any = MT5ForSequenceClassification(MT5Config(**given)).train(mode=False)
    theirs: Any = MT5ForSequenceClassification(own.config).train(mode=False)
    theirs.load_state_dict(own.state_dict())

    assert make_capturable(own) == ("MT5ForSequenceClassification",)

    (logits, gradients), (known, known_gradients) = _outputs(own), _outputs(theirs)
    torch.testing.assert_close(logits, known, atol=1e-6, rtol=1e-6)
    assert gradients.keys() == known_gradients.keys()


@pytest.mark.parametrize("architecture", CHANGED)
def test_a_changed_model_works_inside_adapters(architecture: str) -> None:
    recipe = parse_recipe("lora", {"learning_rate": 1e-3, "batch_size": 4, "max_length": 16, "epochs": 1})
    own, theirs = [apply_method(_model(architecture), "lora", recipe=recipe) for _ in range(2)]
    theirs.load_state_dict(own.state_dict())

    make_capturable(own)

    logits = [model.train(mode=False)(**_batch()).logits for model in (own, theirs)]
    torch.testing.assert_close(logits[0], logits[1], atol=1e-6, rtol=1e-6)


def test_relative_positions_are_computed_once_for_each_length() -> None:
    model: Any = _model("deberta-v2")
    make_capturable(model)
    states = [torch.zeros((2, length, 32)) for length in (5, 7, 5)]

    given = [model.deberta.encoder.get_rel_pos(state) for state in states]

    assert given[0] is given[2]
    assert [positions.shape[-1] for positions in given] == [5, 7, 5]


def test_a_model_that_pads_with_its_end_token_keeps_its_own_head() -> None:
    model = _model("bart")
    model.config.pad_token_id = model.config.eos_token_id

    assert make_capturable(model) == ()


@pytest.mark.parametrize("architecture", CONFIGS)
def test_every_architecture_is_captured(tmp_path: Path, architecture: str) -> None:
    """On the CPU: nothing in a step waits for the device, and what it does is the same whenever it is replayed."""
    eager, captured = (
        family_train_state(tmp_path / name, architecture, kind="text-classification", method="full", params=PARAMS)
        for name in ("eager", "captured")
    )
    for train_state in (eager, captured):
        for module in train_state.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    capture(captured)

    for train_state in (eager, captured):
        train_state.model.train()
        _no_dropout_in_attention(train_state.model)
        train(train_state, save=lambda: None)

    assert captured.runner.reason is None
    assert captured.progress.curve[-1] == pytest.approx(eager.progress.curve[-1], abs=1e-5, rel=1e-5)


def _no_dropout_in_attention(model: nn.Module) -> None:
    """Set rates that are kept as numbers to 0."""
    for module in model.modules():
        for name in ("attention_dropout", "dropout_prob", "dropout", "activation_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
