"""Optimiser and learning-rate schedule."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers.optimization import Adafactor, get_scheduler

from xautolm_hpc.execution import StepMode
from xautolm_hpc.hyperparameters import n_warmup_steps
from xautolm_hpc.train.fit.embeddings import IS_GROWN
from xautolm_hpc.train.recipe import Recipe
from xautolm_hpc.train.steps.optimizers import CAPTURABLE


def decay_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, object]]:
    """Divide parameters into those that decay and those that do not.

    Biases and norms do not, all of one dimension; neither do embeddings of which only the rows of added tokens are
    trained, because a decay would change the other rows, too.
    """
    trained = list(parameters)
    decays = [p.ndim > 1 and not getattr(p, IS_GROWN, False) for p in trained]
    return [
        {"params": [p for p, does in zip(trained, decays, strict=True) if does], "weight_decay": weight_decay},
        {"params": [p for p, does in zip(trained, decays, strict=True) if not does], "weight_decay": 0.0},
    ]


def build_optimizer(model: nn.Module, recipe: Recipe, *, step_mode: StepMode = StepMode.EAGER) -> Optimizer:
    """Build the optimiser of the trainable parameters.

    Args:
        model: The model, its method applied.
        recipe: Names the optimiser.
        step_mode: How its steps are computed; a captured step reads all that changes from the device.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [group for group in decay_groups(trained, recipe.weight_decay) if group["params"]]
    capturable = CAPTURABLE[recipe.optimizer].build if step_mode is StepMode.GRAPH else None
    return (capturable or BUILDERS[recipe.optimizer])(groups, lr=recipe.learning_rate)


BUILDERS: Mapping[str, Callable[..., Optimizer]] = {
    "adamw": partial(torch.optim.AdamW, fused=True),
    "adam": partial(torch.optim.Adam, fused=True),
    "sgd": partial(torch.optim.SGD, fused=True),
    "adagrad": torch.optim.Adagrad,  # has no fused kernel on the GPU
    # Its own relative steps are off: the learning rate means what it means for the others.
    "adafactor": partial(Adafactor, scale_parameter=False, relative_step=False, warmup_init=False),
}
"""How each optimiser of :data:`xautolm_hpc.hyperparameters.OPTIMIZERS` is built from parameter groups and ``lr``."""


def build_schedule(optimizer: Optimizer, recipe: Recipe, *, n_steps: int) -> LRScheduler:
    """Build the learning-rate schedule.

    Args:
        optimizer: Its optimiser.
        recipe: Names the schedule and its warm-up; ``constant`` warms up too.
        n_steps: Optimiser steps of the whole training, accumulation counted in.
    """
    warmup = n_warmup_steps(recipe.warmup_steps, recipe.warmup_ratio, n_steps=n_steps)
    name = "constant_with_warmup" if recipe.lr_scheduler == "constant" else recipe.lr_scheduler
    return get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=n_steps)
