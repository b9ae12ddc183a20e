"""The end of a captured step: clipping, optimiser, learning rate and loss scale, without a number of the host."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


def learning_rates(scheduler: LRScheduler, *, n_steps: int) -> Tensor:
    """Compute the learning rates of all steps of a training.

    Args:
        scheduler: The schedule: a multiple of the highest rate for each step.
        n_steps: Steps.

    Returns:
        Rates, (n_steps + 1, n_groups).

    Raises:
        ValueError: The schedule is none of that kind.
    """
    if not isinstance(scheduler, LambdaLR):
        raise ValueError(f"schedule {type(scheduler).__name__} is not a function of the step")
    shares = {share: [float(share(step)) for step in range(n_steps + 1)] for share in set(scheduler.lr_lambdas)}
    pairs = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    return torch.tensor([[float(base) * value for value in shares[share]] for base, share in pairs]).T.contiguous()


@dataclass(slots=True)
class LossScale:
    """The scale of the loss in half precision of small range (fp16), as torch's gradient scaler adapts it.

    Attributes:
        scale: The scale, one number; the scaler's own tensor, so that its checkpoint knows it.
        growth_tracker: Steps since it last changed, likewise.
        growth_factor: What it is multiplied by after ``n_growth_steps`` steps without an overflow.
        backoff_factor: What it is multiplied by after an overflow.
        n_growth_steps: Steps.
    """

    scale: Tensor
    growth_tracker: Tensor
    growth_factor: float
    backoff_factor: float
    n_growth_steps: int

    def unscale(self, gradients: Sequence[Tensor]) -> Tensor:
        """Divide gradients by the scale in place; return 1 if one of them is not finite, else 0, ()."""
        overflows = torch.zeros((), device=self.scale.device)
        inverse = self.scale.double().reciprocal().float()
        torch._amp_foreach_non_finite_check_and_unscale_(list(gradients), overflows, inverse)
        return overflows

    def adapt(self, overflows: Tensor, *, is_held: Tensor) -> None:
        """Adapt the scale to whether the step overflowed, unless the step is held."""
        scale, tracker = self.scale.clone(), self.growth_tracker.clone()
        torch._amp_update_scale_(
            scale, tracker, overflows, self.growth_factor, self.backoff_factor, self.n_growth_steps
        )
        self.scale.copy_(torch.where(is_held, self.scale, scale))
        self.growth_tracker.copy_(torch.where(is_held, self.growth_tracker, tracker))


def find_loss_scale(scaler: Any, device: torch.device) -> LossScale | None:
    """Return the loss scale of a gradient scaler, ``None`` without one."""
    if scaler is None or not scaler.is_enabled():
        return None
    if scaler._scale is None:
        scaler._lazy_init_scale_growth_tracker(device)
    return LossScale(
        scaler._scale,
        scaler._growth_tracker,
        scaler.get_growth_factor(),
        scaler.get_backoff_factor(),
        scaler.get_growth_interval(),
    )


class Update:
    """Clips gradients and does an optimiser step, all on the device.

    A step is skipped, with weights, optimiser, schedule and scale as they were, if its loss is not finite or while it
    is held; it is skipped, and the scale reduced, if its gradients overflow.

    Attributes:
        loss: Loss of the step so far, ().
        held: 1 while steps are run to warm up, else 0, ().
        result: Loss of the last step, and whether the schedule stood still in it, 1 or 0: (2,).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        rates: Tensor,
        position: int,
        max_grad_norm: float | None,
        loss_scale: LossScale | None,
        device: torch.device,
    ) -> None:
        """Prepare what a step needs on the device.

        Args:
            optimizer: The optimiser; its step must be capturable.
            rates: Learning rate of each step and group, (n_steps + 1, n_groups).
            position: Steps that the schedule has done.
            max_grad_norm: Norm that gradients are clipped to; ``None`` does not clip.
            loss_scale: Scale of the loss, or ``None``.
            device: Device of all this.
        """
        self._optimizer = optimizer
        self._rates = rates.to(device)
        self._position = torch.tensor([position], device=device)
        self._rate = [torch.zeros((), device=device) for _ in optimizer.param_groups]
        self._max_grad_norm = max_grad_norm
        self._loss_scale = loss_scale
        self.loss, self.held = torch.zeros((), device=device), torch.zeros((), device=device)
        self.result = torch.zeros(2, device=device)

    def scaled(self, loss: Tensor) -> Tensor:
        """Scale a loss, before its backward pass."""
        return loss if self._loss_scale is None else loss * self._loss_scale.scale.view(())

    def run(self) -> None:
        """Run the step with the gradients there are, then leave the loss at 0 for the next one."""
        trained = [p for group in self._optimizer.param_groups for p in group["params"] if p.grad is not None]
        is_bad = ~torch.isfinite(self.loss)
        is_held = (self.held != 0) | is_bad
        overflows = torch.zeros_like(self.held)
        if self._loss_scale is not None:
            overflows = self._loss_scale.unscale([p.grad for p in trained])
            self._loss_scale.adapt(overflows, is_held=is_held)
        if self._max_grad_norm is not None:
            nn.utils.clip_grad_norm_(trained, self._max_grad_norm)
        skips = torch.maximum(overflows, is_held.float())
        self._step(skips)
        self._position.add_((1 - skips).long())
        self.result[0].copy_(self.loss)
        self.result[1].copy_(skips)
        self.loss.zero_()

    def _step(self, skips: Tensor) -> None:
        current = self._rates.index_select(0, self._position.clamp(max=len(self._rates) - 1))  # (1, n_groups)
        for group, rate in enumerate(self._rate):
            rate.copy_(current[0, group])
        with _on_device(self._optimizer, self._rate, skips=skips):
            self._optimizer.step()


@contextmanager
def _on_device(optimizer: Optimizer, rates: Sequence[Tensor], *, skips: Tensor) -> Iterator[None]:
    """Make an optimiser read learning rates and whether to skip from the device; outside it is as it always is."""
    kept = [dict(group) for group in optimizer.param_groups]
    is_capturing = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
    stepping: Any = optimizer
    try:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
            if "capturable" in group:  # torch asks for it in a capture, and warns of it outside of one
                group["capturable"] = is_capturing
        stepping.found_inf = skips
        yield
    finally:
        del stepping.found_inf
        for group, before in zip(optimizer.param_groups, kept, strict=True):
            group["lr"] = before["lr"]
            if "capturable" in group:
                group["capturable"] = before["capturable"]
