"""What each constraint rejects and lets through."""

from dataclasses import replace
from typing import Any

import pytest

from tests import nouns
from tests.nouns import GIB
from tests.priors.builders import SPACE, SYSTEM, TASK, a_model, a_pipeline
from xautolm_hpc.errors import SpaceError
from xautolm_hpc.records import System, Value
from xautolm_hpc.sample.constraints import (
    Constraint,
    ContextLength,
    EnoughSteps,
    FitsMemory,
    FitsTime,
    NotDrawnBefore,
    Supported,
    TrialLimits,
    build_constraints,
    first_rejection,
)
from xautolm_hpc.sample.duration import CPU_FLOPS_PER_CORE, TimeKnowledge
from xautolm_hpc.sample.estimates import memory_needed_bytes
from xautolm_hpc.sample.memory_plan import MemoryBudget

BIG = 10**12


def test_a_pipeline_drawn_before_is_rejected_and_another_is_not() -> None:
    constraint = NotDrawnBefore({a_pipeline().canonical()})

    assert constraint.reject(a_pipeline(), a_model()) == "small with full was drawn before with the same parameters"
    assert constraint.reject(a_pipeline(params={"batch_size": 16}), a_model()) is None


@pytest.mark.parametrize(
    ("params", "model", "reason"),
    [
        ({}, {"family": "decoder"}, "small is of the family decoder; trained are encoder, seq2seq"),
        ({}, {"unsupported_methods": ("lora",)}, "small does not support lora"),
        ({"init_lora_weights": "loftq"}, {}, "init_lora_weights = loftq needs a quantised model"),
        (
            {"lora_bias": "lora_only"},
            {"family": "seq2seq"},
            "lora_bias = lora_only is for encoders, small is a seq2seq",
        ),
        ({}, {"unsupported_tasks": ("text-classification",)}, "small has no head for text-classification"),
        ({"lora_bias": "lora_only"}, {}, None),
        ({"init_lora_weights": "pissa", "lora_bias": "all"}, {"family": "seq2seq"}, None),
    ],
)
def test_what_the_worker_cannot_train_is_rejected(
    params: dict[str, Value], model: dict[str, Any], reason: str | None
) -> None:
    constraint = Supported(frozenset({"encoder", "seq2seq"}))

    assert constraint.reject(a_pipeline(method="lora", params=params), a_model(**model)) == reason


def test_texts_longer_than_the_context_are_rejected() -> None:
    reject = ContextLength().reject

    assert reject(a_pipeline(params={"max_length": 512}), a_model()) is None
    assert reject(a_pipeline(params={}), a_model()) is None
    assert reject(a_pipeline(params={"max_length": 1024}), a_model()) == (
        "max_length 1024 is more than the 512 tokens small reads"
    )


@pytest.mark.parametrize(
    ("n_train", "warmup", "reason"),
    [
        # 100 rows in steps of 16 x 2: 4 an epoch, the last one smaller.
        (0, 0, "0 rows give no optimiser step"),
        (100, 40, "40 warm-up steps are not fewer than all 40 steps"),
        (100, 39, None),
    ],
)
def test_trainings_that_end_before_they_begin_are_rejected(n_train: int, warmup: int, reason: str | None) -> None:
    params: dict[str, Value] = {
        "batch_size": 16, "gradient_accumulation_steps": 2, "epochs": 10, "warmup_steps": warmup
    }  # fmt: skip

    rejected = EnoughSteps(replace(TASK, n_train=n_train)).reject(a_pipeline(params=params), a_model())

    assert rejected == reason


@pytest.mark.parametrize(
    ("min_steps", "params", "reason"),
    [
        # 100 rows in steps of 32: 4 an epoch, 20 in all; a fifth of them is the warm-up.
        (16, {"warmup_ratio": 0.2}, None),
        (17, {"warmup_ratio": 0.2}, "16 steps after the warm-up are fewer than constraints.min_steps = 17"),
        (17, {"warmup_ratio": 0.2, "warmup_steps": 3}, None),
        (20, {}, None),
        (21, {}, "20 steps after the warm-up are fewer than constraints.min_steps = 21"),
        (1, {"warmup_ratio": 1.0}, "0 steps after the warm-up are fewer than constraints.min_steps = 1"),
        (0, {"warmup_ratio": 1.0}, None),
    ],
)
def test_trainings_with_few_steps_after_the_warm_up_are_rejected(
    min_steps: int, params: dict[str, Value], reason: str | None
) -> None:
    pipeline = a_pipeline(params={"batch_size": 32, "epochs": 5, **params})

    rejected = EnoughSteps(replace(TASK, n_train=100), min_steps=min_steps).reject(pipeline, a_model())

    assert rejected == reason


def _fits(*, gpu_bytes: int | None = BIG, has_gpu: bool = True, host_bytes: int = BIG) -> FitsMemory:
    memory_budget = MemoryBudget(memory_bytes=gpu_bytes if has_gpu else host_bytes, has_gpu=has_gpu)
    return FitsMemory(TASK, memory_budget=memory_budget, host_bytes=host_bytes)


def test_a_model_too_large_for_its_gpu_is_rejected() -> None:
    # 4 + 4 + 8 bytes for each of 2 G parameters are 29.8 GiB, and 2 for each of those in the blocks.
    model = a_model(n_parameters=2_000_000_000)

    assert _fits(gpu_bytes=80 * GIB).reject(a_pipeline(), model) is None
    assert _fits(gpu_bytes=None).reject(a_pipeline(), model) is None
    assert _fits(gpu_bytes=24 * GIB).reject(a_pipeline(), model) == (
        "full of small needs 34.2 GiB with a sample at a time, the GPU has 24.0 GiB"
    )


