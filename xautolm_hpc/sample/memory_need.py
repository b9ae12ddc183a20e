"""Memory that training a pipeline takes on a GPU, from what was measured of its model; else by the general formula."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from xautolm_hpc.catalogue import Model
from xautolm_hpc.execution import Execution, ModelCosts, StepCost, StepMode, load_step_costs
from xautolm_hpc.hyperparameters import default_of
from xautolm_hpc.records import Pipeline, Task
from xautolm_hpc.sample.cost_search import WEIGHT_METHODS, CostSearch, computes_again
from xautolm_hpc.sample.estimates import (
    GIB,
    HALF_BYTES,
    NF4_BYTES,
    OVERHEAD_BYTES,
    SINGLE_BYTES,
    block_parameters,
    is_half_precision,
    memory_needed_bytes,
    micro_batch_samples,
    state_bytes,
    tokens_per_sample,
)
from xautolm_hpc.task_kinds import TASK_KINDS

WORKSPACE_BYTES = int(0.06 * GIB)
"""What libraries of kernels reserve for themselves, of torch's own memory."""

RESERVED_SHARE, RESERVED_BYTES = 1.03, int(0.06 * GIB)
"""What torch's allocator reserves of the GPU for each byte of tensors, and beyond: gaps between them."""

CAPTURED_GRADIENT_SHARE = 0.8
"""Share of the gradients that is there twice while a step is captured: those of the warm-up stay where they were."""

EVALUATION_SHARE = 1.2
"""What an evaluation takes for each byte of such a pass: the largest tensors of two blocks meet."""

EVERYTHING_ELSE = "*"
"""Name of the correction for models and methods without one of their own."""

