"""How a pipeline is made to fit into the memory there is: smaller micro-batches, checkpointing, sharding."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from xautolm_hpc.catalogue import Model
from xautolm_hpc.execution import AS_DRAWN, Execution
from xautolm_hpc.records import Pipeline, System, Task
from xautolm_hpc.sample.estimates import evaluation_batch, memory_needed_bytes

COMFORT = 0.9
"""Share of the memory up to which a pipeline is executed as drawn: the estimates are low ones."""

LEAST_MICRO_BATCH = 4
"""Micro-batch below which computing activations again costs less than an idle GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The memory a process of a trial has.

    Attributes:
        memory_bytes: Memory of one GPU, or a process's share of the host's; ``None`` when unknown.
        has_gpu: Whether trials run on GPUs; unknown counts as yes.
        n_processes: Processes of a trial, on all its nodes.
    """

    memory_bytes: int | None
    has_gpu: bool
    n_processes: int = 1

    @classmethod
    def of(cls, system: System, *, host_bytes: int, n_processes: int = 1, n_nodes: int = 1) -> "Room":
        """Say what room a job's processes have on a kind of node.

        Args:
            system: The node.
            host_bytes: Host memory of the job on each node.
            n_processes: Processes on each node.
            n_nodes: Nodes of the job.
        """
        has_gpu = system.n_gpus != 0
        memory_bytes = system.gpu_memory_bytes if has_gpu else host_bytes // n_processes
        return cls(memory_bytes=memory_bytes, has_gpu=has_gpu, n_processes=n_processes * n_nodes)


def fit_execution(pipeline: Pipeline, model: Model, *, task: Task, room: Room) -> Execution | None:
    """Find the fastest way to compute a pipeline's steps in the memory there is.

    The batch of an optimiser step stays the pipeline's: a smaller micro-batch takes more passes.

    Args:
        pipeline: The pipeline as drawn.
        model: Its model.
        task: Says how long the texts are.
        room: The memory.

    Returns:
        How to execute it, or ``None`` if nothing fits.
    """
    execution = _fit_training(pipeline, model, task=task, room=room)
    if execution is None or not room.has_gpu:
        return execution
    n_evaluated = evaluation_batch(pipeline, model, task=task, execution=execution, n_processes=room.n_processes)
    return replace(execution, evaluation_batch=n_evaluated)


def _fit_training(pipeline: Pipeline, model: Model, *, task: Task, room: Room) -> Execution | None:
    """Find the fastest way that leaves some room, else the most frugal one if it fits at all."""
    if room.memory_bytes is None:
        return AS_DRAWN
    share = -(-int(pipeline.params.get("batch_size", 1)) // room.n_processes)
    execution = AS_DRAWN
    for execution in _ways(share, may_shard=room.has_gpu and room.n_processes > 1):
        if _needed_bytes(pipeline, model, task=task, room=room, execution=execution) <= COMFORT * room.memory_bytes:
            return execution
    fits = _needed_bytes(pipeline, model, task=task, room=room, execution=execution) <= room.memory_bytes
    return execution if fits else None


def least_bytes(pipeline: Pipeline, model: Model, *, task: Task, room: Room) -> float:
    """Estimate the memory of a process when a pipeline is executed in the most frugal way."""
    *_, frugal = _ways(1, may_shard=room.has_gpu and room.n_processes > 1)
    return _needed_bytes(pipeline, model, task=task, room=room, execution=frugal)


def _needed_bytes(pipeline: Pipeline, model: Model, *, task: Task, room: Room, execution: Execution) -> float:
    return memory_needed_bytes(
        pipeline, model, task=task, has_gpu=room.has_gpu, execution=execution, n_processes=room.n_processes
    )


def _ways(share: int, *, may_shard: bool) -> Iterator[Execution]:
    """List ways to execute a batch, the fastest first, the most frugal last."""
    halves = [share >> k for k in range(share.bit_length())]
    for sharded in (False, True) if may_shard else (False,):
        for half in halves:
            if half == share or half >= LEAST_MICRO_BATCH:
                yield Execution(micro_batch=None if half == share else half, sharded=sharded)
        for half in halves:
            yield Execution(micro_batch=None if half == share else half, gradient_checkpointing=True, sharded=sharded)