def test_a_batch_too_large_for_its_gpu_is_no_reason_to_reject() -> None:
    pipeline = a_pipeline(params={"batch_size": 4096, "max_length": 512})

    assert memory_needed_bytes(pipeline, a_model(), task=TASK, has_gpu=True) > 24 * GIB
    assert _fits(gpu_bytes=24 * GIB).reject(pipeline, a_model()) is None


def test_a_method_that_trains_less_needs_less() -> None:
    model = a_model(n_parameters=2_000_000_000)

    assert _fits(gpu_bytes=24 * GIB).reject(a_pipeline(method="lora"), model) is None


def test_without_a_gpu_the_memory_of_the_job_counts() -> None:
    on_cpu = _fits(has_gpu=False, host_bytes=5 * GIB // 4)

    assert on_cpu.reject(a_pipeline(), a_model()) == (
        "full of small needs 2.2 GiB with a sample at a time, the job has 1.2 GiB"
    )
    assert on_cpu.reject(a_pipeline(method="head"), a_model()) is None


def test_a_model_that_cannot_be_loaded_is_rejected_however_large_the_gpu() -> None:
    model = a_model("t5-11b", n_parameters=11_300_000_000)

    assert _fits(host_bytes=35 * GIB).reject(a_pipeline(method="head"), model) == (
        "loading t5-11b needs 42.8 GiB, the job has 35.0 GiB"
    )


@pytest.mark.parametrize(
    ("time_calibration", "reason"), [(1.4, None), (2.0, "full of small takes 75 s at least, a trial has 54 s")]
)
def test_what_cannot_end_in_time_is_rejected(time_calibration: float, reason: str | None) -> None:
    # 76.8 M weights and attention over 10 tokens: 153.92 M operations a token forward, thrice that in training;
    # 1,000 rows of 10 tokens trained, 500 evaluated.
    flops = 153.92e6 * 10 * (3 * 1000 + 500)
    on_cpu = replace(SYSTEM, n_gpus=0, gpu_name=None, n_cpu_cores=1)
    pipeline = a_pipeline(params={"epochs": 1, "batch_size": 1})
    limit_s = flops / CPU_FLOPS_PER_CORE * 1.01

    rejected = FitsTime(
        TASK,
        time_limit_s=limit_s,
        knowledge=TimeKnowledge(system=on_cpu),
        time_calibration=time_calibration,
    ).reject(pipeline, a_model())

    assert rejected == reason


def test_on_a_gpu_that_nobody_knows_no_time_is_too_short() -> None:
    unknown = replace(SYSTEM, gpu_capability=99.0)

    knowledge = TimeKnowledge(system=unknown)
    assert FitsTime(TASK, time_limit_s=1e-9, knowledge=knowledge).reject(a_pipeline(), a_model()) is None


def _names(system: System) -> list[str]:
    return [constraint.name for constraint in _build(system)]


def _build(system: System, time_limit_s: float = 3600.0) -> list[Constraint]:
    memory_budget = MemoryBudget.of(system, host_bytes=16 * GIB)
    limits = TrialLimits(time_limit_s=time_limit_s, memory_bytes=16 * GIB, memory_budget=memory_budget)
    return build_constraints(TASK, system, limits=limits, trainable_families=("encoder",))


def test_constraints_are_asked_from_the_cheapest_reason_to_the_dearest() -> None:
    assert _names(SYSTEM) == ["unsupported", "context_length", "steps", "memory", "time"]


def test_the_first_rejection_names_its_constraint() -> None:
    pipeline = a_pipeline(params={"max_length": 4096, "warmup_steps": 10**6})

    rejection = first_rejection(_build(SYSTEM), pipeline, space=SPACE)

    assert rejection == ("context_length", "max_length 4096 is more than the 512 tokens small reads")


def test_a_sound_pipeline_passes_on_gpu_and_cpu() -> None:
    on_cpu = replace(SYSTEM, n_gpus=0, gpu_name=None, gpu_memory_bytes=None, gpu_capability=None)

    for system in (SYSTEM, on_cpu, nouns.system(site="s", cluster="c")):
        assert first_rejection(_build(system), a_pipeline(), space=SPACE) is None


def test_a_node_of_which_nothing_is_known_may_have_a_gpu_large_enough() -> None:
    space = replace(SPACE, models=(a_model(n_parameters=2_000_000_000),))

    assert first_rejection(_build(nouns.system(site="s", cluster="c")), a_pipeline(), space=space) is None
    assert first_rejection(_build(replace(SYSTEM, n_gpus=0)), a_pipeline(), space=space) == (
        "memory",
        "full of small needs 30.6 GiB with a sample at a time, the job has 16.0 GiB",
    )


def test_the_hardware_is_known_well_enough_to_reject_a_hopeless_trial() -> None:
    assert first_rejection(_build(SYSTEM, time_limit_s=1e-3), a_pipeline(), space=SPACE) == (
        "time",
        "full of small takes 0 s at least, a trial has 0 s",
    )


def test_a_model_outside_the_space_is_an_error() -> None:
    with pytest.raises(SpaceError, match=r"model 'gpt' is not in the search space"):
        first_rejection([], a_pipeline("gpt"), space=SPACE)
