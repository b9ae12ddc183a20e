"""What the processes of a trial tell one another; alone, each answer is its own."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

COLLECTIVE_TIMEOUT = timedelta(minutes=5)
"""After this a process that waits for the others gives up."""


def is_shared() -> bool:
    """Tell whether several processes share the trial."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def highest(value: int) -> int:
    """Give the highest value any process has."""
    return int(_reduced([float(value)], dist.ReduceOp.MAX)[0]) if is_shared() else value


def total(values: Sequence[float]) -> list[float]:
    """Add up values of all processes, one by one; what is unknown anywhere, NaN, is unknown in sum."""
    return _reduced(values, dist.ReduceOp.SUM) if is_shared() else list(values)


def gathered(thing: Any) -> list[Any]:
    """Give the things of all processes, in the order of their ranks."""
    if not is_shared():
        return [thing]
    things: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(things, thing)
    return things


def leave() -> None:
    """Part from the other processes, if there are any."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _reduced(values: Sequence[float], operation: Any) -> list[float]:
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    tensor = torch.tensor(list(values), dtype=torch.float64, device=device)
    dist.all_reduce(tensor, op=operation)
    return [float(value) for value in tensor.tolist()]
