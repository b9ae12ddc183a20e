"""How a node carries a pipeline out: what may differ from the pipeline as drawn without changing what is learnt."""

from dataclasses import dataclass, replace
from enum import StrEnum


class StepMode(StrEnum):
    """How optimiser steps are computed."""

    EAGER = "eager"
    """Kernel by kernel, each started by the host."""
    GRAPH = "graph"
    """Captured once in a CUDA graph for each padded length, then replayed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpeed:
    """Speed of a device, as the profile job measures it.

    Attributes:
        single_flops_per_s: Operations a second of a product of matrices in single precision.
        half_flops_per_s: The same in half precision; ``None`` on a CPU.
        bytes_per_s: Bytes a second of a copy within its memory, reading and writing counted.
        kernel_s: Seconds that the host takes to start a kernel in a training step.
        upload_bytes_per_s: Bytes a second from the host's memory; ``None`` on a CPU.
        context_bytes: Memory of the GPU that is taken before anything is trained; ``None`` on a CPU.
    """

    single_flops_per_s: float
    half_flops_per_s: float | None
    bytes_per_s: float
    kernel_s: float
    upload_bytes_per_s: float | None = None
    context_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How the optimiser steps of a pipeline are computed; their samples and gradients are the pipeline's own.

    Attributes:
        micro_batch: Samples of one forward pass on one process; ``None`` takes the process's share of the batch.
        gradient_checkpointing: Whether activations are computed again in the backward pass instead of kept.
        sharded: Whether weights, gradients and optimiser states are spread over the processes (FSDP).
        evaluation_batch: Samples of one pass of an evaluation on one process; ``None`` leaves it to the worker.
    """

    micro_batch: int | None = None
    gradient_checkpointing: bool = False
    sharded: bool = False
    evaluation_batch: int | None = None

    def __post_init__(self) -> None:
        for name in ("micro_batch", "evaluation_batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} = {value}: expected 1 or more")

    def halved(self, batch_size: int) -> "Execution | None":
        """Return the same with half the samples in each pass; ``None`` where training has but one.

        Args:
            batch_size: A process's share of the batch, where no micro-batch is set.
        """
        now = min(self.micro_batch or batch_size, batch_size)
        if now <= 1:
            return None
        evaluated = None if self.evaluation_batch is None else max(1, self.evaluation_batch // 2)
        return replace(self, micro_batch=now // 2, evaluation_batch=evaluated)


AS_DRAWN = Execution()
"""Whole batches, activations kept, nothing sharded."""
