"""Optimisers and learning-rate schedules."""

import math

import pytest
import torch
from torch import nn

from tests.train.tiny import tiny_model
from xautolm_hpc.hyperparameters import OPTIMIZERS
from xautolm_hpc.records import Value
from xautolm_hpc.train.optim import BUILDERS, build_optimizer, build_schedule
from xautolm_hpc.train.recipe import Recipe, parse_recipe


def _recipe(**params: Value) -> Recipe:
    return parse_recipe("full", {"learning_rate": 0.5, "batch_size": 1, "max_length": 8, "epochs": 1, **params})


def _rates(n_steps: int, **params: Value) -> list[float]:
    """List the learning rate of every step."""
    recipe = _recipe(optimizer="sgd", **params)
    optimizer = build_optimizer(nn.Linear(2, 2), recipe)
    schedule = build_schedule(optimizer, recipe, n_steps=n_steps)
    rates = []
    for _ in range(n_steps):
        rates.append(float(schedule.get_last_lr()[0]))
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", [0, 0.25, 0.5, 0.375, 0.25, 0.125]),
        ("cosine", [0, 0.25, 0.5] + [0.25 * (1 + math.cos(math.pi * x)) for x in (0.25, 0.5, 0.75)]),
        ("cosine_with_restarts", [0, 0.25, 0.5] + [0.25 * (1 + math.cos(math.pi * x)) for x in (0.25, 0.5, 0.75)]),
        ("polynomial", [0, 0.25, 0.5, 0.375, 0.25, 0.125]),
        ("constant", [0, 0.25, 0.5, 0.5, 0.5, 0.5]),
    ],
)
def test_schedules_warm_up_and_fall(name: str, expected: list[float]) -> None:
    assert _rates(6, lr_scheduler=name, warmup_steps=2) == pytest.approx(expected, abs=1e-6)


def test_a_warm_up_ratio_is_a_share_of_the_steps() -> None:
    assert _rates(10, lr_scheduler="constant", warmup_ratio=0.2) == _rates(10, lr_scheduler="constant", warmup_steps=2)


def test_warm_up_steps_win_over_the_ratio() -> None:
    assert _rates(4, lr_scheduler="constant", warmup_ratio=0.5, warmup_steps=0) == [0.5] * 4


def test_biases_and_norms_do_not_decay() -> None:
    model = tiny_model("bert")

    decayed, kept = build_optimizer(model, _recipe(weight_decay=0.1)).param_groups

    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert {names[id(p)] for p in kept["params"]} == {
        name for name in names.values() if name.endswith(".bias") or "LayerNorm" in name
    }
    assert len(decayed["params"]) + len(kept["params"]) == len(names)


def test_frozen_parameters_have_no_optimiser_state() -> None:
    model = nn.Linear(2, 2)
    model.weight.requires_grad_(False)

    groups = build_optimizer(model, _recipe()).param_groups

    assert [p for group in groups for p in group["params"]] == [model.bias]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_goes_downhill(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = build_optimizer(model, _recipe(optimizer=name, learning_rate=0.01))
    inputs = torch.randn(16, 4)

    losses = []
    for _ in range(20):
        loss = (model(inputs) - 1).square().mean()
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    assert losses[-1] < losses[0]
    assert type(optimizer).__name__.lower() == name


def test_every_optimiser_of_the_table_can_be_built_and_no_other() -> None:
    assert list(BUILDERS) == list(OPTIMIZERS) == ["adamw", "adam", "sgd", "adagrad", "adafactor"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_an_optimiser_is_as_large_as_the_table_says(name: str) -> None:
    model = nn.Linear(256, 256, bias=False)
    optimizer = build_optimizer(model, _recipe(optimizer=name))

    model(torch.ones(1, 256)).sum().backward()
    optimizer.step()

    state = [value for per_parameter in optimizer.state.values() for value in per_parameter.values()]
    n_bytes = sum(value.nbytes for value in state if isinstance(value, torch.Tensor))
    assert n_bytes / model.weight.numel() == pytest.approx(OPTIMIZERS[name].state_bytes, abs=0.1)
