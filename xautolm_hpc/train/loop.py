"""Epochs of optimiser steps, with early stopping on ``dev`` and a return to the best epoch.

The loop can be left between any two steps (:class:`StopRequestedError`) and entered again from a checkpoint: all it
needs to go on is in :class:`LoopState`, the model, the optimiser, the schedule and torch's generators.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from xautolm_hpc.execution import AS_DRAWN, Execution
from xautolm_hpc.train import collectives
from xautolm_hpc.train.data import Tokens, collate, plan_epoch, plan_evaluation
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.metrics import Scores
from xautolm_hpc.train.micro_batches import Pass, plan_passes
from xautolm_hpc.train.process_group import ALONE, Seat
from xautolm_hpc.train.recipe import Recipe
from xautolm_hpc.train.sharding import put, whole
from xautolm_hpc.train.tasks import LearningTask
from xautolm_hpc.train.trial_budget import Progress, Watch

CHECKPOINT_INTERVAL_S = 60.0
"""A run that takes longer is saved at the ends of epochs, but no more often than this."""

EVALUATION_BATCH = 16
"""Samples of an evaluation pass where the driver leaves it to the worker: on CPUs, where more are slower."""


@dataclass(slots=True, kw_only=True)
class LoopState:
    """Where training stands.

    Attributes:
        epoch: Epochs done.
        epoch_step: Optimiser steps done in the current epoch.
        loss_sum: Sum of the training loss over the samples of the current epoch.
        loss_samples: Samples in ``loss_sum``.
        best_epoch: Epoch of the best weights, from 1; 0 before the first evaluation.
        best_f1: F1 on ``dev`` of that epoch; ``best_loss`` likewise, and ``best_train_loss`` on ``train``.
        best_weights: Trainable parameters after that epoch, on the CPU.
        reference_f1: F1 that the next gain is measured from; ``reference_loss`` likewise.
        epochs_without_gain: Epochs since F1 last rose, or the loss last fell, by ``early_stopping_delta``.
        finished: Whether training is over and the best weights are back in the model.
    """

    epoch: int = 0
    epoch_step: int = 0
    loss_sum: float = 0.0
    loss_samples: int = 0
    best_epoch: int = 0
    best_f1: float = -1.0
    best_loss: float = math.inf
    best_train_loss: float = math.inf
    best_weights: dict[str, Tensor] | None = None
    reference_f1: float = -1.0
    reference_loss: float = math.inf
    epochs_without_gain: int = 0
    finished: bool = False


@dataclass(slots=True, kw_only=True)
class Bench:
    """Everything training works with.

    Attributes:
        recipe: Hyperparameters.
        seed: Training seed.
        accelerator: Device and precision.
        model: Model to train, on the device; evaluated and saved.
        trained: The same, in what keeps its gradients alike on several processes; passes of training go through it.
        optimizer: Its optimiser.
        scheduler: Learning rate of each optimiser step.
        task: What is learnt: its loss, answers and scores.
        tokens: Split name -> its tokens.
        state: Where training stands.
        progress: What the trial has done so far.
        watch: Ends the trial between steps.
        seat: The place of this process among those of the trial.
        execution: How steps are computed.
    """

    recipe: Recipe
    seed: int
    accelerator: Accelerator
    model: nn.Module
    trained: nn.Module
    optimizer: AcceleratedOptimizer
    scheduler: LRScheduler
    task: LearningTask
    tokens: Mapping[str, Tokens]
    state: LoopState
    progress: Progress
    watch: Watch
    seat: Seat = ALONE
    execution: Execution = AS_DRAWN


def train(bench: Bench, *, save: Callable[[], None]) -> None:
    """Train to the end, then bring the best epoch's weights back.

    Args:
        bench: The model and all it is trained with; its state says where to begin.
        save: Writes a checkpoint.

    Raises:
        StopRequestedError: A signal asked to stop; the state is that between two steps.
        TrialError: The budget is used up (``time_limit``) or a loss is not finite (``diverged``).
    """
    state, recipe = bench.state, bench.recipe
    saved_at = time.monotonic()
    while not state.finished:
        for batches in _epoch_steps(bench)[state.epoch_step :]:
            bench.watch.check()
            _train_step(bench, batches)
        _close_epoch(bench, evaluate(bench, "dev"))
        state.finished = state.epoch >= recipe.epochs or state.epochs_without_gain >= recipe.early_stopping_patience
        if time.monotonic() - saved_at > CHECKPOINT_INTERVAL_S and not state.finished:
            save()
            saved_at = time.monotonic()
    if state.best_weights is not None:
        load_trainable(bench.model, state.best_weights)


def evaluate(bench: Bench, split: str) -> Scores:
    """Score the model on one split.

    Args:
        bench: The model and the tokens of the split.
        split: ``dev`` or ``validation``.

    Raises:
        StopRequestedError: A signal asked to stop.
        TrialError: The budget is used up (``time_limit``) or an answer is not finite (``diverged``).
    """
    tokens = bench.tokens[split]
    batches = plan_evaluation(tokens.lengths, bench.execution.evaluation_batch or EVALUATION_BATCH)
    # All processes of a sharded model must pass through it together.
    share = slice(0, None) if bench.execution.sharded else slice(bench.seat.rank, None, bench.seat.n_ranks)
    own = batches[share]
    n_rounds = len(batches) if bench.execution.sharded else -(-len(batches) // bench.seat.n_ranks)
    answered: list[tuple[int, Any]] = []
    bench.model.eval()
    with torch.no_grad():
        for number in range(n_rounds):
            bench.watch.check()
            for rows in own[number : number + 1]:
                given = bench.task.answer(bench.model, tokens, rows=rows, device=bench.accelerator.device)
                answered += zip(rows.tolist(), given, strict=True)
    answers: list[Any] = [None] * len(tokens)
    for row, answer in chain(*collectives.gathered(answered)):
        answers[row] = answer
    scores = bench.task.score(tokens, answers)
    if not math.isfinite(scores.loss):
        raise TrialError("diverged", f"answers on {split} are not finite after step {bench.progress.step}")
    return scores


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """Copy the trainable parameters to the CPU: name -> values."""
    return {name: whole(p.detach()).cpu().clone() for name, p in model.named_parameters() if p.requires_grad}


def load_trainable(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put parameters back that :func:`trainable` copied."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, values in weights.items():
            put(parameters[name], values)


def _epoch_steps(bench: Bench) -> list[list[NDArray[np.int64]]]:
    """Plan the current epoch; it follows from seed and epoch alone, so a resumed one is the same."""
    return plan_epoch(
        bench.tokens["train"].lengths,
        batch_size=bench.recipe.batch_size,
        accumulation=bench.recipe.gradient_accumulation_steps,
        rng=np.random.default_rng([bench.seed, bench.state.epoch]),
    )


def _train_step(bench: Bench, batches: Sequence[NDArray[np.int64]]) -> None:
    """Do one optimiser step over one or several batches.

    The loss of each pass is summed and divided by the weight of the whole step: the gradient is that of one large
    batch, however the samples and their lengths fall into passes and processes.
    """
    bench.model.train()
    n_samples = sum(len(rows) for rows in batches)
    weight = float(sum(bench.tokens["train"].weights[rows].sum() for rows in batches))
    loss = torch.zeros((), device=bench.accelerator.device)
    passes = plan_passes(batches, seat=bench.seat, micro_batch=bench.execution.micro_batch)
    for number, one in enumerate(passes, start=1):
        with nullcontext() if number == len(passes) else bench.accelerator.no_sync(bench.trained):
            loss += _backward(bench, one, step_weight=weight)
    (step_loss,) = collectives.total([float(loss.item())])
    if not math.isfinite(step_loss):
        raise TrialError("diverged", f"the training loss is {step_loss} in step {bench.progress.step + 1}")
    if bench.recipe.max_grad_norm is not None:
        bench.accelerator.clip_grad_norm_(bench.model.parameters(), bench.recipe.max_grad_norm)
    bench.optimizer.step()
    if not bench.accelerator.optimizer_step_was_skipped:  # fp16 skips steps until its loss scale fits
        bench.scheduler.step()
    bench.optimizer.zero_grad()
    bench.state.epoch_step += 1
    bench.state.loss_sum += step_loss * n_samples
    bench.state.loss_samples += n_samples
    bench.progress.step += 1
    bench.progress.n_samples += n_samples


def _backward(bench: Bench, one: Pass, *, step_weight: float) -> Tensor:
    """Do one pass; gradients are averaged over processes, so each counts as often as there are processes."""
    inputs, targets = collate(bench.tokens["train"], one.rows, device=bench.accelerator.device)
    loss = bench.task.loss(bench.trained, inputs, targets=targets) / step_weight
    bench.accelerator.backward(loss * bench.seat.n_ranks if one.counts else loss * 0.0)
    return loss.detach() if one.counts else torch.zeros_like(loss)


def _close_epoch(bench: Bench, dev: Scores) -> None:
    """Note an epoch's scores, keep its weights if it is the best, and count epochs without a gain."""
    state, progress = bench.state, bench.progress
    train_loss = state.loss_sum / max(state.loss_samples, 1)
    state.epoch, state.epoch_step, state.loss_sum, state.loss_samples = state.epoch + 1, 0, 0.0, 0
    progress.curve.append((float(state.epoch), train_loss, dev.loss, dev.f1))
    progress.dev_f1 = dev.f1
    if (dev.f1, -dev.loss) > (state.best_f1, -state.best_loss):
        state.best_epoch, state.best_f1, state.best_loss = state.epoch, dev.f1, dev.loss
        state.best_weights = trainable(bench.model)
        progress.metrics |= {"train_loss": train_loss, "dev_loss": dev.loss, "dev_f1": dev.f1}
    # A falling loss is a gain too: F1 stands still for the first epochs of a new head, until it has left the
    # majority class, and would end every slow start.
    delta = bench.recipe.early_stopping_delta
    has_gained = dev.f1 > state.reference_f1 + delta or dev.loss < state.reference_loss - delta
    if has_gained or state.epoch == 1:
        state.reference_f1 = max(state.reference_f1, dev.f1)
        state.reference_loss = min(state.reference_loss, dev.loss)
        state.epochs_without_gain = 0
    else:
        state.epochs_without_gain += 1
