"""Which experiences count, and that those which must not change nothing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.nouns import stopped, succeeded
from tests.priors.builders import SYSTEM, TASK, a_failure, a_pipeline, a_success, an_experience
from xautolm_hpc.failures import INFRASTRUCTURE_KINDS, PIPELINE_KINDS
from xautolm_hpc.priors.eligible import MIX, EligibleExperiences, find_eligible, group_rows, truncated_as_failures
from xautolm_hpc.priors.settings import PriorSettings
from xautolm_hpc.records import Experience, Outcome
from xautolm_hpc.table import build_table

SETTINGS = PriorSettings(kind="xautolm", objectives=("f1", "gpu_energy_j"))


def _find(experiences: Sequence[Experience], **changes: Any) -> EligibleExperiences:
    return find_eligible(build_table(experiences), task=TASK, settings=replace(SETTINGS, **changes))


def _skipped(eligible: EligibleExperiences) -> dict[str, int]:
    return {reason: count for reason, count in eligible.skipped.items() if count}


def test_successes_are_positive_and_failures_of_the_pipeline_negative() -> None:
    experiences = [an_experience(a_success(0.7), 0), *(an_experience(a_failure(k), i + 1) for i, k in _numbered())]

    eligible = _find(experiences)

    assert np.count_nonzero(eligible.positive) == 1
    assert np.count_nonzero(~eligible.positive) == len(PIPELINE_KINDS)
    assert eligible.objectives[eligible.positive].tolist() == [[0.7, 900.0]]
    assert _skipped(eligible) == {}


def _numbered() -> list[tuple[int, str]]:
    return list(enumerate(PIPELINE_KINDS))


@pytest.mark.parametrize("kind", INFRASTRUCTURE_KINDS)
def test_a_failure_of_the_infrastructure_is_no_evidence(kind: str) -> None:
    eligible = _find([an_experience(a_failure(kind))])

    assert len(eligible) == 0
    assert _skipped(eligible) == {"infrastructure": 1}


@pytest.mark.parametrize(
    ("outcome", "objectives"),
    [
        (a_success(energy_j=None), ("f1", "gpu_energy_j")),
        (a_success(energy_j=float("inf")), ("gpu_energy_j",)),
        (succeeded(None, evaluation_time_s=1.0), ("f1", "evaluation_time_s")),
    ],
)
def test_a_success_that_lacks_an_objective_is_no_evidence(outcome: Outcome, objectives: tuple[str, ...]) -> None:
    eligible = _find([an_experience(outcome)], objectives=objectives)

    assert _skipped(eligible) == {"objective_missing": 1}


def test_a_success_without_energy_counts_when_energy_is_no_objective() -> None:
    assert len(_find([an_experience(a_success(energy_j=None))], objectives=("f1",))) == 1


def test_another_kind_of_task_and_other_features_are_no_evidence() -> None:
    experiences = [
        an_experience(a_success(), 0, task=replace(TASK, kind="question-answering")),
        an_experience(a_success(), 1, task=replace(TASK, feature_schema="text-classification/2")),
        an_experience(a_success(), 2, task=replace(TASK, features=(1.0, 2.0, 3.0))),
    ]

    assert _skipped(_find(experiences)) == {"other_task_kind": 1, "other_feature_schema": 2}


def test_a_trial_that_was_stopped_is_no_evidence() -> None:
    left = stopped(metrics={"f1": 0.5, "dev_f1": 0.75}, evaluation_time_s=1.0, gpu_energy_j=1.0)

    eligible = _find([an_experience(left)])

    assert _skipped(eligible) == {"stopped": 1}


def test_a_truncated_success_is_no_evidence_unless_it_is_read_as_a_time_limit() -> None:
    experiences = [an_experience(replace(a_success(), truncated=True)), an_experience(a_success(0.9), 1)]
    table = truncated_as_failures(build_table(experiences))
    same = build_table([an_experience(a_failure("time_limit")), an_experience(a_success(0.9), 1)])

    left_out, read = _find(experiences), find_eligible(table, task=TASK, settings=SETTINGS)

    assert (_skipped(left_out), left_out.objectives.tolist()) == ({"truncated": 1}, [[0.9, 900.0]])
    assert sorted(read.positive.tolist()) == [False, True]
    assert _skipped(read) == {}
    assert sorted(table.kind.tolist()) == sorted(same.kind.tolist())
    assert not (table.succeeded & table.truncated).any()


def _find_with_truncated(*outcomes: Outcome, runs: str) -> EligibleExperiences:
    """Find what counts of trials of one pipeline, each in a run, truncated ones included."""
    rows = [
        an_experience(o, i, pipeline=a_pipeline(), run_id=run)
        for i, (o, run) in enumerate(zip(outcomes, runs, strict=True))
    ]
    return find_eligible(build_table(rows), task=TASK, settings=SETTINGS, with_truncated=True)


def _truncated(f1: float) -> Outcome:
    return replace(a_success(f1), truncated=True)


@pytest.mark.parametrize(
    ("outcomes", "runs", "f1", "truncated"),
    [
        ((_truncated(0.25), _truncated(0.75)), "aa", [0.5], [True]),  # of one run, and so of one budget
        ((_truncated(0.25), _truncated(0.75)), "ab", [0.25, 0.75], [True, True]),
        ((_truncated(0.25), a_success(0.75)), "aa", [0.75], [False]),
        ((_truncated(0.25), a_failure("time_limit")), "ab", [0.25], [True]),
    ],
)
def test_a_truncated_success_is_averaged_with_those_of_its_budget_alone(
    outcomes: tuple[Outcome, ...], runs: str, f1: list[float], truncated: list[bool]
) -> None:
    eligible = _find_with_truncated(*outcomes, runs=runs)

    assert sorted(eligible.objectives[:, 0].tolist()) == f1
    assert eligible.truncated.tolist() == truncated
    assert eligible.positive.all()


def test_a_time_limit_that_could_have_been_evaluated_is_no_evidence_where_it_would_be() -> None:
    after_an_epoch = replace(a_failure("time_limit"), metrics={"dev_f1": 0.5})
    in_its_evaluation = replace(a_failure("time_limit"), eval_s=3.0)
    foretold = a_failure("time_limit")

    eligible = _find_with_truncated(after_an_epoch, in_its_evaluation, foretold, runs="abc")

    assert _skipped(eligible) == {"censored": 2}
    assert eligible.positive.tolist() == [False]
    assert len(_find([an_experience(after_an_epoch)])) == 1


def test_a_success_that_is_not_known_to_be_truncated_counts() -> None:
    table = build_table([an_experience(a_success(), 0), an_experience(replace(a_success(), truncated=False), 1)])

    assert truncated_as_failures(table) is table
    assert len(find_eligible(table, task=TASK, settings=replace(SETTINGS, deduplicate=False))) == 2


def test_a_suspect_trial_is_no_evidence() -> None:
    assert _skipped(_find([an_experience(a_failure(), suspect=True)])) == {"suspect": 1}


def test_a_rescued_host_oom_leaves_no_negative() -> None:
    first = an_experience(a_failure("host_oom"), attempt=0)
    rescue = an_experience(a_success(), attempt=1)

    eligible = _find([first, rescue])

    assert eligible.positive.tolist() == [True]
    assert _skipped(eligible) == {"not_last_attempt": 1}


@pytest.mark.parametrize(
    ("last", "positive"), [(a_success(), [True]), (a_failure("gpu_oom"), [False]), (a_failure("lost"), [])]
)
def test_of_an_attempt_only_the_last_restart_counts(last: Outcome, positive: list[bool]) -> None:
    runs = [f"run-{i}" for i in range(8)]  # the ids of their records stand in every order
    earlier = [
        an_experience(a_failure("error"), run_id=run, attempt=a, restart=r)
        for run in runs
        for a, r in ((0, 9), (1, 0), (1, 1))
    ]

    eligible = _find(
        [*earlier, *(an_experience(last, run_id=run, attempt=1, restart=2) for run in runs)], deduplicate=False
    )

    assert eligible.positive.tolist() == positive * 8


def test_equal_trial_numbers_of_two_runs_are_two_trials() -> None:
    experiences = [an_experience(a_failure(), 3, run_id=run, attempt=i) for i, run in enumerate("ab")]

    assert len(_find(experiences, deduplicate=False)) == 2


def test_successes_of_one_configuration_count_once_by_their_mean() -> None:
    pipeline = a_pipeline()
    outcomes = [a_success(0.5, energy_j=100.0), a_success(0.7, energy_j=300.0), a_failure()]

    eligible = _find([an_experience(o, i, pipeline=pipeline) for i, o in enumerate(outcomes)])

    assert eligible.positive.tolist() == [True]
    assert eligible.objectives.tolist() == [[pytest.approx(0.6), 200.0]]
    assert eligible.n_records.tolist() == [2]
    assert _skipped(eligible) == {"same_configuration": 2}


def test_failures_of_one_configuration_count_once() -> None:
    experiences = [an_experience(a_failure(k), i, pipeline=a_pipeline()) for i, k in enumerate(("error", "gpu_oom"))]

    eligible = _find(experiences)

    assert eligible.positive.tolist() == [False]
    assert eligible.row.tolist() == [0]
    assert eligible.n_records.tolist() == [2]


def test_every_record_counts_without_deduplication_as_in_the_paper() -> None:
    experiences = [an_experience(a_failure(), i, pipeline=a_pipeline()) for i in range(3)]

    assert len(_find(experiences, deduplicate=False)) == 3


def test_another_gpu_task_or_pipeline_is_another_configuration() -> None:
    pipeline = a_pipeline()
    experiences = [
        an_experience(a_failure(), 0, pipeline=pipeline),
        an_experience(a_failure(), 1, pipeline=pipeline, system=replace(SYSTEM, gpu_name="A40")),
        an_experience(a_failure(), 2, pipeline=pipeline, task=replace(TASK, fingerprint="other")),
        an_experience(a_failure(), 3, pipeline=a_pipeline(params={"batch_size": 16})),
        an_experience(a_failure(), 4, pipeline=pipeline, system=replace(SYSTEM, cluster="other")),
    ]

    assert len(_find(experiences)) == 4


def test_times_that_cover_different_things_are_no_mean() -> None:
    scoped = replace(a_success(time_s=10.0), time_scope="load+train+eval")
    experiences = [an_experience(o, i, pipeline=a_pipeline()) for i, o in enumerate((scoped, a_success(time_s=90.0)))]

    by_time = _find(experiences, objectives=("f1", "evaluation_time_s"))
    by_f1 = _find(experiences, objectives=("f1",))

    assert sorted(by_time.objectives[:, 1].tolist()) == [10.0, 90.0]
    assert len(by_f1) == 1


def test_sites_allow_and_weigh() -> None:
    experiences = [an_experience(a_failure(), i, site=site) for i, site in enumerate(("here", "far", "banned", "new"))]

    eligible = _find(experiences, sites={"here": 1.0, "far": 0.25, "banned": 0.0})

    assert sorted(eligible.site_weight.tolist()) == [0.25, 1.0]
    assert _skipped(eligible) == {"other_site": 2}


def test_a_configuration_of_two_sites_has_the_greater_weight() -> None:
    experiences = [an_experience(a_failure(), i, pipeline=a_pipeline(), site=s) for i, s in enumerate(("here", "far"))]

    assert _find(experiences, sites={"here": 0.5, "far": 0.25}).site_weight.tolist() == [0.5]


def test_an_empty_store_has_no_evidence() -> None:
    assert len(_find([])) == 0


def test_rows_of_equal_keys_share_a_group_and_its_first_row() -> None:
    keys = [np.array([7, 7, 3, 7, 3]), np.array([-1, 0, 0, -1, 0])]

    group, first = group_rows(keys)

    assert sorted(first.tolist()) == [0, 1, 2]
    assert first[group].tolist() == [0, 1, 2, 0, 2]


def test_rows_of_different_keys_that_mix_to_one_number_stay_apart() -> None:
    # The first key 0 mixes to 0, and 1 to MIX; the second key undoes that.
    keys = [np.array([0, 1, 0, 1]), np.array([5, MIX ^ 5, 5, MIX ^ 5])]

    group, first = group_rows(keys)

    assert first[group].tolist() == [0, 1, 0, 1]