ADAGRAD_BYTES = 8
"""Bytes for each trained parameter that Adagrad's update needs for a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFacts:
    """What is known of the memory where trials run.

    Attributes:
        costs: Model id -> what its steps cost, where the catalogue has nothing or the worker's transformers differs.
        keeps_scores: Ids of models that compute attention score by score there.
        context_bytes: Memory of a GPU that is taken before anything is trained; ``None`` where nobody has measured it.
        step: How steps are computed there.
        corrections: ``MODEL METHOD`` -> factor on the memory of tensors, by experiences; that of
            :data:`EVERYTHING_ELSE` is for all others.
        is_frozen_single: Whether frozen weights are kept in single precision, as earlier versions did.
    """

    costs: Mapping[str, ModelCosts] = field(default_factory=dict)
    keeps_scores: frozenset[str] = frozenset()
    context_bytes: int | None = None
    step: StepMode = StepMode.EAGER
    corrections: Mapping[str, float] = field(default_factory=dict)
    is_frozen_single: bool = False

    def costs_of(self, model: Model) -> ModelCosts | None:
        """Return what was measured of a model."""
        return self.costs.get(model.id) or load_step_costs().get(model.id)

    def precision(self, pipeline: Pipeline) -> str:
        """Return the precision of a pipeline, as :func:`xautolm_hpc.execution.cost_name` names it."""
        if not is_half_precision(pipeline):
            return "single"
        return "mixed" if self.is_frozen_single and pipeline.method != "full" else "half"

    def find_cost(self, pipeline: Pipeline, model: Model, *, task: Task, checkpointing: bool) -> StepCost | None:
        """Find what a step costs; ``None`` where nothing like it was measured.

        Args:
            pipeline: The pipeline.
            model: Its model.
            task: Its kind.
            checkpointing: Whether activations are computed again.
        """
        costs = self.costs_of(model)
        if costs is None:
            return None
        keeps_scores = model.keeps_attention_scores or model.id in self.keeps_scores
        return CostSearch(
            costs=costs,
            pipeline=pipeline,
            model=replace(model, keeps_attention_scores=keeps_scores),
            precision=self.precision(pipeline),
            checkpointing=checkpointing,
            writes_text=TASK_KINDS[task.kind].writes_text,
        ).find()

    def correction(self, pipeline: Pipeline) -> float:
        """Return the factor on the memory of a pipeline."""
        own = self.corrections.get(f"{pipeline.model_id} {pipeline.method}")
        return self.corrections.get(EVERYTHING_ELSE, 1.0) if own is None else own


NOTHING = StepFacts()
"""Nothing but the catalogue is known."""


class MemoryNeed(NamedTuple):
    """Memory of training on one GPU, in bytes.

    Attributes:
        allocated_bytes: Tensors at their peak.
        reserved_bytes: What torch's allocator takes of the GPU for them.
        total_bytes: All that is taken of the GPU, with the CUDA context.
        is_measured: Whether it follows from the model's architecture, not from the general formula.
    """

    allocated_bytes: float
    reserved_bytes: float
    total_bytes: float
    is_measured: bool


def may_checkpoint(model: Model, measured: StepFacts) -> bool:
    """Check whether computing activations again saves memory; where nothing was measured, any model may."""
    costs = measured.costs_of(model)
    return costs is None or computes_again(costs)


def memory_need(
    pipeline: Pipeline,
    model: Model,
    *,
    task: Task,
    execution: Execution,
    measured: StepFacts = NOTHING,
    n_processes: int = 1,
) -> MemoryNeed:
    """Estimate the memory of training on a GPU.

    Args:
        pipeline: The pipeline.
        model: Its model.
        task: The length of its texts.
        execution: How its steps are computed.
        measured: What is known of the place.
        n_processes: Processes that share a batch, and with ``execution.sharded`` also what is kept of the model.

    Raises:
        InputError: The pipeline's optimiser is not known.
    """
    context_bytes = OVERHEAD_BYTES if measured.context_bytes is None else measured.context_bytes
    factor, n_shards = measured.correction(pipeline), n_processes if execution.sharded else 1
    cost = measured.find_cost(pipeline, model, task=task, checkpointing=execution.gradient_checkpointing)
    if cost is None:
        needed = memory_needed_bytes(
            pipeline, model, task=task, has_gpu=True, execution=execution, n_processes=n_processes
        )
        allocated = factor * (needed - OVERHEAD_BYTES)
        return MemoryNeed(allocated, allocated, allocated + context_bytes, is_measured=False)
    n_samples = micro_batch_samples(pipeline, execution, n_processes=n_processes)
    length = tokens_per_sample(pipeline, task, quantile=1)
    frozen_bytes = HALF_BYTES if measured.precision(pipeline) == "half" else SINGLE_BYTES
    parts = _Parts.of(pipeline, model, cost=cost, frozen_bytes=frozen_bytes)
    allocated = factor * parts.peak_bytes(
        cost.at(n_samples * length, length),
        keeps_gradients=_is_split(pipeline, n_samples * n_processes),
        n_shards=n_shards,
    )
    reserved = RESERVED_SHARE * allocated + RESERVED_BYTES
    if measured.step is StepMode.GRAPH and not execution.gradient_checkpointing:
        reserved += CAPTURED_GRADIENT_SHARE * parts.gradient_bytes
    return MemoryNeed(allocated, reserved, reserved + context_bytes, is_measured=True)


def evaluation_sample_bytes(pipeline: Pipeline, model: Model, *, task: Task, measured: StepFacts) -> float | None:
    """Estimate the memory of a sample in an evaluation, which keeps nothing from block to block.

    It is what a pass takes whose model is frozen but for its head.

    Args:
        pipeline: The pipeline.
        model: Its model.
        task: The length of its texts.
        measured: What is known of the place.

    Returns:
        Bytes; ``None`` where nothing was measured of the model.
    """
    frozen = Pipeline(
        task_kind=pipeline.task_kind,
        model_id=pipeline.model_id,
        model_revision=pipeline.model_revision,
        method="head",
        params=pipeline.params,
    )
    cost = measured.find_cost(frozen, model, task=replace(task, kind="text-classification"), checkpointing=False)
    if cost is None:
        return None
    length = tokens_per_sample(pipeline, task, quantile=1)
    return EVALUATION_SHARE * (cost.at(length, length) - cost.fixed_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What is kept of a model from step to step, in bytes.

    Attributes:
        weight_bytes: The weights.
        gradient_bytes: Their gradients.
        state_bytes: The states of the optimiser.
        update_bytes: What the optimiser's update needs for a moment.
        unpacked_bytes: A weight of four bits, expanded for its use.
    """

    weight_bytes: float
    gradient_bytes: float
    state_bytes: float
    update_bytes: float
    unpacked_bytes: float

    @classmethod
    def of(cls, pipeline: Pipeline, model: Model, *, cost: StepCost, frozen_bytes: float) -> "_Parts":
        """Sum the parts.

        Args:
            pipeline: The pipeline.
            model: Its model.
            cost: What a step takes beside them.
            frozen_bytes: Bytes of a weight that is not trained.
        """
        n_trained, name = cost.n_trained, str(pipeline.params.get("optimizer", default_of("optimizer")))
        n_frozen = model.n_parameters - (n_trained if pipeline.method in WEIGHT_METHODS else 0)
        in_blocks = block_parameters(model) * model.n_layers
        is_nf4 = pipeline.params.get("quantization") == "nf4"
        frozen = frozen_bytes * max(n_frozen, 0)
        if is_nf4:
            frozen -= (frozen_bytes - NF4_BYTES) * in_blocks
        largest = model.vocab_size * model.hidden_size if pipeline.method == "full" else model.hidden_size**2
        update = {"adagrad": ADAGRAD_BYTES * n_trained, "adafactor": 2.0 * SINGLE_BYTES * largest}.get(name, 0.0)
        return cls(
            weight_bytes=SINGLE_BYTES * n_trained + frozen,
            gradient_bytes=SINGLE_BYTES * n_trained,
            state_bytes=state_bytes(pipeline) * n_trained,
            update_bytes=update,
            unpacked_bytes=2 * HALF_BYTES * in_blocks / (3 * model.n_layers) if is_nf4 else 0.0,
        )

    def peak_bytes(self, activation_bytes: float, *, keeps_gradients: bool, n_shards: int) -> float:
        """Return the most memory at a time: when the backward pass begins, or in the update.

        Args:
            activation_bytes: What a step takes beside the model.
            keeps_gradients: Whether the gradients of a micro-batch are there when the next one begins.
            n_shards: Processes that all this is spread over.
        """
        kept = self.weight_bytes + self.state_bytes
        begins = kept + (self.gradient_bytes if keeps_gradients else 0.0)
        ends = kept + self.gradient_bytes + self.update_bytes
        return max(begins / n_shards + activation_bytes, ends / n_shards) + WORKSPACE_BYTES


def _is_split(pipeline: Pipeline, n_samples: int) -> bool:
    """Check whether a step has several passes, so that gradients are added up.

    Args:
        pipeline: The pipeline.
        n_samples: Samples of a pass on all processes.
    """
    params = pipeline.params
    n_micro_batches = int(params.get("gradient_accumulation_steps", 1))
    return n_micro_batches > 1 or n_samples < int(params.get("batch_size", 1))
