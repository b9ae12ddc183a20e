"""What a trial needs at least: memory, optimiser steps, arithmetic.

Every estimate is optimistic, because a refused pipeline is never tried: it leaves out what cannot be known before
and takes the hardware at its best. A trial it lets through may still fail, one it refuses would have.
"""

from collections.abc import Mapping

from xautolm_hpc.catalogue import Model
from xautolm_hpc.records import Pipeline, System, Task

GIB = 1024**3

OPTIMISER_BYTES: Mapping[str, int] = {"adamw": 8, "adam": 8, "adagrad": 4, "sgd": 0, "adafactor": 0}
"""State of an optimiser for each trained parameter; adafactor's is a row and a column of each matrix."""

ACTIVATION_BYTES_HALF, ACTIVATION_BYTES_SINGLE = 34, 64
"""Kept for the backward pass, for each token, block and unit of width, attention scores left out.

Source: Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models", equation 1."""

ADAPTER_ACTIVATIONS = 0.6
"""Share of the activations that is kept when the weights themselves are frozen."""

GPU_OVERHEAD_BYTES, HOST_OVERHEAD_BYTES = GIB // 2, GIB // 2
"""The CUDA context with torch's kernels; Python with torch and transformers loaded."""

GPU_TFLOPS: Mapping[float, float] = {
    6.0: 21, 6.1: 13, 7.0: 125, 7.2: 30, 7.5: 130, 8.0: 312, 8.6: 160, 8.7: 140,
    8.9: 362, 9.0: 990, 10.0: 2250, 10.3: 2500, 12.0: 500, 12.1: 250,
}  # fmt: skip
"""Compute capability -> half-precision teraflop/s, dense, of the fastest GPU that has it."""

CPU_FLOPS_PER_CORE = 1e11
GPU_UTILISATION = 0.6
"""More than fine-tuning reaches."""

DEFAULT_PATIENCE = 2
"""Epochs without a gain after which training ends, where a pipeline does not say."""


def tokens_per_sample(pipeline: Pipeline, task: Task, *, quantile: int) -> float:
    """Estimate the tokens of a sample in a batch padded to its longest; a word is a token at least.

    Args:
        pipeline: Says ``max_length``.
        task: Says how long its texts are.
        quantile: 0 for the median text, 1 for the 95th percentile.
    """
    max_length = float(pipeline.params.get("max_length", 512))
    return max_length if task.length_tokens is None else min(task.length_tokens[quantile], max_length)


def n_optimiser_steps(pipeline: Pipeline, task: Task) -> int:
    """Count the optimiser steps of a whole training; the last step of an epoch may be a smaller one."""
    params = pipeline.params
    samples_per_step = int(params.get("batch_size", 1)) * int(params.get("gradient_accumulation_steps", 1))
    return int(params.get("epochs", 1)) * -(-task.n_train // max(samples_per_step, 1))


def n_trained_parameters(pipeline: Pipeline, model: Model) -> float:
    """Estimate the parameters that are trained, without the classification head."""
    width, n_layers = model.hidden_size, model.n_layers
    match pipeline.method:
        case "full":
            return model.n_parameters
        case "partial":
            return _n_trained_blocks(pipeline, model) * _stored_block_parameters(model)
        case "lora" | "dora":
            attention, all_linear = 8 * width, 18 * width  # inputs and outputs of the adapted layers of a block
            wide = pipeline.params.get("lora_targets") == "all-linear"
            return n_layers * float(pipeline.params.get("lora_r", 1)) * (all_linear if wide else attention)
        case _:
            return 0.0


def memory_needed_bytes(pipeline: Pipeline, model: Model, *, task: Task, has_gpu: bool) -> float:
    """Estimate the memory of training: weights, gradients, optimiser states, activations.

    Args:
        pipeline: The pipeline.
        model: Its model.
        task: Says how long the texts are.
        has_gpu: Whether it is trained on a GPU, where half precision makes activations smaller.

    Returns:
        Bytes on the GPU, or on the host if there is none.
    """
    trained = n_trained_parameters(pipeline, model)
    state_bytes = OPTIMISER_BYTES.get(str(pipeline.params.get("optimizer", "adamw")), 0)
    is_half = has_gpu and pipeline.params.get("use_mixed_precision", True) is True
    per_unit = ACTIVATION_BYTES_HALF if is_half else ACTIVATION_BYTES_SINGLE
    tokens = int(pipeline.params.get("batch_size", 1)) * tokens_per_sample(pipeline, task, quantile=1)
    activations = tokens * _kept_blocks(pipeline, model) * model.hidden_size * per_unit
    overhead = GPU_OVERHEAD_BYTES if has_gpu else HOST_OVERHEAD_BYTES
    return 4 * model.n_parameters + (4 + state_bytes) * trained + activations + overhead


def flops_needed(pipeline: Pipeline, model: Model, *, task: Task) -> float:
    """Estimate the arithmetic of the shortest training, stopped as early as it may be, and its evaluations.

    Two operations a weight and token forward, two more for gradients that pass through it, two more for its own.
    """
    weights = _compute_weights(model)
    per_block = weights / model.n_layers
    backward = {
        "full": 4 * weights,
        "partial": 4 * per_block * _n_trained_blocks(pipeline, model),
        "head": 0.0,
    }.get(pipeline.method, 2 * weights)
    patience = int(pipeline.params.get("early_stopping_patience", DEFAULT_PATIENCE))
    epochs = min(int(pipeline.params.get("epochs", 1)), 1 + patience)
    n_evaluated = epochs * task.n_dev + task.n_validation
    per_sample = epochs * task.n_train * (2 * weights + backward) + n_evaluated * 2 * weights
    return tokens_per_sample(pipeline, task, quantile=0) * per_sample


def throughput_flops_per_s(system: System) -> float | None:
    """Give the arithmetic a node can do at its best, in operations a second; ``None`` where it is unknown."""
    if system.n_gpus == 0:
        return None if system.n_cpu_cores is None else system.n_cpu_cores * CPU_FLOPS_PER_CORE
    tflops = GPU_TFLOPS.get(system.gpu_capability or 0.0)
    return None if tflops is None else (system.n_gpus or 1) * tflops * 1e12 * GPU_UTILISATION


def _n_trained_blocks(pipeline: Pipeline, model: Model) -> int:
    params = pipeline.params
    return min(int(params.get("n_trainable_blocks", params.get("num_trainable_layers", 1))), model.n_layers)


def _kept_blocks(pipeline: Pipeline, model: Model) -> float:
    """Count the blocks whose activations are kept; frozen ones below the first trained one keep none."""
    match pipeline.method:
        case "head":
            return 0.0
        case "partial":
            return _n_trained_blocks(pipeline, model)
        case "full":
            return model.n_layers
        case _:
            return ADAPTER_ACTIVATIONS * model.n_layers


def _stored_block_parameters(model: Model) -> float:
    """Give a block's parameters; 0 for a model whose blocks are one and whose embeddings are narrow (ALBERT)."""
    return max(model.n_parameters - model.vocab_size * model.hidden_size, 0) / model.n_layers


def _compute_weights(model: Model) -> float:
    """Give the weights a token meets: all but the embeddings; a shared block counts each time."""
    stored = model.n_parameters - model.vocab_size * model.hidden_size
    return max(stored, 12 * model.hidden_size**2 * model.n_layers)
