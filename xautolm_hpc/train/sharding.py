"""A model spread over the GPUs of several processes (FSDP), for one whose weights and states exceed one GPU."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard_options(device: torch.device) -> dict[str, Any]:
    """Say how each part of a model is sharded: over all processes, its weights gathered while it computes."""
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    return {"mesh": mesh, "reshard_after_forward": True}


def shard_model(model: nn.Module, blocks: Iterable[nn.Module], *, device: torch.device) -> nn.Module:
    """Shard a model in place, block by block, then the rest of it.

    Weights still on the host go to the device in shards, so that no device ever holds the whole model.

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
    """Give all of a tensor, gathered if it is sharded; every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def put(target: Tensor, values: Tensor) -> None:
    """Put values into a tensor, each process its shard where it is sharded."""
    if isinstance(target, DTensor):
        values = distribute_tensor(values.to(target.device), target.device_mesh, target.placements)
    target.copy_(values)
