"""Seconds of a trial on a GPU whose speed was measured, from what a step of the model's architecture does.

A captured step takes what its arithmetic and the numbers that it moves take; an eager one at least as long as the host
takes to start its kernels.
"""

import math
from dataclasses import dataclass, replace

from xautolm_hpc.catalogue import Model
from xautolm_hpc.execution import AS_DRAWN, DeviceSpeed, Execution, StepCost, StepMode
from xautolm_hpc.hyperparameters import ADAPTER_METHODS, default_of
from xautolm_hpc.records import Pipeline, Task
from xautolm_hpc.sample.estimates import (
    is_half_precision,
    micro_batch_samples,
    n_optimiser_steps,
    n_train_rows,
    tokens_per_sample,
)
from xautolm_hpc.sample.memory_need import StepFacts
from xautolm_hpc.sample.operations import operations_per_token

PRODUCT_SHARE_HALF, PRODUCT_SHARE_SINGLE = 0.5, 0.75
"""Share of the speed of a large product of matrices that those of a model reach."""

MOVE_FACTOR = 1.6
"""How many times longer than one copy of the same bytes the kernels of a model take that move numbers."""

KERNEL_GAP_S = 1.5e-6
"""Seconds between two kernels of a graph."""

STEP_S = 3e-3
"""Seconds of the host in each eager step beside starting kernels: the batch, the loss, clipping, the schedule."""

HOST_FACTOR, ADAPTER_HOST_FACTOR, AGAIN_HOST_FACTOR, NF4_FACTOR = 1.1, 1.5, 1.5, 1.35
"""How many times longer the host takes than for the kernels of a plain block: models are larger programs than it; so
are adapters, activations that are computed again, and weights that are expanded for each use."""

UPDATE_BYTES = 36
"""Bytes that clipping and an update by AdamW read and write for each trained parameter."""

PARAMETERS_OF_BLOCK, ADAFACTOR_KERNELS = 16, 12
"""Tensors of parameters in a block, and kernels that Adafactor starts for each of them."""

CAPTURE_S = 0.08
"""Seconds of a capture, with its warm-up."""

MOST_CAPTURES, TOKENS_OF_CAPTURE = 12, 16
"""Captures of a training at most, and tokens of the longest text for each of them."""


@dataclass(frozen=True, slots=True)
class StepSeconds:
    """Seconds of the parts of a trial.

    Attributes:
        train_step_s: Of an optimiser step.
        evaluation_row_s: Of a row that is evaluated.
        start_s: Of all captures.
    """

    train_step_s: float
    evaluation_row_s: float
    start_s: float


def step_seconds(
    pipeline: Pipeline,
    model: Model,
    *,
    task: Task,
    speed: DeviceSpeed,
    measured: StepFacts,
    execution: Execution = AS_DRAWN,
) -> StepSeconds | None:
    """Estimate the seconds of a step on one GPU.

    Args:
        pipeline: The pipeline.
        model: Its model.
        task: The length of its texts.
        speed: Speed of the GPU.
        measured: What steps cost there, and how they are computed.
        execution: How this pipeline's steps are computed.

    Returns:
        The seconds; ``None`` where nothing was measured of the model.
    """
    again = execution.gradient_checkpointing
    cost = measured.find_cost(pipeline, model, task=task, checkpointing=again)
    frozen = replace(pipeline, method="head")
    forward_cost = measured.find_cost(
        frozen, model, task=replace(task, kind="text-classification"), checkpointing=False
    )
    if cost is None or forward_cost is None:
        return None
    length = tokens_per_sample(pipeline, task, quantile=0)
    n_rows = int(pipeline.params.get("batch_size", 1))
    n_micro_batches = math.ceil(n_rows / micro_batch_samples(pipeline, execution, n_processes=1))
    n_micro_batches *= int(pipeline.params.get("gradient_accumulation_steps", 1))
    forward, backward = operations_per_token(pipeline, model, length=length)
    if again:
        backward += forward
    n_tokens = n_micro_batches * micro_batch_samples(pipeline, execution, n_processes=1) * length
    is_captured = measured.step is StepMode.GRAPH and not again
    device = _Device(pipeline, model, speed=speed, is_captured=is_captured, is_checkpointed=again)
    train_s = device.seconds(
        cost, n_tokens, length=length, operations=forward + backward, n_micro_batches=n_micro_batches
    )
    n_evaluated = execution.evaluation_batch or n_rows
    evaluated_s = device.seconds(
        forward_cost, n_evaluated * length, length=length, operations=forward, n_micro_batches=1
    )
    return StepSeconds(
        train_step_s=train_s + device.update_s(cost),
        evaluation_row_s=evaluated_s / n_evaluated,
        start_s=CAPTURE_S * _n_captures(pipeline, task) if is_captured else 0.0,
    )


