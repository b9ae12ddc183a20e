"""A model sharded over the GPUs of several processes (FSDP): for weights and optimiser states larger than one GPU."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard_options(device: torch.device) -> dict[str, Any]:
    """Return the arguments for sharding: over all processes, weights gathered only while a part computes."""
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    return {"mesh": mesh, "reshard_after_forward": True}


def shard_model(model: nn.Module, blocks: Iterable[nn.Module], *, device: torch.device) -> nn.Module:
    """Shard a model in place, block by block, then the rest of it.

    Weights go from the host to the device in shards, so that no device ever holds the whole model.

    Args:
        model: The model.
        blocks: Its blocks.
        device: Device of this process.
    """
    options = shard_options(device)
    for block in blocks:
        fully_shard(block, **options)
    fully_shard(model, **options)
    return model


def whole(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor, gathered if it is sharded; every rank must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def put(target: Tensor, values: Tensor) -> None:
    """Copy values into a tensor; where it is sharded each rank copies its own shard."""
    if isinstance(target, DTensor):
        values = distribute_tensor(values.to(target.device), target.device_mesh, target.placements)
    target.copy_(values)
