"""The memory baseline: which experiences are nearest, and how much each counts."""

from dataclasses import replace
from typing import Any

import pytest

from tests.priors.builders import SPACE, SYSTEM, TASK, a_failure, a_pipeline, a_success, an_experience
from xautolm_hpc.priors import Prior, PriorSettings, compute_prior
from xautolm_hpc.records import Experience
from xautolm_hpc.table import build_table

FAR = replace(TASK, name="far", fingerprint="far", features=(9.0, 9.0))


def _prior(experiences: list[Experience], **changes: Any) -> Prior:
    settings = replace(PriorSettings(kind="knn", objectives=("f1",)), **changes)
    return compute_prior(build_table(experiences), SPACE, task=TASK, system=SYSTEM, settings=settings)


def _of(model: str, outcome: Any, trial: int, **changes: Any) -> Experience:
    return an_experience(outcome, trial, pipeline=a_pipeline(model, params={"batch_size": 8}), **changes)


def test_near_is_mostly_the_distance_and_then_the_utility() -> None:
    near_bad = _of("small", a_success(0.1), 0)  # .7 x 0 + .3 x 1
    near_good = _of("wide", a_success(0.9), 1)  # .7 x 0 + .3 x 0
    near_failed = _of("deep", a_failure(), 2)  # .7 x 0 + .3 x 1
    far_best = _of("small", a_success(0.9), 3, task=FAR)  # .7 x 1 + .3 x .5

    one, three = (_prior([near_bad, near_good, near_failed, far_best], k=k) for k in (1, 3))

    assert [three.table.id[row].decode() for row in one.weighed.row] == [near_good.id]
    assert {three.table.id[row].decode() for row in three.weighed.row} == {near_bad.id, near_good.id, near_failed.id}


def test_successes_pull_and_failures_push_by_one_part_in_k() -> None:
    prior = _prior([_of("wide", a_success(), 0), _of("deep", a_failure(), 1)], k=4)

    # descending alpha: wide 1/3 -> (1/3 + 1/4) / 1.25; then deep (1/3) / 1.25 - 1/4, over .75
    assert prior.distribution.models["wide"] == pytest.approx((1 / 3 + 1 / 4) / 1.25 / 0.75)
    assert prior.distribution.models["deep"] == pytest.approx(((1 / 3) / 1.25 - 1 / 4) / 0.75)
    assert prior.distribution.methods["full"] == pytest.approx(1.0)


def test_of_equally_near_ones_the_smaller_id_comes_first() -> None:
    experiences = [_of(model, a_success(0.5), trial) for trial, model in enumerate(("small", "wide", "deep"))]

    prior = _prior(experiences, k=2)

    assert [bytes(prior.table.id[row]).decode() for row in prior.weighed.row] == sorted(e.id for e in experiences)[:2]


def test_an_empty_store_leaves_the_distribution_uniform() -> None:
    prior = _prior([])

    assert prior.distribution == prior.start
