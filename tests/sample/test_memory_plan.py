"""How a pipeline is executed in the memory there is."""

from dataclasses import replace

import pytest

from tests.nouns import GIB
from tests.priors.builders import SYSTEM, TASK, a_model, a_pipeline
from xautolm_hpc.execution import AS_DRAWN, Execution
from xautolm_hpc.sample.estimates import memory_needed_bytes
from xautolm_hpc.sample.memory_plan import USABLE_SHARE, MemoryBudget, plan_execution

LONG = replace(TASK, length_tokens=(400.0, 512.0, 512.0))


def _fit(batch_size: int, *, memory_gib: float | None, n_processes: int = 1, has_gpu: bool = True) -> Execution | None:
    memory_bytes = None if memory_gib is None else int(memory_gib * GIB)
    memory_budget = MemoryBudget(memory_bytes=memory_bytes, has_gpu=has_gpu, n_processes=n_processes)
    execution = plan_execution(
        a_pipeline(params={"batch_size": batch_size}), a_model(), task=LONG, memory_budget=memory_budget
    )
    return None if execution is None else replace(execution, evaluation_batch=None)


def test_what_fits_or_cannot_be_judged_is_executed_as_drawn() -> None:
    assert _fit(16, memory_gib=24) == AS_DRAWN
    assert _fit(4096, memory_gib=None) == AS_DRAWN


def test_a_batch_too_large_is_halved_until_it_fits_the_usable_share() -> None:
    execution = _fit(256, memory_gib=24)

    assert execution == Execution(micro_batch=64)
    pipeline = a_pipeline(params={"batch_size": 256})
    double = replace(execution, micro_batch=128)
    assert (
        memory_needed_bytes(pipeline, a_model(), task=LONG, has_gpu=True, execution=execution)
        <= USABLE_SHARE * 24 * GIB
    )
    assert memory_needed_bytes(pipeline, a_model(), task=LONG, has_gpu=True, execution=double) > USABLE_SHARE * 24 * GIB


@pytest.mark.parametrize(("memory_gib", "micro_batch"), [(3.3, 16), (2.9, 4)])
def test_before_a_micro_batch_gets_tiny_activations_are_computed_again(memory_gib: float, micro_batch: int) -> None:
    execution = _fit(32, memory_gib=memory_gib)

    assert execution is not None
    assert execution.gradient_checkpointing
    assert (execution.micro_batch or 32) == micro_batch


def test_nothing_fits_into_less_than_the_model_needs() -> None:
    assert _fit(32, memory_gib=2) is None


def test_several_gpus_share_a_model_too_large_for_one() -> None:
    alone, four = _fit(8, memory_gib=2), _fit(8, memory_gib=2, n_processes=4)

    assert alone is None
    assert four == Execution(sharded=True)


def test_without_gpus_nothing_is_sharded() -> None:
    assert _fit(8, memory_gib=2, n_processes=4, has_gpu=False) is None


@pytest.mark.parametrize(
    ("memory_bytes", "n_processes", "n_evaluated"), [(24 * GIB, 1, 160), (None, 1, 160), (24 * GIB, 4, 40)]
)
def test_on_a_gpu_an_evaluation_takes_as_many_samples_as_training_leaves_memory_for(
    memory_bytes: int | None, n_processes: int, n_evaluated: int
) -> None:
    memory_budget = MemoryBudget(memory_bytes=memory_bytes, has_gpu=True, n_processes=n_processes)

    execution = plan_execution(a_pipeline(params={"batch_size": 16}), a_model(), task=LONG, memory_budget=memory_budget)

    assert execution == Execution(evaluation_batch=n_evaluated)


def test_on_a_cpu_the_worker_decides_how_many_samples_an_evaluation_takes() -> None:
    memory_budget = MemoryBudget(memory_bytes=24 * GIB, has_gpu=False)

    assert (
        plan_execution(a_pipeline(params={"batch_size": 16}), a_model(), task=LONG, memory_budget=memory_budget)
        == AS_DRAWN
    )


def test_a_process_has_its_gpu_or_its_share_of_the_host() -> None:
    on_cpu = replace(SYSTEM, n_gpus=0, gpu_name=None, gpu_memory_bytes=None, gpu_capability=None)

    assert MemoryBudget.of(SYSTEM, host_bytes=8 * GIB, n_processes=2, n_nodes=3) == MemoryBudget(
        memory_bytes=24 * GIB, has_gpu=True, n_processes=6
    )
    assert MemoryBudget.of(on_cpu, host_bytes=8 * GIB, n_processes=2) == MemoryBudget(
        memory_bytes=4 * GIB, has_gpu=False, n_processes=2
    )


def test_a_micro_batch_is_halved_down_to_one_sample() -> None:
    assert AS_DRAWN.halved(8) == Execution(micro_batch=4)
    assert Execution(micro_batch=5, gradient_checkpointing=True).halved(8) == Execution(
        micro_batch=2, gradient_checkpointing=True
    )
    assert Execution(micro_batch=64).halved(8) == Execution(micro_batch=4)
    assert Execution(micro_batch=1).halved(8) is None
    assert Execution(evaluation_batch=9).halved(8) == Execution(micro_batch=4, evaluation_batch=4)
    assert Execution(evaluation_batch=1).halved(8) == Execution(micro_batch=4, evaluation_batch=1)


def test_a_batch_without_samples_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"micro_batch = 0: expected 1 or more"):
        Execution(micro_batch=0)
    with pytest.raises(ValueError, match=r"evaluation_batch = 0: expected 1 or more"):
        Execution(evaluation_batch=0)
