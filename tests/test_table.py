"""Experiences as columns: order, duplicates, and types of values."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from tests.nouns import SYSTEM, TASK, experience, failed, pipeline, succeeded, system
from xautolm_hpc.failures import FAILURE_KINDS
from xautolm_hpc.pareto import OBJECTIVES
from xautolm_hpc.records import Experience, Value
from xautolm_hpc.table import ABSENT, BOOL, FLOAT, INT, TEXT, ExperienceTable, ParamColumn, build_table, pipeline_digest

OTHER_TASK = replace(TASK, name="other", fingerprint="0" * 32)
GPU_NODE = system(site="there", cluster="beta", n_gpus=8)
EXPERIENCES = [
    experience(succeeded(0.9, evaluation_time_s=5.0, peak_gpu_memory_bytes=7), trial=0, given=pipeline(epochs=3)),
    experience(failed("gpu_oom"), trial=1, attempt=2, restart=1, given=pipeline(method="lora", lora_r=8)),
    experience(
        succeeded(0.1, evaluation_time_s=math.inf),
        trial=2,
        task=OTHER_TASK,
        site="there",
        run_id="second",
        suspect=True,
    ),
    replace(experience(failed("lost"), trial=3), system=GPU_NODE),
]


def column_of(*values: Value | None) -> tuple[ExperienceTable, ParamColumn]:
    """Build a table whose parameter ``x`` has these values, and give it with its column in their order."""
    rows = [
        experience(trial=number, given=pipeline() if value is None else pipeline(x=value))
        for number, value in enumerate(values)
    ]
    table = build_table(rows)
    order = np.argsort(table.trial)
    column = table.params["x"]
    return table, ParamColumn(type_code=column.type_code[order], number=column.number[order], text=column.text[order])


def row_of(table: ExperienceTable, wanted: Experience) -> int:
    """Find an experience's row."""
    return [name.decode() for name in table.id.tolist()].index(wanted.id)


def test_rows_ascend_by_id_whatever_the_order_they_came_in() -> None:
    tables = [build_table(order) for order in itertools.permutations(EXPERIENCES)]

    assert tables[0].id.tolist() == sorted(e.id.encode() for e in EXPERIENCES)
    for table in tables[1:]:
        assert table.id.tolist() == tables[0].id.tolist()
        assert table.tasks == tables[0].tasks
        assert table.texts == tables[0].texts
        assert table.pipeline.tolist() == tables[0].pipeline.tolist()
        for name, column in table.params.items():
            np.testing.assert_array_equal(column.text, tables[0].params[name].text)


def test_a_record_that_comes_twice_is_one_row() -> None:
    table = build_table([*EXPERIENCES, *reversed(EXPERIENCES), replace(EXPERIENCES[0])])

    assert len(table) == len(EXPERIENCES) == len(table.pipeline) == len(table.objectives["f1"])


def test_each_row_refers_to_its_own_task_system_model_and_site() -> None:
    table = build_table(EXPERIENCES)

    for e in EXPERIENCES:
        row = row_of(table, e)
        assert table.tasks[table.task[row]] == e.task
        assert table.systems[table.system[row]] == e.system
        assert table.models[table.model[row]] == (e.pipeline.model_id, e.pipeline.model_revision)
        assert table.methods[table.method[row]] == e.pipeline.method
        assert table.runs[table.run[row]] == e.provenance.run_id
        assert table.sites[table.site[row]] == e.provenance.site
        assert table.texts[table.time_scope[row]] == "train+eval"
        assert table.pipeline[row] == pipeline_digest(e.pipeline).encode()
    assert {len(table.tasks), len(table.systems), len(table.methods), len(table.runs)} == {2}
    assert (len(table.models), set(table.systems)) == (1, {SYSTEM, GPU_NODE})


def test_status_kind_and_numbers_stand_in_their_columns() -> None:
    table = build_table(EXPERIENCES)
    rows = [row_of(table, e) for e in EXPERIENCES]

    assert table.succeeded[rows].tolist() == [True, False, True, False]
    assert table.kind[rows].tolist() == [-1, FAILURE_KINDS.index("gpu_oom"), -1, FAILURE_KINDS.index("lost")]
    assert table.trial[rows].tolist() == [0, 1, 2, 3]
    assert table.attempt[rows].tolist() == [0, 2, 0, 0]
    assert table.restart[rows].tolist() == [0, 1, 0, 0]
    assert table.suspect[rows].tolist() == [False, False, True, False]


def test_objectives_that_are_unknown_or_infinite_are_nan() -> None:
    table = build_table(EXPERIENCES)
    rows = [row_of(table, e) for e in EXPERIENCES]
    nan = math.nan

    assert set(table.objectives) == set(OBJECTIVES)
    np.testing.assert_array_equal(table.objectives["f1"][rows], [0.9, nan, 0.1, nan])
    np.testing.assert_array_equal(table.objectives["evaluation_time_s"][rows], [5.0, nan, nan, nan])
    np.testing.assert_array_equal(table.objectives["peak_gpu_memory_bytes"][rows], [7.0, nan, nan, nan])
    np.testing.assert_array_equal(table.objectives["gpu_energy_j"][rows], [nan] * 4)


def test_the_types_of_a_parameters_values_are_kept_apart() -> None:
    table, column = column_of(True, 1, 1.0, "1", None, False)

    assert column.type_code.tolist() == [BOOL, INT, FLOAT, TEXT, ABSENT, BOOL]
    np.testing.assert_array_equal(column.number, [1.0, 1.0, 1.0, math.nan, math.nan, 0.0])
    assert [table.texts[index] if index >= 0 else None for index in column.text] == [None, None, None, "1", None, None]
    assert len(set(table.pipeline.tolist())) == 6


def test_equal_texts_of_two_parameters_share_one_entry() -> None:
    table = build_table([experience(given=pipeline(a="none", b="none", c="all"))])

    assert sorted(table.texts) == ["all", "none", "train+eval"]
    assert table.params["a"].text.tolist() == table.params["b"].text.tolist() != table.params["c"].text.tolist()


@pytest.mark.parametrize("name", ["id", "task", "succeeded", "pipeline", "time_scope"])
def test_a_table_of_nothing_has_empty_columns(name: str) -> None:
    table = build_table([])

    assert len(table) == 0
    assert getattr(table, name).shape == (0,)
    assert (table.tasks, table.texts, dict(table.params)) == ((), (), {})


def test_columns_have_the_types_they_are_said_to_have() -> None:
    table = build_table(EXPERIENCES)
    types = {name: getattr(table, name).dtype.str for name in ("id", "task", "trial", "kind", "succeeded", "pipeline")}

    assert types == {
        "id": "|S32", "task": "<i4", "trial": "<i4", "kind": "<i2", "succeeded": "|b1", "pipeline": "|S32",
    }  # fmt: skip
    column = table.params["epochs"]
    assert [a.dtype.str for a in (column.type_code, column.number, column.text)] == ["|u1", "<f8", "<i4"]


def test_the_digest_of_a_pipeline_ignores_order_and_knows_types() -> None:
    assert pipeline_digest(pipeline(a=1, b=2)) == pipeline_digest(pipeline(b=2, a=1))
    assert len({pipeline_digest(pipeline(a=value)) for value in (1, 1.0, True, "1")}) == 4
    assert len(pipeline_digest(pipeline())) == 32
