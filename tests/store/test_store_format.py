"""The written contract is what the code does, and old files are read for ever."""

import dataclasses
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.store.samples import by_id, experience, experiences
from xautolm_hpc.records import Experience, Outcome, Pipeline, Provenance, canonical_json, from_json, to_json
from xautolm_hpc.store import ExperienceStore, layout, marks, segment, tiers

STORE_DIR = Path(__file__).resolve().parents[2] / "store"
TEXT = (STORE_DIR / "FORMAT.md").read_text()
ARCHIVES = sorted((STORE_DIR / "archives").iterdir())
LACKING = {("v1", name) for names in layout.ADDED_BY_2.values() for name in names}
"""Archive and a field that its format lacks."""


def rows(after: str) -> list[list[str]]:
    """Read the first table after some words; back quotes are dropped."""
    found = re.search(rf"{re.escape(after)}.*?\n\|[-|]+\|\n((?:\|[^\n]*\n)+)", TEXT, flags=re.DOTALL)
    assert found is not None, after
    lines = found[1].splitlines()
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]


def written(path: Path) -> Path:
    """Write a segment that has everything."""
    store = ExperienceStore(path)
    store.append(experiences(5))
    store.forget([experience(1).id], "site-a")
    store.resolve(experience(2).key, experience(2).id)
    store.accept(experience(0).provenance.run_id)
    store.compact()
    return next(path.glob("seg-*.h5"))


def test_the_tables_name_the_columns_of_the_layout() -> None:
    for group, names in layout.COLUMNS.items():
        assert [row[0] for row in rows(f"Columns of `{group}`")] == (
            sorted(names) if group != "digests" else list(names)
        )
    for group, added in layout.ADDED_BY_2.items():
        assert {row[0] for row in rows(f"Columns of `{group}`") if row[2] == "2"} == set(added)
    dictionaries = {row[0]: row[1] for row in rows("Columns of `codes`")}
    assert dictionaries == {name: d for d, names in layout.DICTIONARIES.items() for name in names}


def test_the_table_of_datasets_names_those_of_the_layout_and_their_types() -> None:
    expected = {name: group.dtype for name, group in layout.GROUPS.items()}
    expected |= {layout.VARIABLE_ENDS: layout.ENDS_DTYPE}
    expected |= dict.fromkeys((*layout.VARIABLE, *layout.DICTIONARIES, layout.MARKS), "<u1")

    assert {row[0]: row[1] for row in rows("Datasets.")} == expected


def test_the_shapes_in_the_table_are_those_of_a_file(tmp_path: Path) -> None:
    sizes = {"n": 4, "metrics": 2, "parameters": 5}
    with h5py.File(written(tmp_path), "r") as file:
        shapes = {name: dataset.shape for name, dataset in file.items()}
        types = {name: dataset.dtype for name, dataset in file.items()}
        names = {name: len(file[name].attrs["names"]) for name in file if "names" in file[name].attrs}
        attributes = set(file.attrs)

    described = rows("Datasets.")
    assert set(shapes) == {row[0] for row in described}
    for name, dtype, shape, _ in described:
        assert types[name] == np.dtype(dtype), name
        if shape != "(bytes)":
            dimensions = [cell.strip() for cell in shape.split(";")[0].strip("()").split(",")]
            expected = tuple(sizes.get(cell) or int(cell) for cell in dimensions)
            if name == "param_floats":
                expected = (1, 4)  # learning_rate
            elif name == "params":
                expected = (4, 4)
            assert shapes[name] == expected, name
            assert names[name] == expected[0], name
    assert attributes == {row[0] for row in rows("Attributes of the root")}


def test_every_dataset_has_only_the_filters_that_are_allowed(tmp_path: Path) -> None:
    with h5py.File(written(tmp_path), "r") as file:
        for name, dataset in file.items():
            pipeline = dataset.id.get_create_plist()
            filters = {pipeline.get_filter(i)[0] for i in range(pipeline.get_nfilters())}
            assert filters <= {h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_FLETCHER32}, name
            assert dataset.chunks is not None, name
            assert h5py.h5z.FILTER_FLETCHER32 in filters, name


def test_the_numbers_in_the_text_are_those_of_the_code() -> None:
    assert "# Formats " + " and ".join(map(str, layout.READABLE)) + " of" in TEXT
    shapes = {row[0]: row[2] for row in rows("Datasets.")}
    for group in layout.ADDED_BY_2:
        n, n_before = (len(layout.columns_of(group, one)) for one in (2, 1))
        assert shapes[group] == f"({n}, n); format 1: ({n_before}, n)"
    assert f"segments of {tiers.SMALLEST} · {tiers.RATIO}^*t*" in TEXT
    assert f"A tier that would hold {tiers.MAX_PER_TIER} is merged" in TEXT
    assert layout.LARGEST_EXACT == 2**53
    assert layout.NO_INTEGER == -(2**63)
    written_marks = [json.loads(row) for row in re.findall(r"^\| `(\[\"\w+\".*?\])` \|", TEXT, flags=re.MULTILINE)]
    assert [(name, *map(type, fields)) for name, *fields in written_marks] == [*marks.SHAPES]


