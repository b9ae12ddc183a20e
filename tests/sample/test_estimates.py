"""Estimates of memory and steps against hand-computed values."""

from dataclasses import replace

import pytest

from tests.priors.builders import TASK, a_model, a_pipeline
from xautolm_hpc.catalogue import Model, load_catalogue
from xautolm_hpc.errors import InputError
from xautolm_hpc.execution import AS_DRAWN, Execution
from xautolm_hpc.records import Task, Value
from xautolm_hpc.sample.estimates import (
    IN_SINGLE,
    OVERHEAD_BYTES,
    checkpoint_bytes,
    evaluation_batch,
    frozen_bytes,
    is_half_precision,
    loading_bytes,
    memory_needed_bytes,
    model_bytes,
    n_optimiser_steps,
    n_trained_parameters,
    tokens_per_sample,
)

# 100 M parameters, 24 M of them embeddings: 10 blocks of 7.6 M. 12 h^2 a block would be 7.68 M.
MODEL = a_model()


def test_a_sample_is_as_long_as_its_text_but_no_longer_than_allowed() -> None:
    pipeline = a_pipeline(params={"max_length": 32})

    assert tokens_per_sample(pipeline, TASK, quantile=0) == 10
    assert tokens_per_sample(pipeline, TASK, quantile=1) == 32
    assert tokens_per_sample(pipeline, replace(TASK, length_tokens=None), quantile=0) == 32


def test_the_last_step_of_an_epoch_may_be_smaller() -> None:
    params: dict[str, Value] = {"batch_size": 16, "gradient_accumulation_steps": 4, "epochs": 3}

    assert n_optimiser_steps(a_pipeline(params=params), replace(TASK, n_train=65)) == 6
    assert n_optimiser_steps(a_pipeline(params=params), replace(TASK, n_train=64)) == 3
    half = {**params, "train_share": 0.5}
    assert n_optimiser_steps(a_pipeline(params=half), replace(TASK, n_train=128)) == 3


@pytest.mark.parametrize(
    ("method", "params", "n"),
    [
        ("full", {}, 100_000_000),
        ("partial", {"n_trainable_blocks": 2}, 2 * 7_600_000),
        ("partial", {"num_trainable_layers": 64}, 10 * 7_600_000),
        ("lora", {"lora_r": 8}, 10 * 8 * 8 * 800),
        ("lora", {"lora_r": 8, "lora_targets": "all-linear"}, 10 * 8 * 18 * 800),
        ("head", {}, 0),
    ],
)
def test_each_method_trains_its_share(method: str, params: dict[str, Value], n: int) -> None:
    assert n_trained_parameters(a_pipeline(method=method, params=params), MODEL) == n


def test_lora_counts_the_parameters_peft_adds_to_bert() -> None:
    # r (in + out) for query, key, value and output of 12 layers: 12 x 4 x 8 x (768 + 768).
    pipeline = a_pipeline(method="lora", params={"lora_r": 8})

    assert n_trained_parameters(pipeline, load_catalogue()["bert-base-uncased"]) == 589_824


HALF_COPY = 2 * 76_000_000
"""Autocast's copy of the blocks, in bytes."""


@pytest.mark.parametrize(
    ("optimizer", "bytes_each"), [("adamw", 16), ("adam", 16), ("adagrad", 12), ("sgd", 8), ("adafactor", 8)]
)
def test_full_training_keeps_weights_gradients_and_optimiser_states(optimizer: str, bytes_each: int) -> None:
    pipeline = a_pipeline(params={"batch_size": 8, "optimizer": optimizer})

    needed = memory_needed_bytes(pipeline, MODEL, task=TASK, has_gpu=True)

    activations = 8 * 40 * 10 * 800 * 44
    assert needed == bytes_each * 100_000_000 + HALF_COPY + activations + OVERHEAD_BYTES


