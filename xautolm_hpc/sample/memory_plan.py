"""Memory plan: how a pipeline is executed in the memory there is.

Smaller micro-batches, gradient checkpointing and sharding cost time and save memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from xautolm_hpc.catalogue import Model
from xautolm_hpc.execution import AS_DRAWN, Execution
from xautolm_hpc.records import Pipeline, System, Task
from xautolm_hpc.sample.estimates import evaluation_batch, memory_needed_bytes

USABLE_SHARE = 0.9
"""Share of the memory that a plan uses: the estimates are low ones."""

MIN_MICRO_BATCH = 4
"""Smaller micro-batches leave a GPU so idle that computing activations again takes less time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """Memory of a process of a trial.

    Attributes:
        memory_bytes: Memory of one GPU, or a process's share of the host's; ``None`` when unknown.
        has_gpu: Whether trials run on GPUs; unknown counts as yes.
        n_processes: Processes of a trial, on all its nodes.
    """

    memory_bytes: int | None
    has_gpu: bool
    n_processes: int = 1

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
    n_processes = memory_budget.n_processes
    n_evaluated = evaluation_batch(pipeline, model, task=task, execution=execution, n_processes=n_processes)
    return replace(execution, evaluation_batch=n_evaluated)


def _plan_training(pipeline: Pipeline, model: Model, *, task: Task, budget: MemoryBudget) -> Execution | None:
    """Find the fastest way within the usable share of the memory, else the one of least memory if it fits at all."""
    if budget.memory_bytes is None:
        return AS_DRAWN
    share = -(-int(pipeline.params.get("batch_size", 1)) // budget.n_processes)
    execution = AS_DRAWN
    for execution in _executions(share, may_shard=_may_shard(pipeline, budget)):
        needed = _needed_bytes(pipeline, model, task=task, budget=budget, execution=execution)
        if needed <= USABLE_SHARE * budget.memory_bytes:
            return execution
    fits = _needed_bytes(pipeline, model, task=task, budget=budget, execution=execution) <= budget.memory_bytes
    return execution if fits else None


def min_memory_bytes(pipeline: Pipeline, model: Model, *, task: Task, memory_budget: MemoryBudget) -> float:
    """Estimate the memory of a process when a pipeline is executed in the least memory.

    Args:
        pipeline: The pipeline as drawn.
        model: Its model.
        task: The length of its texts.
        memory_budget: GPUs and processes of a trial.
    """
    *_, least = _executions(1, may_shard=_may_shard(pipeline, memory_budget))
    return _needed_bytes(pipeline, model, task=task, budget=memory_budget, execution=least)


def _may_shard(pipeline: Pipeline, budget: MemoryBudget) -> bool:
    """Check whether a model may be spread over the processes of a trial; weights of four bits may not."""
    return budget.has_gpu and budget.n_processes > 1 and pipeline.params.get("quantization") != "nf4"


def _needed_bytes(
    pipeline: Pipeline, model: Model, *, task: Task, budget: MemoryBudget, execution: Execution
) -> float:  # fmt: skip
    return memory_needed_bytes(
        pipeline, model, task=task, has_gpu=budget.has_gpu, execution=execution, n_processes=budget.n_processes
    )


def _executions(share: int, *, may_shard: bool) -> Iterator[Execution]:
    """List ways to execute a process's share of a batch, the fastest first, the one of least memory last."""
    halves = [share >> k for k in range(share.bit_length())]
    for sharded in (False, True) if may_shard else (False,):
        for half in halves:
            if half == share or half >= MIN_MICRO_BATCH:
                yield Execution(micro_batch=None if half == share else half, sharded=sharded)
        for half in halves:
            yield Execution(micro_batch=None if half == share else half, gradient_checkpointing=True, sharded=sharded)