def test_every_field_of_a_record_has_a_place() -> None:
    texts = {record: set(names) for record, names in layout.TEXT_FIELDS.items()}
    stored = {
        Pipeline: texts["pipeline"] | {"model_id", "model_revision", "params"},
        Outcome: texts["outcome"]
        | {*layout.FLOAT_FIELDS, *layout.COUNT_FIELDS, *layout.FLAG_FIELDS, *layout.VARIABLE, "metrics"},
        Provenance: texts["provenance"] | {*layout.COUNTS, *layout.TIME_FIELDS.values(), *layout.JOB_FIELDS, "seed"},
    }

    for record_type, names in stored.items():
        assert {f.name for f in dataclasses.fields(record_type)} == names


def digest_by_the_text(path: Path) -> str:
    """Compute a segment's digest as FORMAT.md says, with nothing of the package but canonical JSON."""
    with h5py.File(path, "r") as file:
        n = int(file.attrs["n_experiences"])
        content = hashlib.sha256(f"format {file.attrs['format_version']}\n".encode())
        for name in ("digests", "codes", "counts", "integers", "numbers", "metrics", "params", "param_floats"):
            names = [column.decode() for column in file[name].attrs["names"]] if name in file else []
            content.update(canonical_json([name, n, names]).encode())
            content.update(file[name][...].tobytes() if name in file else b"")
        for name in ("tasks", "systems", "models", "values", "marks"):
            lines = file[name][...].tobytes()
            content.update(canonical_json([name, len(lines.split(b"\n")) if lines else 0]).encode() + lines)
        for row, name in enumerate(("curve", "message")):
            blob = file[name][...].tobytes()
            content.update(canonical_json([name, len(blob)]).encode())
            content.update(file["variable_ends"][row].tobytes() + blob)
    return content.hexdigest()[:32]


def test_the_digest_is_what_the_text_says(tmp_path: Path) -> None:
    path = written(tmp_path)

    assert path.name == f"seg-{digest_by_the_text(path)}.h5"
    assert segment.recorded_digest(path) == digest_by_the_text(path)


def test_the_id_is_what_the_text_says(tmp_path: Path) -> None:
    first = by_id(experiences(5))[0]
    content = [
        f"{first.provenance.run_id}/{first.provenance.trial}/0/0",
        to_json(first.pipeline),
        first.task.fingerprint,
        first.outcome.status,
        first.outcome.kind,
        dict(first.outcome.metrics),
    ]

    with h5py.File(written(tmp_path), "r") as file:
        stored = [row.tobytes() for row in file["digests"][0]]

    ids = [hashlib.sha256(canonical_json(content).encode()).digest()[:16]]
    assert ids[0].hex() == first.id
    assert (ids[0] in stored) == (first.id != experience(1).id)
    assert stored == sorted(stored)


@pytest.mark.parametrize("path", ARCHIVES, ids=lambda path: path.name)
def test_every_released_format_is_read(path: Path, tmp_path: Path) -> None:
    expected = json.loads((path / "expected.json").read_text())
    store = ExperienceStore(Path(shutil.copytree(path, tmp_path / "archive")))

    found = store.read()

    known = expected["experiences"]
    said = [{"id": e.id, **through_json(e)} for e in found]
    assert [like(old, new) for old, new in zip(known, said, strict=True)] == known
    assert [one.decode() for one in store.read_table().id] == [e["id"] for e in expected["experiences"]]
    assert [f.where for f in store.verify() if f.problem == "conflict"] == sorted(expected["conflicts"])
    assert not set(expected["forgotten"]) & set(store.ids())
    assert [p.name for p in path.glob("*.h5")] == [f"seg-{expected['digest_of_segment']}.h5"]


@pytest.mark.parametrize("path", ARCHIVES, ids=lambda path: path.name)
def test_an_archive_fills_every_field(path: Path) -> None:
    expected = json.loads((path / "expected.json").read_text())["experiences"]
    records = [from_json(Experience, {k: v for k, v in e.items() if k != "id"}, where=path.name) for e in expected]

    def seen(part: str, name: str) -> set[str]:
        return {repr(getattr(getattr(record, part), name)) for record in records}

    parts = {f.name: f.type for f in dataclasses.fields(Experience)}
    never = [
        f"{part}.{field.name}"
        for part in parts
        for field in dataclasses.fields(getattr(records[0], part))
        if not seen(part, field.name) - {"None", "()", "{}"} and (path.name, field.name) not in LACKING
    ]
    assert never == []


def like(known: Any, found: Any) -> Any:
    """Leave out the unknown fields that a record of an earlier format does not name."""
    if not isinstance(known, dict):
        return found
    return {name: like(known.get(name), value) for name, value in found.items() if name in known or value is not None}


def through_json(record: Experience) -> Any:
    return json.loads(json.dumps(to_json(record)))
