"""What all graphs of a training share: on the device the batch, the gradients, the update; on the host buffers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from xautolm_hpc.train.loop import TrainState
from xautolm_hpc.train.steps.device_update import Update, find_loss_scale, learning_rates
from xautolm_hpc.train.steps.fixed_batches import BatchLayout, HostBuffers


class DeviceState:
    """The tensors that graphs read and write; they stay where they are as long as graphs do.

    Attributes:
        static: The batch, (size of the largest layout,).
        update: Ends a step.
        staging: Buffers on the host that batches are copied from.
        results: Buffers on the host that the results of steps are copied to.
    """

    def __init__(
        self, train_state: TrainState, largest: BatchLayout, *, keeps_gradients: bool, is_pinned: bool
    ) -> None:
        """Reserve the tensors.

        Args:
            train_state: The model and all it is trained with, a checkpoint loaded.
            largest: Layout of the largest batch.
            keeps_gradients: Whether gradients are added up over several graphs.
            is_pinned: Whether copies between host and device must not wait.
        """
        device = train_state.accelerator.device
        self._optimizer = train_state.optimizer.optimizer
        self._keeps_gradients = keeps_gradients
        self.static = torch.zeros(largest.size, dtype=torch.int64, device=device)
        self.staging = HostBuffers(largest.size, dtype=torch.int64, is_pinned=is_pinned)
        self.results = HostBuffers(2, dtype=torch.float32, is_pinned=is_pinned)
        self.update = Update(
            self._optimizer,
            rates=learning_rates(train_state.scheduler, n_steps=train_state.progress.n_steps),
            position=train_state.scheduler.last_epoch,
            max_grad_norm=train_state.recipe.max_grad_norm,
            loss_scale=find_loss_scale(train_state.accelerator.scaler, device),
            device=device,
        )

    @contextmanager
    def warming_up(self) -> Iterator[None]:
        """Hold every step, so that weights, optimiser and schedule stay as they are; afterwards start afresh."""
        self.update.held.fill_(1)
        try:
            yield
        finally:
            self.update.held.zero_()
            self.update.loss.zero_()
            self._clear_gradients()

    def check_fits(self, layout: BatchLayout) -> None:
        """Check that a batch has room.

        Raises:
            ValueError: It has more numbers than the largest that was planned.
        """
        if layout.size > len(self.static):
            raise ValueError(f"a batch has {layout.size} numbers; the largest of the plan has {len(self.static)}")

    def free(self, staged: Sequence[Tensor], result: Tensor) -> None:
        """Return the buffers of a step that is over, to be used again."""
        for buffer in staged:
            self.staging.give_back(buffer)
        self.results.give_back(result)

    def begin_pass(self) -> None:
        """Make the backward pass write gradients, not add to them, unless they are added up."""
        if not self._keeps_gradients:
            self.drop_gradients()

    def end_step(self) -> None:
        """Run the update, and leave no gradients behind."""
        self.update.run()
        self._clear_gradients()

    def drop_gradients(self) -> None:
        """Drop gradients; their memory is reused by the next graph."""
        self._optimizer.zero_grad(set_to_none=True)

    def _clear_gradients(self) -> None:
        """Leave no gradients; those that are added up stay where they are, as graphs know them there."""
        if not self._keeps_gradients:
            self.drop_gradients()
            return
        gradients = [p.grad for group in self._optimizer.param_groups for p in group["params"] if p.grad is not None]
        if gradients:
            torch._foreach_zero_(gradients)
