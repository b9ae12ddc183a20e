"""Memory and speed of LoRA on a Llama of 8 billion parameters (random weights), which one GPU holds.

Classification, rank 16 on attention, 8 texts of 512 tokens in each batch; frozen weights in half precision or in NF4,
with and without gradient checkpointing. Method, precision and optimiser are the worker's own; the loop is written out.
Without a GPU it says so and measures nothing. The goals are the figures of a loop without this program on an H200.
"""

import argparse
import gc
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
import transformers
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from transformers import AutoModelForSequenceClassification, LlamaConfig
from transformers.initialization import no_init_weights

from benchmarks.goals import Goal, run
from xautolm_hpc.train.frozen.precision import freeze, plan_frozen
from xautolm_hpc.train.methods import apply_method
from xautolm_hpc.train.optim import build_optimizer
from xautolm_hpc.train.prepare import checkpoint_activations
from xautolm_hpc.train.recipe import Recipe

GIB = 1024**3
N_CLASSES, N_TEXTS, N_TOKENS = 2, 8, 512
N_WARM_STEPS, N_STEPS = 3, 12
LLAMA_8B = LlamaConfig(
    vocab_size=128_256, hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=8, max_position_embeddings=8192, pad_token_id=0, use_cache=False,
)  # fmt: skip
LOOP = {
    ("none", False): (35.6, 13_780),
    ("none", True): (16.3, 10_129),
    ("nf4", False): (26.0, 12_942),
    ("nf4", True): (6.6, 8_200),
}
"""Quantisation and checkpointing -> GiB at peak and tokens a second of a loop without this program (one H200)."""

MOST_MEMORY, LEAST_SPEED = 1.1, 0.95
"""Share of that memory that ours may take at most, and of that speed that it must reach."""


@dataclass(frozen=True, kw_only=True)
class LargeLoraCost:
    """What training took.

    Attributes:
        weights_bytes: Memory of the weights alone.
        peak_bytes: Most memory that tensors held.
        tokens_per_s: Tokens trained a second, padding counted.
    """

    weights_bytes: int
    peak_bytes: int
    tokens_per_s: float


def random_model(config: LlamaConfig) -> Any:
    """Build a classifier in half precision on the CPU; its weights repeat a million random numbers."""
    with no_init_weights():
        model: Any = AutoModelForSequenceClassification.from_config(config, dtype=torch.bfloat16)  # type: ignore[no-untyped-call]
    chunk = 0.02 * torch.randn(1 << 20).to(torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():
            n_repeats = -(-parameter.numel() // len(chunk))
            parameter.copy_(chunk.repeat(n_repeats)[: parameter.numel()].view(parameter.shape))
            if parameter.ndim == 1:
                parameter.fill_(1.0)
    return model


def train_large(config: LlamaConfig, recipe: Recipe, *, is_checkpointed: bool, n_steps: int = N_STEPS) -> LargeLoraCost:
    """Train some steps and measure them.

    Args:
        config: The model's.
        recipe: Its hyperparameters.
        is_checkpointed: Whether activations are computed again.
        n_steps: Steps that are timed.
    """
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision="bf16")
    device, has_gpu = accelerator.device, accelerator.device.type == "cuda"
    model = random_model(config)
    if is_checkpointed:
        checkpoint_activations(model)
    wrapped = apply_method(model, "lora", recipe=recipe)
    freeze(wrapped, plan_frozen("lora", recipe, precision=accelerator.mixed_precision), device=device)
    trained = accelerator.prepare_model(wrapped.to(device))
    optimizer = build_optimizer(trained, recipe)
    weights_bytes = torch.cuda.memory_allocated() if has_gpu else 0
    ids = torch.randint(1, config.vocab_size, (N_TEXTS, N_TOKENS), device=device)
    labels = torch.arange(N_TEXTS, device=device) % N_CLASSES
    began = 0.0
    trained.train()
    for step in range(N_WARM_STEPS + n_steps):
        if step == N_WARM_STEPS:
            _wait(has_gpu)
            began = time.monotonic()
        logits = trained(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        accelerator.backward(nn.functional.cross_entropy(logits.float(), labels))
        accelerator.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    _wait(has_gpu)
    tokens_per_s = n_steps * N_TEXTS * N_TOKENS / (time.monotonic() - began)
    peak_bytes = torch.cuda.max_memory_allocated() if has_gpu else 0
    return LargeLoraCost(weights_bytes=weights_bytes, peak_bytes=peak_bytes, tokens_per_s=tokens_per_s)


def _wait(has_gpu: bool) -> None:
    if has_gpu:
        torch.cuda.synchronize()


def measure(quantizations: Sequence[str], *, targets: str) -> list[Goal]:
    """Measure every way with and without checkpointing; goals are for adapters on attention."""
    goals = []
    for quantization, is_checkpointed in product(quantizations, (False, True)):
        recipe = Recipe(
            learning_rate=1e-4, batch_size=N_TEXTS, max_length=N_TOKENS, epochs=1, lora_r=16, lora_targets=targets,
            quantization=quantization,
        )  # fmt: skip
        gc.collect()  # a model's parts know one another: the one before would stay
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        cost = train_large(LLAMA_8B, recipe, is_checkpointed=is_checkpointed)
        gib, speed = LOOP[quantization, is_checkpointed]
        limits = (MOST_MEMORY * gib, LEAST_SPEED * speed) if targets == "attention" else (None, None)
        name = f"{targets}, {quantization}{', checkpointing' if is_checkpointed else ''}"
        goals += [
            Goal(f"{name}: weights", cost.weights_bytes / GIB, None, "GiB"),
            Goal(f"{name}: peak", cost.peak_bytes / GIB, limits[0], "GiB"),
            Goal(f"{name}: speed", cost.tokens_per_s, limits[1], "tokens/s", at_most=False),
        ]
    return goals


def main() -> int:
    """Measure the ways asked for; 1 with ``--check`` if one misses its goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quantization", nargs="+", choices=("none", "nf4"), default=["none", "nf4"])
    parser.add_argument("--targets", choices=("attention", "all-linear"), default="attention")
    arguments, others = parser.parse_known_args()
    if not torch.cuda.is_available():
        print("large_lora: this machine has no GPU that torch can use; nothing was measured")
        return 0
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, transformers {transformers.__version__}")
    return run(lambda: measure(arguments.quantization, targets=arguments.targets), others)


if __name__ == "__main__":
    sys.exit(main())
