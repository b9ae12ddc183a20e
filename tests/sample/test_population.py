"""Drawing a generation: exploration, rejections, short and exhausted generations."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from tests.priors.builders import SPACE, SYSTEM, TASK, a_model, random_experiences
from xautolm_hpc.catalogue import Model
from xautolm_hpc.distribution import Distribution, uniform
from xautolm_hpc.priors import PriorSettings, prior_content
from xautolm_hpc.records import Pipeline
from xautolm_hpc.sample.constraints import Constraint
from xautolm_hpc.sample.population import N_CANDIDATES, Drawn, Proposal, draw_generation, not_drawn_before
from xautolm_hpc.space import Categorical, Method, Space
from xautolm_hpc.table import build_table

TINY = Space("text-classification", (a_model(),), (Method("full", {"batch_size": Categorical((8, 16, 32))}),))


@dataclass(frozen=True)
class OnlyModel:
    """Rejects every model but one."""

    name: ClassVar[str] = "only_model"
    model_id: str

    def reject(self, pipeline: Pipeline, model: Model) -> str | None:
        return None if pipeline.model_id == self.model_id else f"{model.id} is not {self.model_id}"


def _sure(model_id: str) -> Distribution:
    """Believe in one model alone."""
    return replace(uniform(SPACE), models={m.id: float(m.id == model_id) for m in SPACE.models})


def _draw(
    distribution: Distribution, space: Space = SPACE, *, n: int = 10, first: int = 0, epsilon: float = 0.0,
    constraints: tuple[Constraint, ...] = (),
) -> Drawn:  # fmt: skip
    proposal = Proposal(distribution=distribution, epsilon=epsilon)
    return draw_generation(proposal, space, trials=range(first, first + n), seed=5, constraints=constraints)


@pytest.mark.parametrize("n", [1, 4, 6, 10, 20])
def test_a_generation_has_the_trials_asked_for_all_different(n: int) -> None:
    drawn = _draw(uniform(SPACE), n=n, first=40)

    assert [trial for trial, _ in drawn.pipelines] == list(range(40, 40 + n))
    assert len({pipeline.canonical() for _, pipeline in drawn.pipelines}) == n
    assert (drawn.rejections, drawn.exhausted) == ({}, False)


@pytest.mark.parametrize(
    ("n", "epsilon", "n_uniform"), [(1, 0.1, 1), (10, 0.1, 1), (11, 0.1, 2), (100, 0.07, 7), (5, 0.0, 0)]
)
def test_the_first_of_each_generation_explore_uniformly(n: int, epsilon: float, n_uniform: int) -> None:
    certain, explored = _draw(_sure("deep"), n=n, epsilon=epsilon), _draw(uniform(SPACE), n=n)

    same = [a == b for a, b in zip(certain.pipelines, explored.pipelines, strict=True)]

    assert same[:n_uniform] == [True] * n_uniform
    assert all(pipeline.model_id == "deep" for _, pipeline in certain.pipelines[n_uniform:])
    assert not all(same[n_uniform:]) or n == n_uniform


def test_a_generation_drawn_again_is_the_same_whatever_was_drawn_before_it() -> None:
    both = _draw(uniform(SPACE), n=20)

    second_half = _draw(uniform(SPACE), n=10, first=10)

    assert second_half.pipelines == both.pipelines[10:]


def test_what_is_rejected_is_drawn_again_and_counted() -> None:
    drawn = _draw(uniform(SPACE), constraints=(OnlyModel("wide"),))

    assert [p.model_id for _, p in drawn.pipelines] == ["wide"] * 10
    assert 5 < drawn.rejections["only_model"] < 60


def test_a_generation_is_short_when_nothing_new_is_left() -> None:
    drawn = _draw(uniform(TINY), TINY, n=5, first=7)

    assert [trial for trial, _ in drawn.pipelines] == [7, 8, 9]
    assert {pipeline.params["batch_size"] for _, pipeline in drawn.pipelines} == {8, 16, 32}
    assert drawn.rejections["duplicate"] >= 1000
    assert not drawn.exhausted


def test_a_space_of_which_all_was_drawn_is_exhausted() -> None:
    first = _draw(uniform(TINY), TINY, n=3)

    known = not_drawn_before(pipeline for _, pipeline in first.pipelines)
    drawn = _draw(uniform(TINY), TINY, n=3, first=3, constraints=(known,))

    assert replace(drawn, reasons={}) == Drawn((), {"duplicate": 1000}, exhausted=True)


def test_rejections_are_counted_under_the_first_constraint_that_rejects() -> None:
    drawn = _draw(uniform(SPACE), n=1, constraints=(OnlyModel("none"), OnlyModel("nothing either")))

    assert drawn.reasons == {"only_model": ("wide is not none", "deep is not none", "small is not none")}
    assert replace(drawn, reasons={}) == Drawn((), {"only_model": 1000}, exhausted=True)


def test_one_of_several_candidates_is_selected_but_uniform_draws_are_not() -> None:
    seen: list[int] = []

    def select(pipelines: Sequence[Pipeline], rng: np.random.Generator) -> int:
        seen.append(len(pipelines))
        return max(range(len(pipelines)), key=lambda i: float(pipelines[i].params["learning_rate"]))

    proposal = Proposal(distribution=uniform(SPACE), epsilon=0.2, select=select)
    drawn = draw_generation(proposal, SPACE, trials=range(10), seed=5, constraints=(OnlyModel("wide"),))

    plain = _draw(uniform(SPACE), constraints=(OnlyModel("wide"),))
    assert seen == [N_CANDIDATES] * 8
    assert drawn.pipelines[:2] == plain.pipelines[:2]
    rates = [float(p.params["learning_rate"]) for _, p in drawn.pipelines]
    assert min(rates[2:]) > 1e-3 / 2
    assert all(p.model_id == "wide" for _, p in drawn.pipelines)


def test_fewer_candidates_are_selected_from_when_little_is_left() -> None:
    proposal = Proposal(distribution=uniform(TINY), epsilon=0.0, select=lambda pipelines, rng: len(pipelines) - 1)

    drawn = draw_generation(proposal, TINY, trials=range(5), seed=5, constraints=())

    assert {pipeline.params["batch_size"] for _, pipeline in drawn.pipelines} == {8, 16, 32}


def _explore(n: int, *, p_accept: float = 1.0, first: int = 0) -> Drawn:
    """Draw from a sure distribution, exploring with a rate of .25; the model ``wide`` is accepted more rarely."""
    proposal = Proposal(
        distribution=_sure("deep"), epsilon=0.25, p_accept=lambda p: p_accept if p.model_id == "wide" else 1.0
    )
    return draw_generation(proposal, SPACE, trials=range(first, first + n), seed=5, constraints=())


def test_with_a_filter_each_trial_explores_with_a_probability_whatever_its_place() -> None:
    whole = dict(_explore(400).pipelines)
    parts = [pair for first in range(0, 400, 5) for pair in _explore(5, first=first).pipelines]

    n_explored = sum(pipeline.model_id != "deep" for pipeline in whole.values()) * 3 / 2
    assert n_explored == pytest.approx(100, abs=25)
    first_of_five = [pipeline.model_id != "deep" for trial, pipeline in parts if trial % 5 == 0]
    assert 0.05 < np.mean(first_of_five) < 0.35


def test_a_risky_uniform_draw_is_accepted_more_rarely_and_counted() -> None:
    drawn = _explore(400, p_accept=0.1)

    models = [pipeline.model_id for _, pipeline in drawn.pipelines]
    assert 0 < models.count("wide") < models.count("small") / 3
    assert drawn.rejections["risk"] > 10
    assert "was accepted with probability 0.10 alone" in drawn.reasons["risk"][0]


def test_a_trial_that_does_not_explore_is_not_filtered() -> None:
    proposal = Proposal(distribution=_sure("wide"), epsilon=0.0, p_accept=lambda _: 1e-9)

    drawn = draw_generation(proposal, SPACE, trials=range(20), seed=5, constraints=())

    assert (len(drawn.pipelines), drawn.rejections) == (20, {})


@pytest.mark.parametrize(
    ("kind", "digest"), [("uniform", "9ec8fd6e8a1ce4d4"), ("xautolm", "d2cfaf87e82a4efe"), ("knn", "76d1c229979cfa01")]
)
def test_a_generation_of_a_faithful_prior_is_what_it_always_was_bit_for_bit(kind: str, digest: str) -> None:
    settings = PriorSettings(kind=kind)
    past = build_table(random_experiences(300))
    content = prior_content(past, SPACE, task=TASK, system=SYSTEM, settings=settings, models={})
    proposal = Proposal(distribution=Distribution.from_json(content["distribution"], SPACE), epsilon=0.1)

    drawn = draw_generation(proposal, SPACE, trials=range(40, 80), seed=5, constraints=())

    text = "\n".join(pipeline.canonical() for _, pipeline in drawn.pipelines)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest
