"""Past peaks on the same GPU correct the memory plan."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.nouns import GIB
from tests.priors.builders import SPACE, SYSTEM, a_model, a_pipeline, a_success, an_experience
from xautolm_hpc.execution import AS_DRAWN, StepMode
from xautolm_hpc.records import Experience
from xautolm_hpc.sample.memory_learning import FIRST_WEIGHT, measure_memory_corrections
from xautolm_hpc.sample.memory_need import StepFacts, memory_need
from xautolm_hpc.table import build_table

ALONE = replace(SYSTEM, n_gpus=1, gpu_memory_bytes=80 * GIB)


def _peaks(factors: Sequence[float], *, method: str = "full", step: str | None = None) -> list[Experience]:
    """Build trials that took so many times as much memory as planned."""
    experiences = []
    for trial, factor in enumerate(factors):
        pipeline = a_pipeline(method=method, params={"batch_size": 8, "epochs": 1 + trial})
        experience = an_experience(a_success(), trial, pipeline=pipeline, system=ALONE)
        need = memory_need(pipeline, a_model(), task=experience.task, execution=AS_DRAWN, measured=StepFacts())
        outcome = replace(experience.outcome, peak_gpu_memory_bytes=round(factor * need.allocated_bytes), step=step)
        experiences.append(replace(experience, outcome=outcome))
    return experiences


def test_each_model_and_method_has_the_mean_of_its_ratios_and_others_a_common_one() -> None:
    table = build_table([*_peaks([2.0, 2.0]), *_peaks([1.5], method="head")])

    found = measure_memory_corrections(table, SPACE, system=ALONE, measured=StepFacts())

    weight = FIRST_WEIGHT[False]
    assert found["small full"] == pytest.approx(2 ** (2 / (2 + weight)), rel=1e-3)
    assert found["small head"] == pytest.approx(1.5 ** (1 / (1 + weight)), rel=1e-3)
    assert 1.0 < found["*"] < 2.0


def test_other_gpus_other_steps_and_several_gpus_do_not_count() -> None:
    table = build_table(_peaks([2.0, 2.0]))

    captured = StepFacts(step=StepMode.GRAPH)
    assert measure_memory_corrections(table, SPACE, system=ALONE, measured=captured) == {}
    assert measure_memory_corrections(table, SPACE, system=replace(ALONE, gpu_name="H100"), measured=StepFacts()) == {}
    assert measure_memory_corrections(table, SPACE, system=replace(ALONE, n_gpus=2), measured=StepFacts()) == {}
    graphs = build_table(_peaks([2.0, 2.0], step="graph"))
    assert measure_memory_corrections(graphs, SPACE, system=ALONE, measured=captured).keys() == {"small full"}


def test_a_peak_of_something_else_corrects_little() -> None:
    table = build_table(_peaks([1000.0] * 4))

    assert measure_memory_corrections(table, SPACE, system=ALONE, measured=StepFacts()) == {"small full": 3.0}
