"""Segments of two formats in one store, and what an earlier format cannot say."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.store.samples import as_text, by_id, experience, experiences
from xautolm_hpc.cli import main
from xautolm_hpc.records import Experience
from xautolm_hpc.store import ExperienceStore, as_format_1, copy_store, merge, segment
from xautolm_hpc.store.columns import Columns, digest
from xautolm_hpc.store.encode import encode
from xautolm_hpc.store.layout import EVERYTHING
from xautolm_hpc.store.union import union

NEW: dict[str, Any] = {
    "epochs_done": 1.5,
    "epochs": 3,
    "schedule_share": 0.5,
    "truncated": False,
    "step": "graph",
    "step_reason": "asked for",
    "cpu_share": 0.75,
}
STOPPED: dict[str, Any] = {"status": "stopped", "kind": None, "origin": None}
BUSY: dict[str, Any] = {"status": "failed", "kind": "node_busy", "origin": "infrastructure", "metrics": {}}


def whole(number: int, **outcome: Any) -> Experience:
    """Make an experience that has every field of the newest format."""
    seconds = tuple((*point[:4], 10.0 * point[0]) for point in experience(number).outcome.curve)
    fields = {**NEW, "curve": seconds, **outcome}
    return experience(number, outcome=fields, provenance={"job": number, "job_position": 0})


def of_format_1(path: Path, records: list[Experience]) -> Path:
    """Write a store as a version before format 2 wrote it."""
    ExperienceStore(path.parent / f"{path.name}-new").append(records)
    copy_store(path.parent / f"{path.name}-new", path, is_redacted=False, format_version=1)
    return path


def keep_quiet(_: str) -> None:
    """Take a note that the test is not about."""


def formats(store: Path) -> list[int]:
    return sorted(segment.recorded_format(path) for path in store.glob("seg-*.h5"))


def test_a_segment_of_format_1_is_read_as_columns_of_the_newest_with_unknowns(tmp_path: Path) -> None:
    path = next(of_format_1(tmp_path / "old", experiences(5)).glob("seg-*.h5"))

    columns = segment.read(path, EVERYTHING)

    expected = encode(experiences(5))
    assert (columns.format_version, digest(union([columns]))) == (1, digest(expected))
    for group, found in columns.groups.items():
        assert {name: values.tobytes() for name, values in found.items()} == {
            name: values.tobytes() for name, values in expected.groups[group].items()
        }
    assert np.isnan(columns.groups["numbers"]["truncated"]).all()


def test_a_folder_of_both_formats_is_one_store(tmp_path: Path) -> None:
    path = of_format_1(tmp_path / "old", experiences(4))
    store = ExperienceStore(path, log=keep_quiet)

    appended = store.append([whole(2), whole(4)])

    assert (appended.n_new, formats(path)) == (1, [1, 2])
    assert as_text(store.read()) == as_text(by_id([*experiences(4), whole(4)]))
    assert store.verify() == []
    assert store.show(whole(4).id).outcome.truncated is False
    assert store.show(experience(0).id).outcome.truncated is None


def test_a_record_known_in_both_formats_is_one_and_what_is_known_counts(tmp_path: Path) -> None:
    path = of_format_1(tmp_path / "old", experiences(4))
    other = ExperienceStore(tmp_path / "new")
    other.append([whole(2), whole(0)])

    merge([path, other.path], tmp_path / "first")
    merge([other.path, path], tmp_path / "second")

    expected = by_id([whole(0), experience(1), whole(2), experience(3)])
    for name in ("first", "second"):
        assert as_text(ExperienceStore(tmp_path / name).read()) == as_text(expected)
        assert formats(tmp_path / name) == [2]


def test_compaction_and_full_tiers_turn_segments_of_format_1_into_format_2(tmp_path: Path) -> None:
    compacted = ExperienceStore(of_format_1(tmp_path / "old", experiences(3)), log=keep_quiet)
    tiers = of_format_1(tmp_path / "tiers", experiences(3))
    full = ExperienceStore(tiers, log=keep_quiet)

    compacted.compact()
    for number in range(3, 10):
        full.append([whole(number)])

    assert (formats(compacted.path), formats(tiers)) == ([2], [2])
    assert as_text(compacted.read()) == as_text(by_id(experiences(3)))
    assert as_text(full.read()) == as_text(by_id([*experiences(3), *(whole(n) for n in range(3, 10))]))
    assert compacted.verify() == full.verify() == []


@pytest.mark.parametrize("name", ["old", "old.h5"])
def test_the_first_segment_of_format_2_in_a_store_of_format_1_is_noted_once(tmp_path: Path, name: str) -> None:
    path = of_format_1(tmp_path / name, experiences(3))
    notes: list[str] = []

    for number in (3, 4):
        ExperienceStore(path, log=notes.append).append([whole(number)])

    assert notes == [
        f"`{path}` holds segments of format 1 and now gets one of format 2: earlier versions of xautolm-hpc can no "
        f"longer read it. For a site that has one, write a copy: `xautolm-hpc store export {path} --to COPY --format 1`"
    ]


def test_a_new_store_and_one_of_format_2_are_noted_by_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ExperienceStore(tmp_path / "new")

    store.append(experiences(2))
    store.append(experiences(2, start=2))
    merge([of_format_1(tmp_path / "old", experiences(2))], store.path)

    assert capsys.readouterr().err == ""


def test_a_command_says_on_standard_error_that_earlier_versions_can_no_longer_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = of_format_1(tmp_path / "old", experiences(2))

    status = main(["store", "compact", str(path)])

    captured = capsys.readouterr()
    assert status == 0
    assert "can no longer read it" in captured.err
    assert "can no longer read it" not in captured.out


def test_a_copy_in_format_1_counts_what_it_cannot_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ExperienceStore(tmp_path / "new")
    truncated = whole(5, truncated=True)
    store.append([whole(0), experience(2), whole(1, **STOPPED), truncated, whole(4, **BUSY, message="others")])

    status = main(["store", "export", str(store.path), "--to", str(tmp_path / "copy"), "--format", "1"])

    copy = ExperienceStore(tmp_path / "copy")
    busy = as_format_1(whole(4, **BUSY, message="others"))
    assert (status, formats(copy.path), copy.verify()) == (0, [1], [])
    assert as_text(copy.read()) == as_text(by_id([experience(0), experience(2), busy]))
    assert (busy.outcome.kind, busy.outcome.message) == ("lost", "node_busy: others")
    assert capsys.readouterr().out.splitlines() == [
        f"3 experiences in {tmp_path / 'copy'} (format 1)",
        "1 left out: format 1 has no word for 'stopped'",
        "1 left out: format 1 has no word for 'truncated'",
        "1 written as 'lost': format 1 has no word for 'node_busy'; their messages begin with it",
        "2 written without the fields that format 1 lacks: they are unknown there",
    ]


def test_what_a_copy_cannot_say_is_counted_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ExperienceStore(tmp_path / "new")
    store.append([whole(0), whole(1, **STOPPED), whole(4, **BUSY)])

    for number in ("1", "2"):
        main(["store", "export", str(store.path), "--to", str(tmp_path / number), "--format", number, "--json"])

    first, second = capsys.readouterr().out.replace("}\n{", "}\n\0{").split("\0")
    assert json.loads(first) == {
        "n_experiences": 2,
        "format": "1",
        "left_out": {"stopped": 1},
        "as_lost": {"node_busy": 1},
        "n_shortened": 2,
        "findings": [],
    }
    assert json.loads(second) == {
        "n_experiences": 3,
        "format": "2",
        "left_out": {},
        "as_lost": {},
        "n_shortened": 0,
        "findings": [],
    }
    assert ExperienceStore(tmp_path / "2").digest() == store.digest()


def broken(group: str, name: str, value: float, *, status: int | None = None) -> Columns:
    """Change one value of a segment of format 2; a status is given as the row whose status it takes."""
    columns = encode([whole(0), whole(1), whole(5, **STOPPED)])
    groups: dict[str, Any] = {key: dict(found) for key, found in columns.groups.items()}
    row = 0 if status is None else status
    groups[group][name] = groups[group][name].copy()
    groups[group][name][row] = value
    return dataclasses.replace(columns, groups=groups)


def test_values_that_format_2_does_not_allow_are_named(tmp_path: Path) -> None:
    tmp_path.joinpath("store").mkdir()
    first = encode([whole(0), whole(1), whole(5, **STOPPED)])
    not_succeeded = next(i for i, e in enumerate(by_id([whole(0), whole(1), whole(5, **STOPPED)])) if e != whole(0))
    codes = {**first.groups["codes"], "step": first.groups["codes"]["step_reason"]}
    with_step = {**first.groups, "codes": codes}
    wrong = {
        "truncated is 2.0 somewhere; expected": broken("numbers", "truncated", 2.0),
        "cpu_share is 1.5 somewhere; expected a number from 0 to 1": broken("numbers", "cpu_share", 1.5),
        "epochs is 1.5 somewhere; expected a whole number": broken("numbers", "epochs", 1.5),
        "job is -1 somewhere; expected a whole number": broken("integers", "job", -1),
        "truncated is True and status 'stopped'; expected true for a success alone": broken(
            "numbers", "truncated", 1.0, status=not_succeeded
        ),
        "step is 'asked for'; expected one of graph, eager, or null": dataclasses.replace(first, groups=with_step),
        "status has the unknown value": dataclasses.replace(first, format_version=1),
    }
    for columns in wrong.values():
        name = digest(columns)
        path = tmp_path / "store" / f"seg-{name}.h5"
        segment_write(path, columns, name)

    found = {finding.where: finding.message for finding in ExperienceStore(tmp_path / "store").verify()}

    for words, columns in wrong.items():
        assert words in found[f"seg-{digest(columns)}.h5"]


def segment_write(path: Path, columns: Columns, name: str) -> None:
    """Write a segment without the check that reads it back, as another program would."""
    path.write_bytes(segment._image(columns, name))


def test_a_stopped_and_a_truncated_trial_are_counted(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path / "new")

    store.append([whole(0, truncated=True), whole(1, **STOPPED), whole(2)])

    info = store.info()
    assert (info["by_status"], info["n_truncated"]) == ({"succeeded": 2, "stopped": 1}, 1)
    assert [e.id for e in store.read(status="stopped")] == [whole(1, **STOPPED).id]


def test_ids_are_the_same_in_both_formats() -> None:
    records = [whole(0), whole(2), whole(3)]

    assert [as_format_1(e).id for e in records] == [e.id for e in records]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_other_programs_get_every_new_field(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("pyarrow") if ending == "parquet" else None
    store = ExperienceStore(tmp_path / "new")
    store.append([whole(0), experience(2)])
    path = tmp_path / f"copy.{ending}"

    status = main(["store", "export", str(store.path), "--to", str(path)])

    assert status == 0
    if ending == "jsonl":
        main(["store", "import", str(path), "--into", str(tmp_path / "again")])
        assert as_text(ExperienceStore(tmp_path / "again").read()) == as_text(store.read())
    elif ending == "csv":
        header = path.read_text().splitlines()[0].split(",")
        assert {f"outcome.{name}" for name in NEW} | {"provenance.job", "provenance.job_position"} <= set(header)
    else:
        assert {name: type_of(path, name) for name in ("truncated", "epochs", "epochs_done", "step")} == {
            "truncated": "bool",
            "epochs": "int64",
            "epochs_done": "double",
            "step": "string",
        }


def type_of(path: Path, name: str) -> str:
    parquet = pytest.importorskip("pyarrow.parquet")
    return str(parquet.read_schema(path).field(f"outcome.{name}").type)


def test_lines_of_an_earlier_version_are_imported_with_unknowns(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path / "new")
    store.append(experiences(3))
    path = tmp_path / "old.jsonl"
    main(["store", "export", str(store.path), "--to", str(path)])
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    for line in lines:
        line["outcome"] = {name: value for name, value in line["outcome"].items() if name not in NEW}
        line["provenance"] = {n: v for n, v in line["provenance"].items() if n not in ("job", "job_position")}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    status = main(["store", "import", str(path), "--into", str(tmp_path / "again")])

    assert status == 0
    assert as_text(ExperienceStore(tmp_path / "again").read()) == as_text(by_id(experiences(3)))
