"""Collective operations between the ranks of a trial; with one process each returns the process's own value."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

COLLECTIVE_TIMEOUT = timedelta(minutes=5)
"""How long a process waits for the others before it gives up."""


def is_shared() -> bool:
    """Check whether several processes run the trial."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def highest(value: int) -> int:
    """Return the highest value of all ranks."""
    return int(_reduced([float(value)], dist.ReduceOp.MAX)[0]) if is_shared() else value


def total(values: Sequence[float]) -> list[float]:
    """Add up values over all ranks, element by element; a value that is NaN (unknown) on one rank is NaN in the sum."""
    return _reduced(values, dist.ReduceOp.SUM) if is_shared() else list(values)


def all_gather(value: Any) -> list[Any]:
    """Return the objects of all ranks, in the order of the ranks."""
    if not is_shared():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def leave() -> None:
    """Leave the process group of torch, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _reduced(values: Sequence[float], operation: Any) -> list[float]:
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    tensor = torch.tensor(list(values), dtype=torch.float64, device=device)
    dist.all_reduce(tensor, op=operation)
    return [float(value) for value in tensor.tolist()]
