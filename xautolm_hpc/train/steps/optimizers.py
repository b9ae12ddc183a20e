"""Optimisers whose step can be captured: nothing in it that changes from step to step is a number of the host.

torch's fused kernels read learning rate, step and the request to skip from the device. Adagrad has none on a GPU, and
transformers' Adafactor keeps its step and the decay that follows from it as numbers of the host: a captured step would
replay that of the first for ever, in silence. Both are written again here, with the same results.

A step is skipped where ``found_inf``, which torch's gradient scaler and fused kernels know too, is 1 on the device.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class _Capturable(Optimizer):
    """An optimiser that reads what changes from the device.

    Attributes:
        found_inf: 1 to leave weights and state as they are, else 0, (); ``None`` skips nothing.
    """

    found_inf: Tensor | None = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, the counts of steps too, beside the parameters; torch leaves these where they were read."""
        super().load_state_dict(state_dict)
        for parameter, state in self.state.items():
            if isinstance(state.get("step"), Tensor):
                state["step"] = state["step"].to(device=parameter.device, dtype=torch.float32)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Run one step, unless ``found_inf`` is 1.

        Args:
            closure: Not supported; ``None``.
        """
        for group in self.param_groups:
            trained = [parameter for parameter in group["params"] if parameter.grad is not None]
            if trained:
                self._update_group(group, trained)

    def _update_group(self, group: dict[str, Any], trained: list[Tensor]) -> None:
        """Update the parameters of a group that have gradients."""
        raise NotImplementedError

    def _skips(self, like: Tensor) -> Tensor:
        """Return 1 if the step is skipped, else 0, ()."""
        return torch.zeros((), device=like.device) if self.found_inf is None else self.found_inf

    def _count(self, trained: list[Tensor], skips: Tensor) -> list[Tensor]:
        """Count the step in the state of each parameter and return the counts, each ()."""
        for parameter in trained:
            state = self.state[parameter]
            if not isinstance(state.get("step"), Tensor):  # none yet, or that of an optimiser that counts on the host
                state["step"] = torch.tensor(float(state.get("step", 0)), dtype=torch.float32, device=parameter.device)
        steps = [self.state[parameter]["step"] for parameter in trained]
        torch._foreach_add_(steps, [1 - skips] * len(steps))
        return steps


class CapturableAdagrad(_Capturable):
    """Adagrad without a decay of the learning rate."""

    def __init__(self, params: Iterable[Any], *, lr: float, weight_decay: float = 0.0, eps: float = 1e-10) -> None:
        """Keep what is trained.

        Args:
            params: Parameters, or groups of them.
            lr: Learning rate.
            weight_decay: Share of a weight that is added to its gradient.
            eps: Added to the root of the summed squares.
        """
        defaults = {
            "lr": lr, "weight_decay": weight_decay, "eps": eps,
            # What torch's class can do besides, off, so that each reads the other's checkpoint.
            "lr_decay": 0.0, "initial_accumulator_value": 0.0,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _update_group(self, group: dict[str, Any], trained: list[Tensor]) -> None:
        """Divide gradients by the root of the sum of their squares so far."""
        skips = self._skips(trained[0])
        self._count(trained, skips)
        is_skipped = skips != 0
        for parameter in trained:
            if "sum" not in self.state[parameter]:
                self.state[parameter]["sum"] = torch.zeros_like(parameter)
        sums = [self.state[parameter]["sum"] for parameter in trained]
        gradients: list[Tensor] = [_gradient(parameter) for parameter in trained]
        if group["weight_decay"] != 0:
            gradients = list(torch._foreach_add(gradients, trained, alpha=group["weight_decay"]))
        # One that overflowed is no number: it is replaced, not multiplied by 0.
        gradients = [gradient.masked_fill(is_skipped, 0.0) for gradient in gradients]
        torch._foreach_addcmul_(sums, gradients, gradients)
        roots = torch._foreach_sqrt(sums)
        torch._foreach_add_(roots, group["eps"])
        updates = torch._foreach_div(gradients, roots)
        torch._foreach_mul_(updates, _on(trained[0], group["lr"]))
        torch._foreach_sub_(trained, updates)


class CapturableAdafactor(_Capturable):
    """Adafactor with a learning rate of its own: no relative steps, no scale by the size of weights, no momentum.

    Source:
        Shazeer and Stern 2018, "Adafactor", as transformers' ``Adafactor`` computes it.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        weight_decay: float = 0.0,
        eps: tuple[float, float] = (1e-30, 1e-3),
        clip_threshold: float = 1.0,
        decay_rate: float = -0.8,
    ) -> None:
        """Keep what is trained.

        Args:
            params: Parameters, or groups of them.
            lr: Learning rate.
            weight_decay: Share of a weight, times the learning rate, that a step takes off.
            eps: Added to squared gradients; the second is that of a scale which is off.
            clip_threshold: Root mean square that an update is scaled down to.
            decay_rate: Power of the step by which the mean of squares forgets.
        """
        defaults = {
            "lr": lr, "weight_decay": weight_decay, "eps": eps, "clip_threshold": clip_threshold,
            "decay_rate": decay_rate,
            # What transformers' class can do besides, off, so that each reads the other's checkpoint.
            "beta1": None, "scale_parameter": False, "relative_step": False, "warmup_init": False,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _update_group(self, group: dict[str, Any], trained: list[Tensor]) -> None:
        """Divide gradients by the root of a factored mean of their squares, and limit the size of the update."""
        skips = self._skips(trained[0])
        steps = self._count(trained, skips)
        is_skipped = skips != 0
        forgets = steps[0].clamp(min=1.0).pow(group["decay_rate"]).masked_fill(is_skipped, 0.0)
        gradients = [_gradient(parameter).masked_fill(is_skipped, 0.0) for parameter in trained]
        squares = torch._foreach_mul(gradients, gradients)
        torch._foreach_add_(squares, group["eps"][0])
        updates = [
            self._direction(parameter, gradient, square=square, forgets=forgets)
            for parameter, gradient, square in zip(trained, gradients, squares, strict=True)
        ]
        learning_rate = _on(trained[0], group["lr"])
        for parameter, update in zip(trained, updates, strict=True):
            norm = update.norm(2) / update.numel() ** 0.5
            update.div_((norm / group["clip_threshold"]).clamp_(min=1.0)).mul_(learning_rate)
            if group["weight_decay"] != 0:
                update.add_(parameter * learning_rate, alpha=group["weight_decay"])
            parameter.sub_(update.masked_fill(is_skipped, 0.0))

    def _direction(self, parameter: Tensor, gradient: Tensor, *, square: Tensor, forgets: Tensor) -> Tensor:
        """Update the means of squares and return the gradient divided by their roots."""
        state = self.state[parameter]
        if gradient.ndim < 2:
            squares = _mean(state, "exp_avg_sq", value=square, forgets=forgets)
            return squares.rsqrt().mul_(gradient)
        rows = _mean(state, "exp_avg_sq_row", value=square.mean(dim=-1), forgets=forgets)
        columns = _mean(state, "exp_avg_sq_col", value=square.mean(dim=-2), forgets=forgets)
        row_factor = (rows / rows.mean(dim=-1, keepdim=True)).rsqrt_().unsqueeze(-1)
        return torch.mul(row_factor, columns.unsqueeze(-2).rsqrt()).mul_(gradient)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturableOptimizer:
    """How an optimiser is built so that its step can be captured.

    Attributes:
        build: Builds it from parameter groups and ``lr``; ``None`` if there is no way.
        reason: Why there is none, or ``None``.
    """

    build: Callable[..., Optimizer] | None
    reason: str | None = None


CAPTURABLE: Mapping[str, CapturableOptimizer] = {
    "adamw": CapturableOptimizer(build=partial(torch.optim.AdamW, fused=True)),
    "adam": CapturableOptimizer(build=partial(torch.optim.Adam, fused=True)),
    "sgd": CapturableOptimizer(build=partial(torch.optim.SGD, fused=True)),
    "adagrad": CapturableOptimizer(build=CapturableAdagrad),
    "adafactor": CapturableOptimizer(build=CapturableAdafactor),
}
"""Each optimiser of :data:`xautolm_hpc.hyperparameters.OPTIMIZERS` -> how its step is captured, or why not."""


def _gradient(parameter: Tensor) -> Tensor:
    gradient = parameter.grad
    if gradient is None:
        raise ValueError("a parameter without a gradient has no step")
    return gradient


def _on(like: Tensor, learning_rate: float | Tensor) -> Tensor:
    """Return a learning rate as a tensor beside a parameter, ()."""
    if isinstance(learning_rate, Tensor):
        return learning_rate
    return torch.full((), learning_rate, dtype=torch.float32, device=like.device)


def _mean(state: dict[str, Any], name: str, *, value: Tensor, forgets: Tensor) -> Tensor:
    """Update a moving mean in a parameter's state and return it."""
    if name not in state:
        state[name] = torch.zeros_like(value)
    mean: Tensor = state[name]
    return mean.mul_(1 - forgets).add_(value * forgets)
