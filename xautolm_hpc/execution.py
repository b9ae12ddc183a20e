"""How a node carries a pipeline out: what may differ from the pipeline as drawn without changing what is learnt."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How the optimiser steps of a pipeline are computed; their samples and gradients are the pipeline's own.

    Attributes:
        micro_batch: Samples of one forward pass on one process; ``None`` takes the process's share of the batch.
        gradient_checkpointing: Whether activations are computed again in the backward pass instead of kept.
        sharded: Whether weights, gradients and optimiser states are spread over the processes (FSDP).
    """

    micro_batch: int | None = None
    gradient_checkpointing: bool = False
    sharded: bool = False

    def __post_init__(self) -> None:
        if self.micro_batch is not None and self.micro_batch < 1:
            raise ValueError(f"micro_batch = {self.micro_batch}: expected 1 or more")

    def halved(self, batch_size: int) -> "Execution | None":
        """Give the same with half the samples in a forward pass; ``None`` where there is but one.

        Args:
            batch_size: A process's share of the batch, where no micro-batch is set.
        """
        now = min(self.micro_batch or batch_size, batch_size)
        if now <= 1:
            return None
        return Execution(micro_batch=now // 2, gradient_checkpointing=self.gradient_checkpointing, sharded=self.sharded)


AS_DRAWN = Execution()
"""Whole batches, activations kept, nothing sharded."""