@pytest.mark.parametrize(
    ("method", "params", "has_gpu", "kept"),
    [
        ("head", {}, True, 2 * 100e6),
        ("head", {}, False, 4 * 100e6),
        ("head", {"use_mixed_precision": False}, True, 4 * 100e6),
        # Of a trained block: weights, gradients and two states in single precision, and autocast's copy.
        ("partial", {"n_trainable_blocks": 2}, True, 2 * 84.8e6 + 18 * 15.2e6),
        ("partial", {"n_trainable_blocks": 2}, False, 4 * 84.8e6 + 16 * 15.2e6),
        ("lora", {"lora_r": 8}, True, 2 * 100e6 + 18 * 512_000),
        ("lora", {"lora_r": 8, "quantization": "none"}, True, 2 * 100e6 + 18 * 512_000),
        ("lora", {"lora_r": 8, "quantization": "nf4"}, True, 0.53 * 76e6 + 2 * 24e6 + 18 * 512_000),
        ("bitfit", {}, True, 2 * 100e6),
    ],
)
def test_weights_that_are_not_trained_take_half_or_less_on_a_gpu(
    method: str, params: dict[str, Value], has_gpu: bool, kept: float
) -> None:
    pipeline = a_pipeline(method=method, params={**params, "batch_size": 8})
    is_half = has_gpu and is_half_precision(pipeline)

    needed = model_bytes(pipeline, MODEL, is_half=is_half, frozen=frozen_bytes(pipeline, is_half=is_half))

    assert needed == pytest.approx(kept)


def test_frozen_weights_kept_in_single_precision_have_a_copy_in_half() -> None:
    pipeline = a_pipeline(method="head", params={"batch_size": 8})

    assert model_bytes(pipeline, MODEL, is_half=True, frozen=IN_SINGLE) == 400e6 + HALF_COPY


@pytest.mark.parametrize(
    ("method", "params", "has_gpu", "bytes_each"),
    [
        ("lora", {}, True, 2),
        ("lora", {}, False, 4),
        ("lora", {"init_lora_weights": "pissa"}, True, 4),
        ("lora", {"use_mixed_precision": False}, True, 4),
        ("lora", {"lora_bias": "all"}, True, 4),
        ("partial", {}, True, 4),
        ("full", {}, True, 4),
    ],
)
def test_the_host_holds_the_model_as_it_is_loaded(
    method: str, params: dict[str, Value], has_gpu: bool, bytes_each: int
) -> None:
    pipeline = a_pipeline(method=method, params=params)

    assert loading_bytes(pipeline, MODEL, has_gpu=has_gpu) == bytes_each * 100_000_000 + OVERHEAD_BYTES


def test_an_optimiser_whose_state_is_not_known_has_no_estimate() -> None:
    pipeline = a_pipeline(params={"batch_size": 8, "optimizer": "lion"})

    with pytest.raises(InputError, match="optimizer = 'lion': its state is not known; valid: adamw, adam"):
        memory_needed_bytes(pipeline, MODEL, task=TASK, has_gpu=True)
    with pytest.raises(InputError, match="optimizer = 'lion': its state is not known; valid: adamw, adam"):
        checkpoint_bytes(pipeline, MODEL)


@pytest.mark.parametrize(
    ("method", "params", "kept"),
    [
        ("full", {}, 10),
        ("partial", {"n_trainable_blocks": 3}, 3),
        ("lora", {"lora_r": 1}, 7),
        ("head", {}, 0),
    ],
)
def test_only_blocks_that_gradients_pass_keep_activations(method: str, params: dict[str, Value], kept: int) -> None:
    small = a_pipeline(method=method, params={**params, "batch_size": 1})
    large = a_pipeline(method=method, params={**params, "batch_size": 2})

    needed = [memory_needed_bytes(p, MODEL, task=TASK, has_gpu=True) for p in (small, large)]

    assert needed[1] - needed[0] == pytest.approx(40 * kept * 800 * 44)


