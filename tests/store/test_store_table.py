"""The table read from columns is the table built from experiences."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from tests.store.samples import experience, experiences, system, task
from xautolm_hpc.records import Experience
from xautolm_hpc.store import ExperienceStore, merge
from xautolm_hpc.table import build_table


def assert_same(found: Any, expected: Any, *, where: str = "table") -> None:
    """Compare two tables field by field: types, order of mappings, NaN like NaN."""
    assert type(found) is type(expected), where
    if dataclasses.is_dataclass(expected) and not isinstance(expected, type):
        for field in dataclasses.fields(expected):
            name = field.name
            assert_same(getattr(found, name), getattr(expected, name), where=f"{where}.{name}")
    elif isinstance(expected, dict):
        assert list(found) == list(expected), where
        for key, value in expected.items():
            assert_same(found[key], value, where=f"{where}[{key}]")
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype, where
        np.testing.assert_array_equal(found, expected, err_msg=where)
    else:
        assert found == expected, where


def various() -> list[Experience]:
    """Make experiences whose parameters change type, and whose dictionaries are not in sorted order."""
    records = experiences(40)
    base = records[0].pipeline
    values: list[Any] = ["z", 1, 1.0, True, "a", "z", -0.0, 2**53, "", False, "adamw"]
    for i, value in enumerate(values):
        params = {"mixed": value, "b": f"text-{9 - i}", "only_here": 0.5} if i else {}
        pipeline = dataclasses.replace(base, params=params, model_revision=f"r{i % 2}", method=f"m{9 - i}")
        records.append(
            experience(
                100 + i,
                pipeline=pipeline,
                task=task(f"t{9 - i}", features=(None, float(i))),
                system=system("site-b", n_gpus=i % 3),
                site=f"site-{9 - i}",
                run_id=f"run-{i % 4}",
                outcome={"time_scope": f"scope-{i % 3}", "metrics": {"accuracy": 0.5}},
                provenance={"suspect": i % 2 == 0, "attempt": i, "restart": 2},
            )
        )
    return records


def test_the_table_equals_the_one_built_from_experiences(tmp_path: Path) -> None:
    records = various()
    store = ExperienceStore(tmp_path)
    for start in range(0, len(records), 7):
        store.append(records[start : start + 7])

    found = store.read_table()

    assert_same(found, build_table(records))
    assert_same(found, build_table(store.read()))
    store.compact()
    assert_same(store.read_table(), build_table(records))


def test_the_table_equals_that_of_what_is_left_after_marks(tmp_path: Path) -> None:
    records = various()
    store = ExperienceStore(tmp_path)
    store.append(records)
    store.append([experience(3, outcome={"metrics": {"f1": 0.125}})])
    store.forget([records[0].id, records[5].id], "site-a")
    store.accept("run-0")

    found = store.read_table()

    left = [e for e in records if e.provenance.trial not in {0, 3, 5}]
    accepted = [
        dataclasses.replace(e, provenance=dataclasses.replace(e.provenance, suspect=False))
        if e.provenance.run_id == "run-0"
        else e
        for e in left
    ]
    assert_same(found, build_table(accepted))
    assert_same(found, build_table(store.read()))


def test_an_empty_store_is_an_empty_table(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path)
    record = experience(0)
    store.append([record])
    store.forget([record.id], "site-a")

    assert_same(store.read_table(), build_table([]))
    assert_same(ExperienceStore(tmp_path / "none").read_table(), build_table([]))


def test_several_stores_are_read_as_one(tmp_path: Path) -> None:
    records = various()
    first, second = ExperienceStore(tmp_path / "a"), ExperienceStore(tmp_path / "b.h5")
    first.append(records[:30])
    second.append([*records[:2], *records[20:]])
    first.forget([records[0].id], "site-a")

    found = ExperienceStore.read_tables([first.path, second.path, tmp_path / "none"])

    assert_same(found, build_table(records[1:]))


def test_a_segment_of_another_site_that_is_left_out_is_reported(tmp_path: Path) -> None:
    ExperienceStore(tmp_path / "a").append(experiences(3))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / f"seg-{'0' * 32}.h5").write_bytes(b"no segment")
    reported: list[str] = []

    found = ExperienceStore.read_tables(
        [tmp_path / "a", tmp_path / "b"], on_finding=lambda finding: reported.append(finding.problem)
    )

    assert (len(found), reported) == (3, ["damaged"])


def test_priors_are_computed_from_the_same_bits_in_whatever_order_stores_were_merged(tmp_path: Path) -> None:
    records = various()
    for name, part in (("a", records[:20]), ("b", records[15:40]), ("c", records[30:])):
        ExperienceStore(tmp_path / name).append(part)
    ExperienceStore(tmp_path / "b").forget([records[16].id], "site-a")
    sources = [tmp_path / name for name in ("a", "b", "c")]
    merge(sources, tmp_path / "one")
    merge(reversed(sources), tmp_path / "two")
    for source in (sources[1], sources[2], sources[0], sources[1]):
        merge([source], tmp_path / "three")

    tables = [ExperienceStore(tmp_path / name).read_table() for name in ("one", "two", "three")]
    tables += [ExperienceStore.read_tables(sources), ExperienceStore.read_tables(sources[::-1])]

    for table in tables[1:]:
        assert_same(table, tables[0])
        assert table.id.tobytes() == tables[0].id.tobytes()
        for name, column in table.objectives.items():
            assert column.tobytes() == tables[0].objectives[name].tobytes()