def trial_seconds(seconds: StepSeconds, pipeline: Pipeline, *, task: Task, epochs: float) -> float:
    """Sum the seconds of training and evaluation.

    Args:
        seconds: Those of the parts.
        pipeline: The pipeline.
        task: Its numbers of rows.
        epochs: Epochs that are trained.
    """
    of_epoch = n_optimiser_steps(pipeline, task) / max(int(pipeline.params.get("epochs", 1)), 1)
    n_evaluated = epochs * task.n_dev + task.n_validation
    return seconds.start_s + epochs * of_epoch * seconds.train_step_s + n_evaluated * seconds.evaluation_row_s


def least_epochs(pipeline: Pipeline) -> int:
    """Return the epochs after which early stopping may end training at the earliest."""
    params = pipeline.params
    patience = int(params.get("early_stopping_patience", default_of("early_stopping_patience")))
    return min(int(params.get("epochs", 1)), 1 + patience)


@dataclass(frozen=True, slots=True)
class _Device:
    """A GPU that computes steps of one pipeline."""

    pipeline: Pipeline
    model: Model
    speed: DeviceSpeed
    is_captured: bool
    is_checkpointed: bool

    def seconds(
        self, cost: StepCost, n_tokens: float, *, length: float, operations: float, n_micro_batches: int
    ) -> float:
        """Return the seconds of the passes of a step."""
        is_half, speed = is_half_precision(self.pipeline), self.speed
        rate = speed.half_flops_per_s if is_half and speed.half_flops_per_s else speed.single_flops_per_s
        share = PRODUCT_SHARE_HALF if is_half else PRODUCT_SHARE_SINGLE
        device_s = n_tokens * operations / (share * rate)
        device_s += MOVE_FACTOR * cost.moved_at(n_tokens, length) / speed.bytes_per_s
        if self._is_nf4:
            device_s *= NF4_FACTOR
        if self.is_captured:
            return device_s + KERNEL_GAP_S * n_micro_batches * cost.n_kernels
        return max(device_s, STEP_S + self._host_factor * n_micro_batches * cost.n_kernels * speed.kernel_s)

    def update_s(self, cost: StepCost) -> float:
        """Return the seconds of clipping and of the optimiser."""
        moving_s = UPDATE_BYTES * cost.n_trained / self.speed.bytes_per_s
        if self.pipeline.params.get("optimizer") != "adafactor" or self.pipeline.method in ADAPTER_METHODS:
            return moving_s
        return moving_s + ADAFACTOR_KERNELS * PARAMETERS_OF_BLOCK * self.model.n_layers * self.speed.kernel_s

    @property
    def _is_nf4(self) -> bool:
        return self.pipeline.params.get("quantization") == "nf4"

    @property
    def _host_factor(self) -> float:
        factor = ADAPTER_HOST_FACTOR if self.pipeline.method in ADAPTER_METHODS else HOST_FACTOR
        if self.is_checkpointed and self.pipeline.method not in ADAPTER_METHODS:
            factor *= AGAIN_HOST_FACTOR
        return factor * (NF4_FACTOR if self._is_nf4 else 1.0)


def _n_captures(pipeline: Pipeline, task: Task) -> int:
    """Estimate the padded lengths that are captured: few where there are few steps to make up for them."""
    longest = tokens_per_sample(pipeline, task, quantile=1)
    n_steps = n_optimiser_steps(pipeline, task)
    return max(
        1, min(MOST_CAPTURES, round(longest / TOKENS_OF_CAPTURE), n_steps // 15 + 1, n_train_rows(pipeline, task))
    )
