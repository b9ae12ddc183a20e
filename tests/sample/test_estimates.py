"""Estimates of memory, steps and arithmetic against hand-computed values."""

from dataclasses import replace

import pytest

from tests.priors.builders import GIB, SYSTEM, TASK, a_model, a_pipeline
from xautolm_hpc.catalogue import load_catalogue
from xautolm_hpc.records import Value
from xautolm_hpc.sample.estimates import (
    flops_needed,
    memory_needed_bytes,
    n_optimiser_steps,
    n_trained_parameters,
    throughput_flops_per_s,
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


@pytest.mark.parametrize(
    ("optimizer", "bytes_each"), [("adamw", 16), ("adam", 16), ("adagrad", 12), ("sgd", 8), ("adafactor", 8)]
)
def test_full_training_keeps_weights_gradients_and_optimiser_states(optimizer: str, bytes_each: int) -> None:
    pipeline = a_pipeline(params={"batch_size": 8, "optimizer": optimizer})

    needed = memory_needed_bytes(pipeline, MODEL, task=TASK, has_gpu=True)

    activations = 8 * 40 * 10 * 800 * 34
    assert needed == bytes_each * 100_000_000 + activations + GIB // 2


@pytest.mark.parametrize(
    ("method", "params", "kept"),
    [
        ("full", {}, 10),
        ("partial", {"n_trainable_blocks": 3}, 3),
        ("lora", {"lora_r": 1}, 6),
        ("head", {}, 0),
    ],
)
def test_only_blocks_that_gradients_pass_keep_activations(method: str, params: dict[str, Value], kept: int) -> None:
    small = a_pipeline(method=method, params={**params, "batch_size": 1})
    large = a_pipeline(method=method, params={**params, "batch_size": 2})

    needed = [memory_needed_bytes(p, MODEL, task=TASK, has_gpu=True) for p in (small, large)]

    assert needed[1] - needed[0] == pytest.approx(40 * kept * 800 * 34)


def test_activations_are_larger_in_single_precision() -> None:
    single = a_pipeline(params={"batch_size": 8, "use_mixed_precision": False})

    on_gpu = memory_needed_bytes(single, MODEL, task=TASK, has_gpu=True)
    on_cpu = memory_needed_bytes(a_pipeline(), MODEL, task=TASK, has_gpu=False)

    assert on_gpu == on_cpu == 1_600_000_000 + 8 * 40 * 10 * 800 * 64 + GIB // 2


@pytest.mark.parametrize(("method", "per_weight"), [("full", 6), ("lora", 4), ("head", 2)])
def test_arithmetic_counts_the_passes_through_the_weights(method: str, per_weight: int) -> None:
    pipeline = a_pipeline(method=method, params={"epochs": 2})

    flops = flops_needed(pipeline, MODEL, task=TASK)

    # 76.8 M weights; 10 tokens; 2 x 1,000 rows trained, 2 x 200 and 300 evaluated.
    assert flops == pytest.approx(76.8e6 * 10 * (2000 * per_weight + 700 * 2))


def test_training_may_stop_early() -> None:
    patient = a_pipeline(params={"epochs": 10, "early_stopping_patience": 3})
    impatient = a_pipeline(params={"epochs": 10})
    four, three = a_pipeline(params={"epochs": 4, "early_stopping_patience": 9}), a_pipeline(params={"epochs": 3})

    assert flops_needed(patient, MODEL, task=TASK) == flops_needed(four, MODEL, task=TASK)
    assert flops_needed(impatient, MODEL, task=TASK) == flops_needed(three, MODEL, task=TASK)


def test_partial_training_passes_back_through_its_blocks_only() -> None:
    params: dict[str, Value] = {"epochs": 1, "n_trainable_blocks": 5}

    flops = flops_needed(a_pipeline(method="partial", params=params), MODEL, task=TASK)

    assert flops == pytest.approx(76.8e6 * 10 * (1000 * (2 + 4 * 0.5) + 500 * 2))


def test_throughput_comes_from_the_hardware() -> None:
    on_cpu = replace(SYSTEM, n_gpus=0, gpu_name=None, gpu_memory_bytes=None, gpu_capability=None)

    assert throughput_flops_per_s(SYSTEM) == pytest.approx(362e12 * 0.6)
    assert throughput_flops_per_s(replace(SYSTEM, n_gpus=4)) == pytest.approx(4 * 362e12 * 0.6)
    assert throughput_flops_per_s(on_cpu) == pytest.approx(8e11)
    assert throughput_flops_per_s(replace(SYSTEM, gpu_capability=99.0)) is None
    assert throughput_flops_per_s(replace(on_cpu, n_cpu_cores=None)) is None
