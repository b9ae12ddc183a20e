"""Memory plan: how a pipeline is executed in the memory there is.

Smaller micro-batches, gradient checkpointing and sharding cost time and save memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from xautolm_hpc.catalogue import Model
from xautolm_hpc.execution import AS_DRAWN, Execution, StepMode
from xautolm_hpc.records import Pipeline, System, Task
from xautolm_hpc.sample.estimates import (
    MAX_EVALUATION_BATCH,
    cached_bytes,
    evaluation_batch,
    memory_needed_bytes,
    micro_batch_samples,
    tokens_per_sample,
)
from xautolm_hpc.sample.memory_need import (
    NOTHING,
    StepFacts,
    evaluation_sample_bytes,
    may_checkpoint,
    memory_need,
)
from xautolm_hpc.task_kinds import TASK_KINDS

USABLE_SHARE = 0.9
"""Share of the memory that a plan uses where it may choose: the estimates are within 15 %."""

MIN_MICRO_BATCH = 4
"""Smaller micro-batches leave a GPU so idle that computing activations again takes less time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """Memory of a process of a trial.

    Attributes:
        memory_bytes: Memory of one GPU, or a process's share of the host's; ``None`` when unknown.
        has_gpu: Whether trials run on GPUs; unknown counts as yes.
        n_processes: Processes of a trial, on all its nodes.
        measured: What is known of the memory that trials take there.
    """

    memory_bytes: int | None
    has_gpu: bool
    n_processes: int = 1
    measured: StepFacts = NOTHING

    @classmethod
    def of(cls, system: System, *, host_bytes: int, n_processes: int = 1, n_nodes: int = 1) -> "MemoryBudget":
        """Compute the memory of a job's processes on a node.

        Args:
            system: The node.
            host_bytes: Host memory of the job on each node.
            n_processes: Processes on each node.
            n_nodes: Nodes of the job.
        """
        has_gpu = system.n_gpus != 0
        memory_bytes = system.gpu_memory_bytes if has_gpu else host_bytes // n_processes
        return cls(memory_bytes=memory_bytes, has_gpu=has_gpu, n_processes=n_processes * n_nodes)


def plan_execution(pipeline: Pipeline, model: Model, *, task: Task, memory_budget: MemoryBudget) -> Execution | None:
    """Find the fastest way to compute a pipeline's steps in the memory there is.

    The batch of an optimiser step stays the pipeline's; with a smaller micro-batch a step takes more of them.

    Args:
        pipeline: The pipeline as drawn.
        model: Its model.
        task: The length of its texts.
        memory_budget: The memory of a process.

    Returns:
        How to execute it, or ``None`` if nothing fits.
    """
    execution = _plan_training(pipeline, model, task=task, budget=memory_budget)
    if execution is None or not memory_budget.has_gpu:
        return execution
    n_evaluated = _evaluation_batch(pipeline, model, task=task, budget=memory_budget, execution=execution)
    return replace(execution, evaluation_batch=n_evaluated)


def _evaluation_batch(
    pipeline: Pipeline, model: Model, *, task: Task, budget: MemoryBudget, execution: Execution
) -> int:  # fmt: skip
    """Count the samples of an evaluation batch: as many as take no more memory than training does.

    The memory of captured steps stays theirs, so an evaluation beside them must fit into what they leave.
    """
    n_processes, measured = budget.n_processes, budget.measured
    general = evaluation_batch(pipeline, model, task=task, execution=execution, n_processes=n_processes)
    each = evaluation_sample_bytes(pipeline, model, task=task, measured=measured)
    cost = measured.find_cost(pipeline, model, task=task, checkpointing=execution.gradient_checkpointing)
    if each is None or cost is None:
        return general
    n_samples = micro_batch_samples(pipeline, execution, n_processes=n_processes)
    length = tokens_per_sample(pipeline, task, quantile=1)
    if TASK_KINDS[task.kind].writes_text:
        each += length * cached_bytes(pipeline, model)
    most = n_samples * (cost.at(length, length) - cost.fixed_bytes)
    if measured.step is StepMode.GRAPH and budget.memory_bytes is not None:
        need = memory_need(pipeline, model, task=task, execution=execution, measured=measured, n_processes=n_processes)
        most = min(most, max(USABLE_SHARE * budget.memory_bytes - need.total_bytes, 0.0))
    return max(n_samples, min(int(most / each), MAX_EVALUATION_BATCH))


def _plan_training(pipeline: Pipeline, model: Model, *, task: Task, budget: MemoryBudget) -> Execution | None:
    """Find the fastest way within the usable share of the memory, else the one of least memory if it fits at all."""
    if budget.memory_bytes is None:
        return AS_DRAWN
    least: tuple[float, Execution] | None = None
    for execution in _executions(pipeline, model, budget=budget):
        needed = needed_bytes(pipeline, model, task=task, budget=budget, execution=execution)
        if needed <= USABLE_SHARE * budget.memory_bytes:
            return execution
        if least is None or needed <= least[0]:
            least = needed, execution
    return least[1] if least is not None and least[0] <= budget.memory_bytes else None


def min_memory_bytes(pipeline: Pipeline, model: Model, *, task: Task, memory_budget: MemoryBudget) -> float:
    """Estimate the memory of a process when a pipeline is executed in the least memory.

    Args:
        pipeline: The pipeline as drawn.
        model: Its model.
        task: The length of its texts.
        memory_budget: GPUs and processes of a trial.
    """
    alone = replace(
        pipeline, params={**pipeline.params, "batch_size": memory_budget.n_processes}
    )  # a sample at a time on each process
    return min(
        needed_bytes(alone, model, task=task, budget=memory_budget, execution=execution)
        for execution in _executions(alone, model, budget=memory_budget)
    )


def _may_shard(pipeline: Pipeline, budget: MemoryBudget) -> bool:
    """Check whether a model may be spread over the processes of a trial; weights of four bits may not."""
    return budget.has_gpu and budget.n_processes > 1 and pipeline.params.get("quantization") != "nf4"


def needed_bytes(
    pipeline: Pipeline, model: Model, *, task: Task, budget: MemoryBudget, execution: Execution
) -> float:  # fmt: skip
    """Estimate what training takes of the memory of a process.

    Args:
        pipeline: The pipeline.
        model: Its model.
        task: The length of its texts.
        budget: The memory of a process.
        execution: How its steps are computed.
    """
    if budget.has_gpu:
        measured, n_processes = budget.measured, budget.n_processes
        return memory_need(
            pipeline, model, task=task, execution=execution, measured=measured, n_processes=n_processes
        ).total_bytes
    return memory_needed_bytes(
        pipeline, model, task=task, has_gpu=False, execution=execution, n_processes=budget.n_processes
    )


def _executions(pipeline: Pipeline, model: Model, *, budget: MemoryBudget) -> Iterator[Execution]:
    """List ways to execute a process's share of a batch, the fastest first."""
    share = -(-int(pipeline.params.get("batch_size", 1)) // budget.n_processes)
    halves = [share >> k for k in range(share.bit_length())]
    checkpoints = not budget.has_gpu or may_checkpoint(model, budget.measured)
    for sharded in (False, True) if _may_shard(pipeline, budget) else (False,):
        for half in halves:
            if half == share or half >= MIN_MICRO_BATCH or not checkpoints:
                yield Execution(micro_batch=None if half == share else half, sharded=sharded)
        for half in halves if checkpoints else ():
            yield Execution(micro_batch=None if half == share else half, gradient_checkpointing=True, sharded=sharded)
