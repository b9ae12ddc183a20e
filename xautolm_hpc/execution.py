"""How a node carries a pipeline out: what may differ from the pipeline as drawn without changing what is learnt.

Also what a step costs there: ``step_costs.json`` holds it for the models of the catalogue, as ``make catalogue`` has
measured it from their architectures.
"""

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from importlib import resources
from typing import Any


class StepMode(StrEnum):
    """How optimiser steps are computed."""

    EAGER = "eager"
    """Kernel by kernel, each started by the host."""
    GRAPH = "graph"
    """Captured once in a CUDA graph for each padded length, then replayed."""


class AtLimit(StrEnum):
    """What a trial does when its budget is used up."""

    EVALUATE = "evaluate"
    """Evaluate its best state so far, in time kept for that, and succeed, truncated."""
    FAIL = "fail"
    """Fail with ``time_limit``."""


class Foretelling(StrEnum):
    """What follows when a trial is foretold not to fit into its budget."""

    OBEY = "obey"
    """It ends at once, or is not drawn."""
    LOG = "log"
    """Its log says so."""
    OFF = "off"
    """Nothing is foretold."""


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


@dataclass(frozen=True, slots=True)
class StepCost:
    """What a training step of a model takes, beside its weights and the states of the optimiser.

    ``n`` tokens in texts of ``l`` tokens take ``fixed_bytes + n * (token_bytes + l * pair_bytes)`` when the backward
    pass begins, and likewise for what is moved through the memory.

    Attributes:
        n_trained: Parameters that are trained, the new head counted.
        fixed_bytes: Bytes whatever the batch is.
        token_bytes: Bytes for each token of a batch.
        pair_bytes: Bytes for each token and token of its text.
        n_kernels: Kernels that are started forward and backward.
        moved_token_bytes: Bytes read and written for each token, products of matrices left out.
        moved_pair_bytes: The same for each token and token of its text.
    """

    n_trained: int
    fixed_bytes: float
    token_bytes: float
    pair_bytes: float
    n_kernels: float
    moved_token_bytes: float
    moved_pair_bytes: float

    def at(self, n_tokens: float, length: float) -> float:
        """Return the bytes for a batch of so many tokens, in texts of a length."""
        return self.fixed_bytes + n_tokens * (self.token_bytes + length * self.pair_bytes)

    def moved_at(self, n_tokens: float, length: float) -> float:
        """Return the bytes that are moved for such a batch."""
        return n_tokens * (self.moved_token_bytes + length * self.moved_pair_bytes)

    def between(self, other: "StepCost", share: float) -> "StepCost":
        """Return what lies between two: 0 for this one, 1 for the other, above 1 beyond it."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        n_trained, *others = (one + share * (two - one) for one, two in pairs)
        return StepCost(round(n_trained), *others)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCosts:
    """What steps of a model cost, measured from its architecture.

    Attributes:
        attention: How its attention was computed: ``sdpa``, or ``eager`` where it keeps a score for each two tokens.
        costs: Name of a way to train (:func:`cost_name`) -> what a step takes.
    """

    attention: str
    costs: Mapping[str, StepCost]

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> "ModelCosts":
        """Build it from plain data, as :meth:`plain` gives it."""
        costs = {name: StepCost(*numbers) for name, numbers in written["costs"].items()}
        return cls(attention=written["attention"], costs=costs)

    def plain(self) -> dict[str, Any]:
        """Return it as plain data: a list of numbers for each way."""
        rounded = {
            name: [round(number, 4 if abs(number) < 100 else 0) for number in astuple(cost)]
            for name, cost in self.costs.items()
        }
        return {"attention": self.attention, "costs": rounded}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMeasures:
    """What plans of memory and time are made of, as the profile job measured it.

    Attributes:
        speed: Speed of the node's GPU; ``None`` without one.
        attention: Model id -> how the worker's transformers computes its attention.
        costs: Model id -> what its steps cost, of models that the catalogue does not know.
    """

    speed: DeviceSpeed | None = None
    attention: Mapping[str, str] = field(default_factory=dict)
    costs: Mapping[str, ModelCosts] = field(default_factory=dict)


UNMEASURED = StepMeasures()
"""Nothing was measured."""


def cost_name(way: str, precision: str, *, checkpointing: bool = False, extra: str = "") -> str:
    """Name a way to train a model.

    Args:
        way: The method, with what bears on its cost: ``full``, ``partial-1``, ``lora-attention`` ...
        precision: ``half``; ``single``; ``mixed`` for half precision over frozen weights in single precision.
        checkpointing: Whether activations are computed again.
        extra: ``scores`` where attention keeps them, ``text`` where the model writes; else empty.
    """
    return "/".join(part for part in (way, precision, "again" if checkpointing else "", extra) if part)


@lru_cache(maxsize=1)
def load_step_costs() -> Mapping[str, ModelCosts]:
    """Read ``step_costs.json``: model id -> what its steps cost."""
    text = resources.files("xautolm_hpc").joinpath("packaged", "step_costs.json").read_text()
    return {model_id: ModelCosts.of(written) for model_id, written in json.loads(text)["models"].items()}


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
