"""Steps computed kernel by kernel, each batch padded to its longest row; the host waits for each step's loss."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xautolm_hpc.execution import StepMode
from xautolm_hpc.train import collectives
from xautolm_hpc.train.data import MicroBatch, collate, plan_micro_batches
from xautolm_hpc.train.loop import TrainState
from xautolm_hpc.train.steps.runner import Edges, StepResult, step_seed


class EagerRunner:
    """Runs steps eagerly; works on every device, for every model, with any number of processes.

    Attributes:
        mode: Always eager.
        reason: Why steps are not captured although that was asked for, or ``None``.
    """

    mode = StepMode.EAGER

    def __init__(self, train_state: TrainState, *, reason: str | None = None, n_started: int | None = None) -> None:
        """Keep what is trained.

        Args:
            train_state: The model and all it is trained with.
            reason: Why steps are not captured although that was asked for.
            n_started: Steps that another runner has started; ``None`` takes those that are over.
        """
        self.reason = reason
        self._train_state = train_state
        self._n_started = n_started

    def start(self, batches: Sequence[NDArray[np.int64]]) -> Sequence[StepResult]:
        """Run one optimiser step over one or several batches.

        The losses of all micro-batches are summed and divided by the weight of the whole step: the gradient is that of
        one large batch, however its samples are divided among micro-batches and processes.
        """
        train_state = self._train_state
        train_state.model.train()
        self._seed()
        weight = float(sum(train_state.tokens["train"].weights[rows].sum() for rows in batches))
        loss = torch.zeros((), device=train_state.accelerator.device)
        micro_batches = plan_micro_batches(batches, rank=train_state.rank, max_rows=train_state.execution.micro_batch)
        for number, micro_batch in enumerate(micro_batches, start=1):
            is_last = number == len(micro_batches)
            with nullcontext() if is_last else train_state.accelerator.no_sync(train_state.trained):
                loss += self._backward(micro_batch, step_weight=weight)
        (step_loss,) = collectives.total([float(loss.item())])
        if math.isfinite(step_loss):
            self._update()
        return [StepResult(step_loss, sum(len(rows) for rows in batches))]

    @property
    def n_captures(self) -> int:
        """Return 0: nothing is captured."""
        return 0

    def finish(self) -> Sequence[StepResult]:
        """Return nothing: no step is ever left unfinished."""
        return []

    def evaluator(self) -> Any:
        """Return the model itself."""
        return self._train_state.model

    def edges(self) -> Edges | None:
        """Return nothing: batches are padded to their longest rows."""
        return None

    def use_edges(self, edges: Edges) -> None:
        """Ignore the padded lengths of a checkpoint that captured steps wrote."""

    def _seed(self) -> None:
        """Make dropout on a GPU follow from seed and step; on CPUs it follows from the generator of the checkpoint."""
        train_state = self._train_state
        if self._n_started is None:
            self._n_started = train_state.progress.step
        if train_state.accelerator.device.type == "cuda":
            torch.cuda.manual_seed(step_seed(train_state.seed, self._n_started, rank=train_state.rank.index))
        self._n_started += 1

    def _backward(self, micro_batch: MicroBatch, *, step_weight: float) -> Tensor:
        """Compute the gradient of a micro-batch, times the number of ranks: gradients are averaged over the ranks."""
        train_state = self._train_state
        inputs, targets = collate(train_state.tokens["train"], micro_batch.rows, device=train_state.accelerator.device)
        loss = train_state.task.loss(train_state.trained, inputs, targets=targets) / step_weight
        train_state.accelerator.backward(loss * train_state.rank.n_ranks if micro_batch.counts else loss * 0.0)
        return loss.detach() if micro_batch.counts else torch.zeros_like(loss)

    def _update(self) -> None:
        train_state = self._train_state
        if train_state.recipe.max_grad_norm is not None:
            train_state.accelerator.clip_grad_norm_(train_state.model.parameters(), train_state.recipe.max_grad_norm)
        scale_before = _loss_scale(train_state)
        train_state.optimizer.step()
        # fp16 skips steps until its loss scale fits. A fused optimiser does so on the device, unseen by accelerate.
        if _loss_scale(train_state) >= scale_before:
            train_state.scheduler.step()
        train_state.optimizer.zero_grad()


def _loss_scale(train_state: TrainState) -> float:
    """Return the scale of the loss, 1 without one: it falls when a step is skipped, as a gradient has overflowed."""
    scaler = train_state.accelerator.scaler
    return 1.0 if scaler is None or not scaler.is_enabled() else float(scaler.get_scale())
