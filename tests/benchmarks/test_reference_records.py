"""The benchmark on XAutoLM's published trials: how they are read, and what is measured."""

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import reference_data
from benchmarks.reference_records import HeldOut, Ranks, hold_out, log_density
from tests.priors.builders import SPACE, a_pipeline
from xautolm_hpc.distribution import uniform
from xautolm_hpc.space import build_space


def _ranks(values: list[float]) -> Ranks:
    array = np.array(values)
    return Ranks(array, array, -array, array)


HELD = HeldOut(
    succeeded=np.array([True, True, True, False, False]),
    f1=np.array([0.9, 0.6, 0.3, math.nan, math.nan]),
    time_s=np.array([10.0, 20.0, 30.0, math.nan, math.nan]),
    recurs=np.zeros(5, dtype=np.bool_),
    ranks={"right": _ranks([5, 4, 3, 2, 1]), "wrong": _ranks([1, 2, 3, 4, 5])},
)


def test_a_method_is_measured_against_what_happened() -> None:
    right, wrong = (HELD.measure(method, np.arange(5)) for method in ("right", "wrong"))

    assert (right["AUC"], right["F1"], right["time"], right["best inside"]) == (1.0, 1.0, 1.0, 1.0)
    assert (wrong["AUC"], wrong["F1"], wrong["time"], wrong["best inside"]) == (0.0, -1.0, -1.0, 0.0)
    assert right["top F1"] == pytest.approx(0.9 / 0.6)
    assert (right["place of best"], wrong["place of best"]) == (0.2, 1.0)


def test_the_uniform_density_is_the_product_of_its_parts() -> None:
    density = log_density(uniform(SPACE), SPACE, pipeline=a_pipeline(params={"batch_size": 8, "epochs": 99}))

    assert density == pytest.approx(math.log(1 / 3 * 1 / 2 * 1 / 3))


def test_the_published_trials_become_experiences(shared_dir: Path) -> None:
    trials = reference_data.read_trials(shared_dir / "peer-records" / "trials.jsonl")
    experiences = [reference_data.experience(trial, number) for number, trial in enumerate(trials)]

    kinds = {e.outcome.kind for e in experiences}
    assert len(experiences) == 332
    assert sum(e.outcome.succeeded for e in experiences) == 172
    assert kinds == {None, "gpu_oom", "host_oom", "time_limit", "unsupported", "error"}


def test_the_forecasts_of_evidence_hold_for_a_task_it_never_saw(shared_dir: Path) -> None:
    trials = reference_data.read_trials(shared_dir / "peer-records" / "trials.jsonl")
    experiences = [reference_data.experience(trial, number) for number, trial in enumerate(trials)]
    space = build_space(
        "xautolm", task_kind="text-classification", models=None, methods=None, overrides={}, own_models={}
    )

    held = hold_out(experiences, "meld", methods=["evidence", "model size"], space=space)

    evidence, size = (held.measure(method, np.arange(len(held.f1))) for method in ("evidence", "model size"))
    assert evidence["AUC"] > 0.93 > size["AUC"]
    assert evidence["F1"] > 0.5
    assert evidence["time"] > 0.85
