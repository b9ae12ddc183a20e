"""The training loop: epochs of optimiser steps, early stopping on ``dev``, then the weights of the best epoch.

The loop can be left between any two steps (:class:`StopRequestedError`) and resumed from a checkpoint. All it needs
for that is in :class:`LoopState`, the model, the optimiser, the schedule and torch's generators.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
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
from xautolm_hpc.failures import FailureKind
from xautolm_hpc.hyperparameters import n_warmup_steps
from xautolm_hpc.train import collectives
from xautolm_hpc.train.costs.parts import Part
from xautolm_hpc.train.data import Tokens, plan_epoch, plan_evaluation
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.kinds.metrics import Scores
from xautolm_hpc.train.kinds.tasks import LearningTask
from xautolm_hpc.train.limit.at_limit import LimitReachedError, scaled_seconds
from xautolm_hpc.train.limit.trial_budget import Decision, Progress, TrialBudget
from xautolm_hpc.train.process_group import ALONE, Rank
from xautolm_hpc.train.recipe import Recipe
from xautolm_hpc.train.sharding import put, whole
from xautolm_hpc.train.steps.runner import StepResult, StepRunner
from xautolm_hpc.train.stop import StopRequestedError

CHECKPOINT_INTERVAL_S = 60.0
"""Seconds between two checkpoints at least; they are written at the ends of epochs."""

EVALUATION_BATCH = 16
"""Samples of an evaluation batch if the driver names no number: on CPUs, where larger batches are slower."""


@dataclass(slots=True, kw_only=True)
class LoopState:
    """How far training has come.

    Attributes:
        epoch: Epochs done.
        epoch_step: Optimiser steps done in the current epoch.
        loss_sum: Sum of the training loss over the samples of the current epoch.
        loss_samples: Samples in ``loss_sum``.
        best_epoch: Epoch of the best weights, from 1; 0 before the first evaluation.
        best_f1: F1 on ``dev`` of that epoch; ``best_loss`` is its loss there, ``best_train_loss`` that on ``train``.
        best_weights: Trainable parameters after that epoch, on the CPU; if it was the last one they are in the model.
        reference_f1: F1 that a gain is measured from; ``reference_loss`` likewise.
        epochs_without_gain: Epochs since F1 last rose, or the loss last fell, by ``early_stopping_delta``; those that
            end before early stopping may begin do not count.
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
class TrainState:
    """Everything that training works with.

    Attributes:
        recipe: Hyperparameters.
        seed: Training seed.
        accelerator: Device and precision.
        model: Model to train, on the device; it is evaluated and saved.
        trained: The same model in a wrapper that averages gradients over processes; training calls this one.
        optimizer: Its optimiser.
        scheduler: Learning rate of each optimiser step.
        task: What is learnt: its loss, answers and scores.
        tokens: Split name -> its tokens.
        loop: How far training has come.
        progress: What the trial has done so far.
        budget: Ends the trial between two steps.
        rank: This process among those of the trial.
        execution: How steps are computed.
        early_stopping_min_steps: Optimiser steps after the warm-up before early stopping counts epochs; 0 counts all.
        runner: Computes the steps; set once all of the above is there.
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
    loop: LoopState
    progress: Progress
    budget: TrialBudget
    rank: Rank = ALONE
    execution: Execution = AS_DRAWN
    early_stopping_min_steps: int = 0
    runner: StepRunner = field(init=False)


def train(train_state: TrainState, *, save: Callable[[], None]) -> None:
    """Train to the end, or as long as the budget allows, then load the weights of the best epoch.

    Args:
        train_state: The model and all it is trained with; ``loop`` says where to begin.
        save: Writes a checkpoint.

    Raises:
        StopRequestedError: A signal asked to stop; the train state is that between two steps.
        TrialError: The budget is used up (``time_limit``) or a loss is not finite (``diverged``).
    """
    loop, progress = train_state.loop, train_state.progress
    try:
        _train_epochs(train_state, save=save)
    except LimitReachedError as reached:
        progress.truncated = loop.finished = True
        progress.notes.append(str(reached))
        if not loop.best_epoch and loop.loss_samples:
            progress.metrics["train_loss"] = loop.loss_sum / loop.loss_samples
    if loop.best_weights is not None and (loop.best_epoch != loop.epoch or progress.truncated):
        load_trainable(train_state.model, loop.best_weights)


def _train_epochs(train_state: TrainState, *, save: Callable[[], None]) -> None:
    """Train and evaluate epoch after epoch until training is over."""
    loop, recipe, progress = train_state.loop, train_state.recipe, train_state.progress
    saved_at = time.monotonic()
    memory = _reserve_memory(train_state)
    while not loop.finished:
        with progress.parts.measure(Part.STEPS):
            _run_steps(train_state, epoch_steps(train_state, loop.epoch)[loop.epoch_step :])
        _close_epoch(train_state, _evaluate_dev(train_state))
        loop.finished = loop.epoch >= recipe.epochs or loop.epochs_without_gain >= recipe.early_stopping_patience
        if loop.best_epoch == loop.epoch and not loop.finished:  # at the end they are in the model
            with progress.parts.measure(Part.BEST_WEIGHTS):
                kept = loop.best_weights or (None if memory is None else memory.result())
                loop.best_weights = trainable(train_state.model, into=kept)
        if time.monotonic() - saved_at > CHECKPOINT_INTERVAL_S and not loop.finished:
            with progress.parts.measure(Part.CHECKPOINT):
                save()
            saved_at = time.monotonic()
        progress.epoch_parts_s.append(progress.parts.take())


def evaluate(train_state: TrainState, split: str) -> Scores:
    """Score the model on one split.

    Args:
        train_state: The model and the tokens of the split.
        split: ``dev`` or ``validation``.

    Raises:
        StopRequestedError: A signal asked to stop.
        TrialError: The budget is used up (``time_limit``) or an answer is not finite (``diverged``).
    """
    tokens = train_state.tokens[split]
    batches = plan_evaluation(tokens.lengths, train_state.execution.evaluation_batch or EVALUATION_BATCH)
    rank, is_sharded = train_state.rank, train_state.execution.sharded
    # The ranks of a sharded model must run it together, so each evaluates every batch.
    own = batches if is_sharded else batches[rank.index :: rank.n_ranks]
    n_rounds = len(batches) if is_sharded else -(-len(batches) // rank.n_ranks)
    answered: list[tuple[int, Any]] = []
    train_state.model.eval()
    model = train_state.runner.evaluator()
    parts = train_state.progress.parts
    with parts.measure(Part.EVALUATION):
        for number in range(n_rounds):
            train_state.budget.check()
            for rows in own[number : number + 1]:
                answered += zip(rows.tolist(), _answer(train_state, model, tokens=tokens, rows=rows), strict=True)
    answers: list[Any] = [None] * len(tokens)
    with parts.measure(Part.SCORES):
        for row, answer in chain(*collectives.all_gather(answered)):
            answers[row] = answer
        scores = train_state.task.score(tokens, answers)
    if not math.isfinite(scores.loss):
        raise TrialError(
            FailureKind.DIVERGED, f"answers on {split} are not finite after step {train_state.progress.step}"
        )
    return scores


def _answer(train_state: TrainState, model: Any, *, tokens: Tokens, rows: NDArray[np.int64]) -> Sequence[Any]:
    """Return the answers to a batch of rows."""
    with torch.no_grad(), train_state.accelerator.autocast():  # answers are not written by the model's forward alone
        return train_state.task.answer(model, tokens, rows=rows, device=train_state.accelerator.device)


def _evaluate_dev(train_state: TrainState) -> Scores:
    """Score the model on ``dev``, and foresee from it what the evaluation on ``validation`` will take."""
    plan = train_state.budget.plan
    _look_ahead(train_state, is_epoch_over=True)
    began = time.monotonic()
    scores = evaluate(train_state, "dev")
    dev_s, lengths = time.monotonic() - began, [train_state.tokens[split].lengths for split in ("dev", "validation")]
    plan.remember(dev_s, scaled_seconds(dev_s, lengths[0], asked=lengths[1]))
    return scores


def _probe_evaluation(train_state: TrainState) -> None:
    """Find out in the first epoch what evaluations will take: a batch of ``dev`` is answered twice.

    The first time also takes what comes once: kernels are loaded, and captured.
    """
    tokens, plan = train_state.tokens["dev"], train_state.budget.plan
    batches = plan_evaluation(tokens.lengths, train_state.execution.evaluation_batch or EVALUATION_BATCH)
    rows = batches[len(batches) // 4]  # the longest rows come first
    train_state.model.eval()
    model, took_s = train_state.runner.evaluator(), []
    for _ in range(2):
        began = time.monotonic()
        _answer(train_state, model, tokens=tokens, rows=rows)
        took_s.append(time.monotonic() - began)
    once_s = max(0.0, took_s[0] - took_s[1])
    n_ranks = 1 if train_state.execution.sharded else train_state.rank.n_ranks
    dev_s, validation_s = (
        once_s + scaled_seconds(took_s[1] / n_ranks, tokens.lengths[rows], asked=train_state.tokens[split].lengths)
        for split in ("dev", "validation")
    )
    plan.remember(dev_s, validation_s)


def trainable(model: nn.Module, *, into: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Copy the trainable parameters to the CPU.

    Args:
        model: The model.
        into: An earlier copy whose memory is used again; new memory takes longer than the copy itself.

    Returns:
        Name -> values.
    """
    values = {name: whole(p.detach()) for name, p in model.named_parameters() if p.requires_grad}
    kept = into if into is not None and into.keys() == values.keys() else None
    if kept is None:
        return {name: value.to("cpu", copy=True) for name, value in values.items()}
    return {name: kept[name].copy_(value) for name, value in values.items()}


