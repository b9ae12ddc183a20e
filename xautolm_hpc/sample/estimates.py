"""Estimates of the optimiser steps and the memory of a trial.

They are low rather than high, because a rejected pipeline is never tried: what cannot be known before is left out.
``benchmarks/estimates.py`` compares them with trials that really ran out of memory, or did not.
"""

import math
from dataclasses import dataclass

from xautolm_hpc.catalogue import Model
from xautolm_hpc.errors import InputError
from xautolm_hpc.execution import AS_DRAWN, Execution
from xautolm_hpc.hyperparameters import ADAPTER_METHODS, OPTIMIZERS, default_of, n_warmup_steps
from xautolm_hpc.records import Pipeline, Task
from xautolm_hpc.task_kinds import TASK_KINDS

GIB = 1024**3

ACTIVATION_BYTES_HALF, ACTIVATION_BYTES_SINGLE = 44, 68
"""Bytes kept for the backward pass per token, block and unit of width, without attention scores.

Korthikanti et al. 2022 ("Reducing Activation Recomputation in Large Transformer Models", equation 1) count 34 and
about twice that. Under autocast the residual stream and the norms stay in single precision: 10 more."""

DECODER_ACTIVATIONS = 1.4
"""Factor for decoders, which keep more: gated or piecewise activation functions, rotations, separate biases."""

SCORE_BYTES = 12
"""Bytes kept per attention score where a model stores them: softmax, its dropout and the dropout's mask."""

HEAD_WIDTH = 64

ADAPTER_ACTIVATIONS = 0.7
"""Share of the activations kept when the weights are frozen: the inputs of frozen weights are not needed."""

LOGIT_BYTES = 10
"""Bytes kept per token and vocabulary entry when a model generates: the logits twice, and their gradient."""

OVERHEAD_BYTES = 3 * GIB // 4
"""The CUDA context with torch's kernels; on the host, Python with torch and transformers loaded."""

SINGLE_BYTES, HALF_BYTES = 4, 2
"""Bytes of a number in single and in half precision."""

NF4_BYTES = 0.53
"""Bytes of a weight of four bits: half a byte, and a scale of 8 bits for each 64 weights, with a scale of its own.

Dettmers et al. 2023 ("QLoRA", section on double quantisation) count .127 bits a weight for the scales: .516 bytes; the
weights of a block that are not linear layers stay in half precision."""

MAX_EVALUATION_BATCH = 256
"""Samples of an evaluation batch at most: between two batches a trial can be stopped."""


def tokens_per_sample(pipeline: Pipeline, task: Task, *, quantile: int) -> float:
    """Estimate the tokens of a sample in a batch padded to its longest; a word is a token at least.

    Args:
        pipeline: Its ``max_length``.
        task: The length of its texts.
        quantile: 0 for the median text, 1 for the 95th percentile.
    """
    max_length = float(pipeline.params.get("max_length", 512))
    return max_length if task.length_tokens is None else min(task.length_tokens[quantile], max_length)