def test_activations_are_larger_in_single_precision() -> None:
    single = a_pipeline(params={"batch_size": 8, "use_mixed_precision": False})

    on_gpu = memory_needed_bytes(single, MODEL, task=TASK, has_gpu=True)
    on_cpu = memory_needed_bytes(a_pipeline(), MODEL, task=TASK, has_gpu=False)

    assert on_gpu == on_cpu == 1_600_000_000 + 8 * 40 * 10 * 800 * 68 + OVERHEAD_BYTES


def _per_sample(model: Model, task: Task = TASK, *, execution: Execution = AS_DRAWN) -> float:
    needed = [
        memory_needed_bytes(a_pipeline(params={"batch_size": n}), model, task=task, has_gpu=True, execution=execution)
        for n in (1, 2)
    ]
    return needed[1] - needed[0]


def test_decoders_score_keepers_and_generators_keep_more() -> None:
    decoder, scores = replace(MODEL, family="decoder"), replace(MODEL, keeps_attention_scores=True)
    generation = replace(TASK, kind="text-generation")
    plain = 40 * 10 * 800 * 44

    assert _per_sample(decoder) == pytest.approx(1.4 * plain)
    assert _per_sample(scores) == pytest.approx(plain + 40 * 10 * 12 * 40 * 800 / 64)
    assert _per_sample(MODEL, generation) == pytest.approx(plain + 40 * 10 * 30_000)


def test_checkpointing_keeps_one_block_and_the_inputs_of_all() -> None:
    execution = Execution(gradient_checkpointing=True)

    assert _per_sample(MODEL, execution=execution) == pytest.approx(40 * (800 * 44 + 10 * 4 * 800))


def test_processes_share_the_batch_and_where_sharded_the_model() -> None:
    pipeline = a_pipeline(params={"batch_size": 10, "use_mixed_precision": False})

    shared = memory_needed_bytes(pipeline, MODEL, task=TASK, has_gpu=True, n_processes=4)
    sharded = memory_needed_bytes(
        pipeline, MODEL, task=TASK, has_gpu=True, n_processes=4, execution=Execution(sharded=True)
    )

    assert shared == 1_600_000_000 + 3 * 40 * 10 * 800 * 68 + OVERHEAD_BYTES
    assert shared - sharded == 1_200_000_000


@pytest.mark.parametrize(
    ("method", "params", "execution", "n_samples"),
    [
        ("full", {"batch_size": 8}, AS_DRAWN, 80),  # ten blocks are kept, an evaluation needs one
        ("full", {"batch_size": 64}, AS_DRAWN, 256),
        ("full", {"batch_size": 512}, AS_DRAWN, 512),
        ("full", {"batch_size": 64}, Execution(micro_batch=4), 40),
        ("full", {"batch_size": 8}, Execution(gradient_checkpointing=True), 15),  # 8 * (44 + 10 * 4) / 44
        ("partial", {"batch_size": 8, "n_trainable_blocks": 3}, AS_DRAWN, 24),
        ("lora", {"batch_size": 8}, AS_DRAWN, 56),
        ("head", {"batch_size": 8}, AS_DRAWN, 8),
    ],
)
def test_an_evaluation_takes_as_many_samples_as_need_no_more_memory_than_training(
    method: str, params: dict[str, Value], execution: Execution, n_samples: int
) -> None:
    pipeline = a_pipeline(method=method, params=params)

    assert evaluation_batch(pipeline, MODEL, task=TASK, execution=execution) == n_samples


def test_an_evaluation_that_generates_needs_the_logits_and_the_cache_too() -> None:
    pipeline, generation = a_pipeline(params={"batch_size": 8}), replace(TASK, kind="text-generation")
    block, logits, cache = 800 * 44, 10 * 30_000, 2 * 2 * 800 * 10

    n_samples = evaluation_batch(pipeline, MODEL, task=generation)

    assert n_samples == int(8 * (10 * block + logits) / (block + logits + cache)) == 14