def _reserve_memory(train_state: TrainState) -> Future[dict[str, Tensor]] | None:
    """Reserve memory of the host for the best weights while the GPU trains: it takes ten times as long as the copy.

    Returns:
        Tensors for :func:`trainable`, once they are there; ``None`` without a GPU.
    """
    if train_state.accelerator.device.type != "cuda":
        return None

    def reserve() -> dict[str, Tensor]:
        trained = {name: p for name, p in train_state.model.named_parameters() if p.requires_grad}
        return {name: torch.empty(p.shape, dtype=p.dtype, device="cpu").fill_(0) for name, p in trained.items()}

    pool = ThreadPoolExecutor(1)
    reserved = pool.submit(reserve)
    pool.shutdown(wait=False)
    return reserved


def load_trainable(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load parameters that :func:`trainable` copied."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, values in weights.items():
            put(parameters[name], values)


def epoch_steps(train_state: TrainState, epoch: int) -> list[list[NDArray[np.int64]]]:
    """Plan an epoch. It depends on seed and epoch only, so a resumed trial gets the same plan."""
    return plan_epoch(
        train_state.tokens["train"].lengths,
        batch_size=train_state.recipe.batch_size,
        accumulation=train_state.recipe.gradient_accumulation_steps,
        rng=np.random.default_rng([train_state.seed, epoch]),
    )


def _run_steps(train_state: TrainState, planned: Sequence[Sequence[NDArray[np.int64]]]) -> None:
    """Run the steps that are left of an epoch; when this returns or the trial is to end, all that began are over."""
    runner, plan = train_state.runner, train_state.budget.plan
    for batches in planned:
        try:
            _look_ahead(train_state)
        except (StopRequestedError, TrialError, LimitReachedError):
            _record(train_state, runner.finish())
            raise
        began, n_over = time.monotonic(), train_state.progress.step
        plan.n_pending += 1
        _record(train_state, runner.start(batches))
        n_over = train_state.progress.step - n_over
        plan.n_pending -= n_over
        plan.step_timer.add(n_over, time.monotonic() - began, n_captures=runner.n_captures)
    _record(train_state, runner.finish())
    plan.n_pending = 0


def _look_ahead(train_state: TrainState, *, is_epoch_over: bool = False) -> None:
    """Return if the next step, or the evaluation after an epoch, may begin; foresee first what has to be foreseen."""
    budget, progress = train_state.budget, train_state.progress
    while True:
        decision = budget.check(ahead_s=budget.plan.dev_s if is_epoch_over else budget.plan.ahead_s)
        if decision is Decision.CONTINUE:
            return
        if decision is Decision.FORETELL:
            budget.foretell(progress.n_steps // max(progress.epochs, 1) - train_state.loop.epoch_step)
        else:
            _record(train_state, train_state.runner.finish())
            budget.plan.n_pending = 0
            _probe_evaluation(train_state)


def _record(train_state: TrainState, results: Sequence[StepResult]) -> None:
    """Count steps that are over.

    Raises:
        TrialError: The loss of one is not finite; kind ``diverged``.
    """
    loop, progress = train_state.loop, train_state.progress
    for result in results:
        if not math.isfinite(result.loss):
            raise TrialError(FailureKind.DIVERGED, f"the training loss is {result.loss} in step {progress.step + 1}")
        loop.epoch_step += 1
        loop.loss_sum += result.loss * result.n_samples
        loop.loss_samples += result.n_samples
        progress.step += 1
        progress.n_samples += result.n_samples


def _close_epoch(train_state: TrainState, dev: Scores) -> None:
    """Record an epoch's scores, keep its weights if it is the best, and count the epochs without a gain."""
    loop, progress = train_state.loop, train_state.progress
    train_loss = loop.loss_sum / max(loop.loss_samples, 1)
    loop.epoch, loop.epoch_step, loop.loss_sum, loop.loss_samples = loop.epoch + 1, 0, 0.0, 0
    progress.curve.append((float(loop.epoch), train_loss, dev.loss, dev.f1, progress.train.total_s))
    progress.dev_f1 = dev.f1
    if (dev.f1, -dev.loss) > (loop.best_f1, -loop.best_loss):
        loop.best_epoch, loop.best_f1, loop.best_loss = loop.epoch, dev.f1, dev.loss
        progress.metrics |= {"train_loss": train_loss, "dev_loss": dev.loss, "dev_f1": dev.f1}
    # A falling loss is a gain too: a new head predicts the majority class for some epochs, and F1 stays the same.
    # Without this every slow start would be stopped early.
    delta = train_state.recipe.early_stopping_delta
    has_gained = dev.f1 > loop.reference_f1 + delta or dev.loss < loop.reference_loss - delta
    if has_gained or loop.epoch == 1:
        loop.reference_f1 = max(loop.reference_f1, dev.f1)
        loop.reference_loss = min(loop.reference_loss, dev.loss)
        loop.epochs_without_gain = 0
    elif _may_lose_patience(train_state):
        loop.epochs_without_gain += 1


def _may_lose_patience(train_state: TrainState) -> bool:
    """Check whether early stopping counts this epoch: with few rows a new head learns nothing for several epochs."""
    min_steps, recipe, progress = train_state.early_stopping_min_steps, train_state.recipe, train_state.progress
    n_warmup = n_warmup_steps(recipe.warmup_steps, recipe.warmup_ratio, n_steps=progress.n_steps)
    return min_steps == 0 or progress.step - n_warmup >= min_steps