def n_optimiser_steps(pipeline: Pipeline, task: Task) -> int:
    """Count the optimiser steps of a whole training; the last step of an epoch may be a smaller one."""
    params = pipeline.params
    samples_per_step = int(params.get("batch_size", 1)) * int(params.get("gradient_accumulation_steps", 1))
    return int(params.get("epochs", 1)) * -(-n_train_rows(pipeline, task) // max(samples_per_step, 1))


def n_learning_steps(pipeline: Pipeline, task: Task) -> int:
    """Count the optimiser steps of a whole training after its warm-up."""
    params, n_steps = pipeline.params, n_optimiser_steps(pipeline, task)
    given = params.get("warmup_steps")
    return n_steps - n_warmup_steps(
        None if given is None else int(given), float(params.get("warmup_ratio", 0.0)), n_steps=n_steps
    )


def n_train_rows(pipeline: Pipeline, task: Task) -> int:
    """Count the training rows: all, or the share that the pipeline says."""
    return math.ceil(float(pipeline.params.get("train_share", 1.0)) * task.n_train)


def n_trained_parameters(pipeline: Pipeline, model: Model) -> float:
    """Estimate the parameters that are trained, without the classification head."""
    width, n_layers = model.hidden_size, model.n_layers
    match pipeline.method:
        case "full":
            return model.n_parameters
        case "partial":
            return n_trained_blocks(pipeline, model) * block_parameters(model)
        case "lora" | "dora":
            attention, all_linear = 8 * width, 18 * width  # inputs and outputs of the adapted layers of a block
            wide = pipeline.params.get("lora_targets") == "all-linear"
            return n_layers * float(pipeline.params.get("lora_r", 1)) * (all_linear if wide else attention)
        case _:
            return 0.0


def n_trained_blocks(pipeline: Pipeline, model: Model) -> int:
    """Count the blocks that ``partial`` trains, at most all of the model's."""
    params = pipeline.params
    return min(int(params.get("n_trainable_blocks", params.get("num_trainable_layers", 1))), model.n_layers)


def block_parameters(model: Model) -> float:
    """Estimate a block's parameters; 0 for a model with one shared block and narrow embeddings (ALBERT)."""
    return max(model.n_parameters - model.vocab_size * model.hidden_size, 0) / model.n_layers


def block_width(model: Model) -> float:
    """Compute the width w of a block of 12 w^2 parameters; above the hidden size where a block is wider (T5-3B)."""
    return max(model.hidden_size, math.sqrt(block_parameters(model) / 12))


def memory_needed_bytes(
    pipeline: Pipeline,
    model: Model,
    *,
    task: Task,
    has_gpu: bool,
    execution: Execution = AS_DRAWN,
    n_processes: int = 1,
) -> float:
    """Estimate the memory of training on one process: weights, gradients, optimiser states, activations.

    Args:
        pipeline: The pipeline.
        model: Its model.
        task: The length of its texts.
        has_gpu: Whether it is trained on a GPU, where half precision makes activations smaller.
        execution: How the steps are computed.
        n_processes: Processes that share a batch, and with ``execution.sharded`` also what is kept of the model.

    Returns:
        Bytes on each GPU, or on the host for each process if there is none.

    Raises:
        InputError: The pipeline's optimiser is not known.
    """
    is_half = has_gpu and is_half_precision(pipeline)
    frozen = frozen_bytes(pipeline, is_half=is_half)
    kept = model_bytes(pipeline, model, is_half=is_half, frozen=frozen) / (n_processes if execution.sharded else 1)
    n_samples = micro_batch_samples(pipeline, execution, n_processes=n_processes)
    length = tokens_per_sample(pipeline, task, quantile=1)
    per_token = _token_bytes(pipeline, model, length=length, is_half=is_half, execution=execution)
    if TASK_KINDS[task.kind].writes_text:
        per_token += LOGIT_BYTES * model.vocab_size
    return kept + n_samples * length * per_token + OVERHEAD_BYTES


def evaluation_batch(
    pipeline: Pipeline, model: Model, *, task: Task, execution: Execution = AS_DRAWN, n_processes: int = 1
) -> int:
    """Count the samples of an evaluation batch that take no more memory on a GPU than a micro-batch of training.

    Training keeps the activations of every block it goes back through, an evaluation those of one at a time. The peak
    memory of a trial is an objective of searches: an evaluation must not raise it.

    Args:
        pipeline: The pipeline.
        model: Its model.
        task: The length of its texts.
        execution: How the steps are computed.
        n_processes: Processes that share a batch.

    Returns:
        At least the samples of a micro-batch; at most 256, or those of a micro-batch if they are more.
    """
    n_samples = micro_batch_samples(pipeline, execution, n_processes=n_processes)
    length, is_half = tokens_per_sample(pipeline, task, quantile=1), is_half_precision(pipeline)
    trained = _token_bytes(pipeline, model, length=length, is_half=is_half, execution=execution)
    evaluated = _block_bytes(model, length=length, is_half=is_half)
    if TASK_KINDS[task.kind].writes_text:
        trained += LOGIT_BYTES * model.vocab_size
        evaluated += LOGIT_BYTES * model.vocab_size + _cache_bytes(model, is_half=is_half)
    return max(n_samples, min(int(n_samples * trained / evaluated), MAX_EVALUATION_BATCH))


def micro_batch_samples(pipeline: Pipeline, execution: Execution, *, n_processes: int) -> int:
    """Count the samples of a micro-batch on one process."""
    share = -(-int(pipeline.params.get("batch_size", 1)) // n_processes)
    return min(execution.micro_batch or share, share)


def is_half_precision(pipeline: Pipeline) -> bool:
    """Return whether a GPU computes in half precision."""
    return pipeline.params.get("use_mixed_precision", True) is True


@dataclass(frozen=True, slots=True)
class FrozenBytes:
    """Bytes of a weight that is not trained.

    Attributes:
        in_blocks: Of one in the blocks, nearly all of them in linear layers.
        outside: Of one outside, in the embeddings.
    """

    in_blocks: float
    outside: float


IN_SINGLE = FrozenBytes(SINGLE_BYTES, SINGLE_BYTES)
"""Weights that are not trained kept in single precision, as on CPUs."""


def frozen_bytes(pipeline: Pipeline, *, is_half: bool) -> FrozenBytes:
    """Return what a weight takes that is not trained.

    Args:
        pipeline: Its ``quantization``.
        is_half: Whether it is computed in half precision.
    """
    usual = HALF_BYTES if is_half else SINGLE_BYTES
    return FrozenBytes(NF4_BYTES if pipeline.params.get("quantization") == "nf4" else usual, usual)


def model_bytes(pipeline: Pipeline, model: Model, *, is_half: bool, frozen: FrozenBytes) -> float:
    """Sum what is kept of the model for a batch of any size.

    Autocast keeps a copy in half precision of weights in the blocks that are in single precision.

    Args:
        pipeline: The pipeline.
        model: Its model.
        is_half: Whether it is computed in half precision.
        frozen: What a weight takes that is not trained.

    Raises:
        InputError: The pipeline's optimiser is not known.
    """
    trained, in_blocks = n_trained_parameters(pipeline, model), block_parameters(model) * model.n_layers
    outside = model.n_parameters - in_blocks
    own = trained if pipeline.method in ("full", "partial") else 0.0  # others train what comes in addition
    own_in_blocks = min(own, in_blocks)
    weights = SINGLE_BYTES * trained
    weights += frozen.in_blocks * (in_blocks - own_in_blocks) + frozen.outside * (outside - (own - own_in_blocks))
    copied = in_blocks if frozen.in_blocks == SINGLE_BYTES or own > in_blocks else trained
    return weights + (HALF_BYTES * copied if is_half else 0) + (SINGLE_BYTES + state_bytes(pipeline)) * trained


def loading_bytes(pipeline: Pipeline, model: Model, *, has_gpu: bool) -> float:
    """Estimate the host memory that loading a model takes: in half precision where none of its weights are trained.

    Args:
        pipeline: The pipeline.
        model: Its model.
        has_gpu: Whether it is trained on a GPU.
    """
    params, is_half = pipeline.params, has_gpu and is_half_precision(pipeline)
    trains_own = params.get("lora_bias", "none") != "none" or params.get("init_lora_weights") == "pissa"
    is_loaded_half = is_half and pipeline.method in ADAPTER_METHODS and not trains_own
    return (HALF_BYTES if is_loaded_half else SINGLE_BYTES) * model.n_parameters + OVERHEAD_BYTES


def _token_bytes(pipeline: Pipeline, model: Model, *, length: float, is_half: bool, execution: Execution) -> float:
    """Sum the activations that are kept of a token for the backward pass."""
    per_block = _block_bytes(model, length=length, is_half=is_half)
    n_blocks = _kept_blocks(pipeline, model)
    if execution.gradient_checkpointing and n_blocks > 1:
        return per_block + 4 * block_width(model) * n_blocks  # one block at a time, and the input of each
    return per_block * n_blocks


def _block_bytes(model: Model, *, length: float, is_half: bool) -> float:
    """Sum the activations that are kept of a token in one block."""
    width = block_width(model)
    per_unit = ACTIVATION_BYTES_HALF if is_half else ACTIVATION_BYTES_SINGLE
    per_block = width * per_unit * (DECODER_ACTIVATIONS if model.family == "decoder" else 1)
    return per_block + (SCORE_BYTES * length * width / HEAD_WIDTH if model.keeps_attention_scores else 0)


def _cache_bytes(model: Model, *, is_half: bool) -> float:
    """Sum the keys and values of a token in all blocks, kept during generation; shared heads need less."""
    return 2 * (2 if is_half else 4) * block_width(model) * model.n_layers


def cached_bytes(pipeline: Pipeline, model: Model) -> float:
    """Sum what is kept of a token while a GPU writes answers: its logits, and its keys and values in all blocks."""
    return LOGIT_BYTES * model.vocab_size + _cache_bytes(model, is_half=is_half_precision(pipeline))


def checkpoint_bytes(pipeline: Pipeline, model: Model) -> float:
    """Estimate a checkpoint: what is trained, its best state so far and the optimiser's states.

    Args:
        pipeline: The pipeline.
        model: Its model.

    Raises:
        InputError: Its optimiser is not known.
    """
    return (4 + 4 + state_bytes(pipeline)) * n_trained_parameters(pipeline, model)


def state_bytes(pipeline: Pipeline) -> int:
    """Return the bytes of state that the optimiser keeps for each trained parameter.

    Raises:
        InputError: The pipeline's optimiser is not known.
    """
    name = str(pipeline.params.get("optimizer", default_of("optimizer")))
    if name not in OPTIMIZERS:
        raise InputError(f"optimizer = {name!r}: its state is not known; valid: {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name].state_bytes


def _kept_blocks(pipeline: Pipeline, model: Model) -> float:
    """Count the blocks whose activations are kept; frozen ones below the first trained one keep none."""
    match pipeline.method:
        case "head":
            return 0.0
        case "partial":
            return n_trained_blocks(pipeline, model)
        case "full":
            return model.n_layers
        case _:
            return ADAPTER_ACTIVATIONS * model.n_layers
