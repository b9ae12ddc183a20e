"""Optimisers that read learning rate and step from the device do the same as those that get them from the host."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tests.train.steps.cpu_recorder import Tape
from xautolm_hpc.execution import StepMode
from xautolm_hpc.hyperparameters import OPTIMIZERS
from xautolm_hpc.train.optim import build_optimizer, build_schedule
from xautolm_hpc.train.recipe import Recipe, parse_recipe
from xautolm_hpc.train.steps.device_update import LossScale, Update, learning_rates
from xautolm_hpc.train.steps.optimizers import CAPTURABLE

N_STEPS = 50
SCHEDULES = ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant")


def _recipe(optimizer: str, schedule: str = "linear", **params: Any) -> Recipe:
    return parse_recipe(
        "full",
        {
            "learning_rate": 0.01, "batch_size": 1, "max_length": 8, "epochs": 1, "optimizer": optimizer,
            "lr_scheduler": schedule, "warmup_ratio": 0.1, "weight_decay": 0.05, **params,
        },
    )  # fmt: skip


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 3))


def _gradients(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator) * 10 ** (step % 3 - 1)


def _eager(recipe: Recipe, *, n_steps: int = N_STEPS) -> tuple[nn.Module, LRScheduler]:
    model = _model()
    optimizer = build_optimizer(model, recipe)
    schedule = build_schedule(optimizer, recipe, n_steps=N_STEPS)
    for step in range(n_steps):
        _gradients(model, step)
        if recipe.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
        optimizer.step()
        schedule.step()
    return model, schedule


def _update(model: nn.Module, recipe: Recipe, *, loss_scale: LossScale | None = None) -> tuple[Optimizer, Update]:
    optimizer = build_optimizer(model, recipe, step_mode=StepMode.GRAPH)
    schedule = build_schedule(optimizer, recipe, n_steps=N_STEPS)
    update = Update(
        optimizer,
        rates=learning_rates(schedule, n_steps=N_STEPS),
        position=0,
        max_grad_norm=recipe.max_grad_norm,
        loss_scale=loss_scale,
        device=torch.device("cpu"),
    )
    return optimizer, update


def _recorded(recipe: Recipe) -> nn.Module:
    """Do the steps with a tape that was recorded in the first one."""
    model = _model()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer, update = _update(model, recipe)
    update.held.fill_(1)
    update.run()
    with Tape() as tape:
        update.run()
    update.held.zero_()
    gradients = [parameter.grad for parameter in model.parameters()]
    for step in range(N_STEPS):
        other = _model()
        _gradients(other, step)
        for kept, given in zip(gradients, other.parameters(), strict=True):
            assert kept is not None
            assert given.grad is not None
            kept.copy_(given.grad)
        update.loss.fill_(1.0)
        tape.replay()
    assert all(isinstance(group["lr"], float) for group in optimizer.param_groups)
    return model


def _assert_equal(one: nn.Module, other: nn.Module, *, atol: float = 1e-6) -> None:
    for first, second in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(first, second, atol=atol, rtol=1e-6)


def test_every_optimiser_can_be_captured_or_says_why_not() -> None:
    assert list(CAPTURABLE) == list(OPTIMIZERS)
    assert all((entry.build is None) == (entry.reason is not None) for entry in CAPTURABLE.values())


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_fifty_replayed_steps_give_the_weights_of_fifty_eager_ones(optimizer: str, schedule: str) -> None:
    recipe = _recipe(optimizer, schedule)

    _assert_equal(_recorded(recipe), _eager(recipe)[0])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("weight_decay", "max_grad_norm"), [(0.0, None), (0.1, None), (0.0, 0.5)])
def test_decay_and_clipping_are_the_same(optimizer: str, weight_decay: float, max_grad_norm: float | None) -> None:
    clips: dict[str, Any] = (
        {"use_gradient_clipping": False} if max_grad_norm is None else {"max_grad_norm": max_grad_norm}
    )
    recipe = _recipe(optimizer, weight_decay=weight_decay, **clips)

    _assert_equal(_recorded(recipe), _eager(recipe)[0])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_held_step_and_one_without_a_finite_loss_change_nothing(optimizer: str) -> None:
    model = _model()
    stepping, update = _update(model, _recipe(optimizer))
    for step in range(3):
        _gradients(model, step)
        update.run()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    state = [value.clone() for slots in stepping.state.values() for value in slots.values()]

    for held, loss in ((1.0, 0.5), (0.0, float("nan")), (0.0, float("inf"))):
        _gradients(model, 9)
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad[..., 0] = torch.inf
        update.held.fill_(held)
        update.loss.fill_(loss)
        update.run()

        assert update.result[1] == 1
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))
    kept = [value for slots in stepping.state.values() for value in slots.values()]
    assert all(torch.equal(one, other) for one, other in zip(state, kept, strict=True))
    assert torch.isinf(update.result[0])
    assert update.loss == 0


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_overflow_skips_the_step_the_schedule_and_lowers_the_scale_as_torch_does(optimizer: str) -> None:
    recipe = _recipe(optimizer)
    by_torch = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    scale = LossScale(torch.tensor([1024.0]), torch.zeros(1, dtype=torch.int32), 2.0, 0.5, 2)
    eager, captured = _model(), _model()
    reference = build_optimizer(eager, recipe)
    schedule = build_schedule(reference, recipe, n_steps=N_STEPS)
    _, update = _update(captured, recipe, loss_scale=scale)
    by_torch.scale(torch.ones(()))

    for step in range(8):
        factor = by_torch.get_scale()
        for model in (eager, captured):
            _gradients(model, step)
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter.grad.mul_(factor if step not in (0, 3) else torch.inf)
        by_torch.unscale_(reference)
        nn.utils.clip_grad_norm_(eager.parameters(), 1.0)
        by_torch.step(reference)
        by_torch.update()
        if by_torch.get_scale() >= factor:
            schedule.step()
        update.run()

        assert scale.scale.item() == by_torch.get_scale()
    _assert_equal(captured, eager)
    assert schedule.last_epoch == 6


def test_a_step_counted_on_the_host_is_taken_over() -> None:
    recipe = _recipe("adafactor")
    before = _model()
    theirs = build_optimizer(before, recipe)
    schedule = build_schedule(theirs, recipe, n_steps=N_STEPS)
    for step in range(5):
        _gradients(before, step)
        nn.utils.clip_grad_norm_(before.parameters(), 1.0)
        theirs.step()
        schedule.step()
    after = _model()
    after.load_state_dict(before.state_dict())
    ours, _ = _update(after, recipe)

    ours.load_state_dict(deepcopy(theirs.state_dict()))
    rates = [float(rate) for rate in schedule.get_last_lr()]
    for step in range(5, 10):
        for model, optimizer in ((before, theirs), (after, ours)):
            _gradients(model, step)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            optimizer.step()

    _assert_equal(after, before)
    steps = [slots["step"] for slots in ours.state.values()]
    assert all(isinstance(step, Tensor) and step == 10 for step in steps)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_table_of_learning_rates_is_the_schedule(schedule: str) -> None:
    recipe = _recipe("sgd", schedule)
    optimizer = build_optimizer(_model(), recipe)
    table = learning_rates(build_schedule(optimizer, recipe, n_steps=N_STEPS), n_steps=N_STEPS)
    stepped = build_schedule(optimizer, recipe, n_steps=N_STEPS)

    for row in table:
        assert row.tolist() == pytest.approx(stepped.get_last_lr(), rel=1e-6)
        optimizer.step()
        stepped.step()
    assert table.shape == (N_STEPS + 1, 2)
