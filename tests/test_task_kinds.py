"""Every kind of task has an entry wherever kinds differ."""

from importlib import import_module
from typing import get_args

from xautolm_hpc.profile.readers import READERS
from xautolm_hpc.task_kinds import TASK_KINDS, MetricName, RowForm, TaskKindName


def test_a_kind_can_be_named_profiled_and_trained() -> None:
    trainers = [import_module(f"xautolm_hpc.train.kinds.{kind.trained_by}") for kind in TASK_KINDS.values()]

    assert list(get_args(TaskKindName)) == list(TASK_KINDS)
    assert list(READERS) == list(get_args(RowForm))
    assert {kind.rows for kind in TASK_KINDS.values()} == set(READERS)
    assert all(callable(trainer.build) for trainer in trainers)


def test_every_metric_belongs_to_a_kind() -> None:
    assert {metric for kind in TASK_KINDS.values() for metric in kind.metrics} == set(get_args(MetricName))


def test_schemas_of_two_kinds_differ() -> None:
    assert len({kind.feature_schema for kind in TASK_KINDS.values()}) == len(TASK_KINDS)
