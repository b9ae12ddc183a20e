"""Every kind of task has an entry wherever kinds differ."""

from typing import get_args

from xautolm_hpc.profile.readers import READERS
from xautolm_hpc.task_kinds import TASK_KINDS, MetricName, TaskKindName
from xautolm_hpc.train.prepare import BUILDERS


def test_a_kind_can_be_named_profiled_and_trained() -> None:
    names = list(TASK_KINDS)

    assert list(get_args(TaskKindName)) == names
    assert list(READERS) == names
    assert list(BUILDERS) == names


def test_every_metric_belongs_to_a_kind() -> None:
    assert {metric for kind in TASK_KINDS.values() for metric in kind.metrics} == set(get_args(MetricName))


def test_schemas_of_two_kinds_differ() -> None:
    assert len({kind.feature_schema for kind in TASK_KINDS.values()}) == len(TASK_KINDS)
