"""Steps are captured where that was asked for and can be; else they run eagerly, and the reason is recorded."""

from pathlib import Path
from typing import Any

import pytest

from tests.train.attempts import command, read_end, write_attempt
from tests.train.families import run_attempt
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.execution import StepMode
from xautolm_hpc.jobdir import PIPELINE
from xautolm_hpc.records import STEPS
from xautolm_hpc.train.steps.choose import StepPlan, plan_steps
from xautolm_hpc.train.steps.runner import step_seed

CAN: dict[str, Any] = {"has_gpu": True, "n_ranks": 1, "gradient_checkpointing": False, "optimizer": "adamw"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"n_ranks": 2}, "2 processes"),
        ({"gradient_checkpointing": True}, "activations are computed again, with the random numbers of the first time"),
    ],
)
def test_what_hinders_a_capture_is_the_reason(changes: dict[str, bool | int], reason: str | None) -> None:
    plan = plan_steps(StepMode.GRAPH, **{**CAN, **changes})

    assert plan == StepPlan(mode=StepMode.GRAPH if reason is None else StepMode.EAGER, reason=reason)


@pytest.mark.parametrize(
    ("asked", "has_gpu"), [(StepMode.EAGER, True), (StepMode.EAGER, False), (StepMode.GRAPH, False)]
)
def test_eager_steps_need_no_reason_where_they_were_asked_for_or_there_is_no_gpu(
    asked: StepMode, has_gpu: bool
) -> None:
    assert plan_steps(asked, **{**CAN, "has_gpu": has_gpu}) == StepPlan(mode=StepMode.EAGER)


def test_the_ways_are_those_of_the_outcome() -> None:
    assert {mode.value for mode in StepMode} == set(STEPS)


@pytest.mark.parametrize("asked", [None, "eager", "graph"])
def test_a_trial_without_a_gpu_records_that_its_steps_were_eager(tmp_path: Path, asked: str | None) -> None:
    attempt_dir = write_attempt(tmp_path, "head", params={"epochs": 1}, limits=command(n_threads=1))
    plan = read_json(attempt_dir / PIPELINE)
    plan.pop("step")
    write_json(attempt_dir / PIPELINE, plan if asked is None else {**plan, "step": asked})

    outcome = run_attempt(attempt_dir)

    assert outcome.status == "succeeded", outcome.message
    assert (outcome.step, outcome.step_reason, outcome.message) == ("eager", None, None)
    assert read_end(attempt_dir).outcome == outcome


def test_the_seed_of_a_step_follows_from_seed_step_and_rank() -> None:
    seeds = {step_seed(seed, step, rank=rank) for seed in (1, 2) for step in (0, 1) for rank in (0, 1)}

    assert len(seeds) == 8
    assert step_seed(1, 0) == step_seed(1, 0, rank=0)
    assert all(0 <= seed < 2**63 for seed in seeds)
