"""Speed of a device in the few figures that the time of a trial is foreseen by: seconds of work, once a search.

A step computes products of matrices, moves numbers through the device's memory, and is started kernel by kernel by the
host. Each of the three is measured by itself, at a size at which nothing else counts.
"""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from xautolm_hpc.execution import DeviceSpeed
from xautolm_hpc.train.costs.meter import StepMeter

PRODUCT_SIZE, CPU_PRODUCT_SIZE = 4096, 768
"""Rows and columns of the matrices that are multiplied."""

MOVED_NUMBERS, CPU_MOVED_NUMBERS = 1 << 26, 1 << 23
"""Numbers in single precision that are copied."""

WIDTH, N_TOKENS, N_BLOCKS = 64, 8, 12
"""Size of the blocks whose kernels take no time on a GPU, so that the host's starting them is all."""

MEASURED_S = 0.25
"""Seconds that each figure is measured for, at least three times."""


def measure_speed(device: torch.device) -> DeviceSpeed:
    """Measure a device.

    Args:
        device: A GPU, or the CPU with the threads that torch has now.
    """
    is_gpu = device.type == "cuda"
    half = torch.bfloat16 if is_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    with torch.random.fork_rng():
        return DeviceSpeed(
            single_flops_per_s=_product_rate(device, torch.float32),
            half_flops_per_s=_product_rate(device, half) if is_gpu else None,
            bytes_per_s=_memory_rate(device),
            kernel_s=_kernel_s(device, half if is_gpu else None),
            upload_bytes_per_s=_upload_rate(device) if is_gpu else None,
            context_bytes=_context_bytes() if is_gpu else None,
        )


def _product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the operations a second of a product of two square matrices."""
    size = PRODUCT_SIZE if device.type == "cuda" else CPU_PRODUCT_SIZE
    left, right = (torch.randn((size, size), device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / _seconds(lambda: left @ right, device)


def _memory_rate(device: torch.device) -> float:
    """Measure the bytes a second of a copy within the device's memory, reading and writing counted."""
    numbers = torch.zeros(MOVED_NUMBERS if device.type == "cuda" else CPU_MOVED_NUMBERS, device=device)
    copied = torch.empty_like(numbers)
    return 2 * numbers.numel() * numbers.element_size() / _seconds(lambda: copied.copy_(numbers), device)


def _upload_rate(device: torch.device) -> float:
    """Measure the bytes a second from the host's memory to the GPU's."""
    numbers = torch.zeros(MOVED_NUMBERS // 8)
    return numbers.numel() * numbers.element_size() / _seconds(lambda: numbers.to(device), device)


def _kernel_s(device: torch.device, half: torch.dtype | None) -> float:
    """Measure the seconds that the host takes to start a kernel in a step of small blocks, forward and backward."""
    blocks: Any = nn.Sequential(*(_Block() for _ in range(N_BLOCKS))).to(device)
    inputs = torch.randn((1, N_TOKENS, WIDTH), device=device, requires_grad=True)

    def step() -> None:
        with nullcontext() if half is None else torch.autocast(device.type, dtype=half):
            loss = blocks(inputs).float().sum()
        loss.backward()

    n_kernels = count_kernels(step)
    return _seconds(step, device) / n_kernels


def count_kernels(step: Callable[[], object]) -> int:
    """Count the operations that a step starts; views, which start nothing, are left out."""
    with StepMeter(N_TOKENS) as counter:
        step()
    return counter.n_kernels


class _Block(nn.Module):
    """A transformer block in the usual form."""

    def __init__(self) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.queries, self.keys, self.values, self.outputs = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, states: Tensor) -> Tensor:
        """Compute the block, (1, n_tokens, width)."""
        normed = self.first_norm(states)
        parts = (part(normed).view(1, N_TOKENS, 2, WIDTH // 2).transpose(1, 2) for part in self._projections())
        attended = nn.functional.scaled_dot_product_attention(*parts)
        states = states + self.outputs(attended.transpose(1, 2).reshape(1, N_TOKENS, WIDTH))
        return states + self.down(nn.functional.gelu(self.up(self.second_norm(states))))

    def _projections(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.queries, self.keys, self.values


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the shortest time of some work, warmed up: what others on the machine cost is left out."""
    shortest, elapsed, n_runs = math.inf, 0.0, -1
    while elapsed < MEASURED_S or n_runs < 3:
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took = time.perf_counter() - began
        n_runs += 1
        if n_runs:
            shortest, elapsed = min(shortest, took), elapsed + took
    return shortest


def _context_bytes() -> int:
    """Return the memory of the GPU that is taken and not torch's: the CUDA context, and other programs."""
    free, total = torch.cuda.mem_get_info()
    return int(total - free - torch.cuda.memory_reserved())
