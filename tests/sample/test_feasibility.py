"""The check before generation 0."""

import time
from dataclasses import replace

import pytest

from tests.nouns import GIB
from tests.priors.builders import SPACE, SYSTEM, TASK
from xautolm_hpc.sample import MemoryBudget, TrialLimits, build_constraints, check_feasible, infeasible_message
from xautolm_hpc.sample.constraints import Constraint
from xautolm_hpc.sample.feasibility import FeasibilityReport
from xautolm_hpc.space import build_space


def _constraints(*, memory_bytes: int = 64 * GIB, warmup: int = 0) -> list[Constraint]:
    limits = TrialLimits(
        time_limit_s=3600.0, memory_bytes=memory_bytes, memory_budget=MemoryBudget.of(SYSTEM, host_bytes=memory_bytes)
    )
    return build_constraints(TASK, SYSTEM, limits=limits, trainable_families=("encoder",))


def test_a_space_that_can_run_is_feasible() -> None:
    report = check_feasible(SPACE, _constraints(), seed=0, n_draws=200)

    assert report.share == 1.0
    assert report.is_feasible
    assert report.rejections == {}


def test_rejections_are_counted_by_constraint() -> None:
    narrow = replace(SPACE, models=(SPACE.models[0], replace(SPACE.models[1], family="decoder")))

    report = check_feasible(narrow, _constraints(), seed=0, n_draws=1000)

    assert report.share == pytest.approx(0.5, abs=0.06)
    assert sum(report.rejections.values()) == report.rejections["unsupported"] == round((1 - report.share) * 1000)
    assert report == check_feasible(narrow, _constraints(), seed=0, n_draws=1000)
    assert report != check_feasible(narrow, _constraints(), seed=1, n_draws=1000)


def test_no_more_is_drawn_once_enough_can_run_and_all_where_it_cannot() -> None:
    half = replace(SPACE, models=(SPACE.models[0], replace(SPACE.models[1], family="decoder")))

    found = check_feasible(half, _constraints(), seed=0, n_draws=1000, enough=0.1)
    missed = check_feasible(half, _constraints(), seed=0, n_draws=1000, enough=0.9)

    assert found.n_draws - sum(found.rejections.values()) == 100
    assert found.n_draws < 300
    assert found.share >= 0.1
    assert missed == check_feasible(half, _constraints(), seed=0, n_draws=1000)


def test_a_space_too_large_for_its_job_is_infeasible_and_the_message_says_what_to_do() -> None:
    report = check_feasible(SPACE, _constraints(memory_bytes=GIB // 2), seed=0, n_draws=100)

    assert not report.is_feasible
    assert infeasible_message(report).splitlines()[0] == (
        "space: 0 of 100 pipelines drawn can run (0.00%); at least 1% must"
    )
    assert "memory rejects 100.0%, for instance: loading" in infeasible_message(report)
    assert "Remedy: name smaller models" in infeasible_message(report)


def test_the_message_names_the_three_constraints_that_reject_most() -> None:
    report = FeasibilityReport(
        n_draws=1000,
        rejections={"steps": 10, "time": 300, "memory": 500, "context_length": 185},
        examples=dict.fromkeys(("steps", "time", "memory", "context_length"), "because"),
    )

    head, *lines = infeasible_message(report).splitlines()

    assert "5 of 1000 pipelines drawn can run (0.50%)" in head
    assert [line.split()[0] for line in lines] == ["memory", "time", "context_length"]
    assert not report.is_feasible
    assert replace(report, rejections={"memory": 990}).is_feasible


@pytest.mark.parametrize("preset", ["default", "xautolm"])
def test_ten_thousand_draws_of_a_preset_are_checked_in_seconds(preset: str) -> None:
    space = build_space(preset, task_kind="text-classification", models=None, methods=None, overrides={}, own_models={})
    start_s = time.perf_counter()

    report = check_feasible(space, _constraints(), seed=0)

    assert report.n_draws == 10_000
    assert report.is_feasible
    assert time.perf_counter() - start_s < 6.0  # 0.4 s on a quiet machine
