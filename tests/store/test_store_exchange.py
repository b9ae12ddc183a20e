"""Experiences for other programs and sites: Parquet, CSV, JSON lines, DataFrame, redacted copies, rsync, groups."""

import csv
import dataclasses
import grp
import importlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.store.samples import as_text, by_id, experience, experiences
from xautolm_hpc.cli import main
from xautolm_hpc.errors import InputError, StoreError
from xautolm_hpc.store import ExperienceStore, copy_store, merge, read_jsonl, to_frame
from xautolm_hpc.store.flat import columns_of, safe_cell, write_csv, write_jsonl, write_parquet

HOSTILE = "=cmd|' /C calc'!A0 \x1b[31m <script>alert(1)</script>\u202e\nline two"


@pytest.fixture
def store(tmp_path: Path) -> ExperienceStore:
    store = ExperienceStore(tmp_path / "site-a")
    store.append(experiences(12))
    store.append([experience(20, outcome={"message": HOSTILE}, provenance={"node": "secret-node"})])
    return store


def test_json_lines_come_back_as_they_were(store: ExperienceStore, tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"

    status = main(["store", "export", str(store.path), "--to", str(path)])
    again = main(["store", "import", str(path), "--into", str(tmp_path / "again")])

    assert (status, again) == (0, 0)
    assert path.read_text().isascii()
    assert as_text(read_jsonl(path)) == as_text(store.read())
    assert ExperienceStore(tmp_path / "again").digest() == store.digest()
    assert ExperienceStore(tmp_path / "again").append(store.read()).n_new == 0


def test_import_names_records_that_the_rules_of_hyperparameters_refuse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = {"status": "failed", "kind": "error", "origin": "pipeline", "metrics": {}}
    refused, kept = experience(2, outcome=outcome), experience(4, outcome=outcome)
    params = {**refused.pipeline.params, "learning_rate": 5000.0}
    refused = dataclasses.replace(refused, pipeline=dataclasses.replace(refused.pipeline, params=params))
    path = tmp_path / "all.jsonl"
    write_jsonl([refused, kept], path)

    status = main(["store", "import", str(path), "--into", str(tmp_path / "store")])
    printed = capsys.readouterr().out
    main(["store", "import", str(path), "--into", str(tmp_path / "again"), "--json"])

    assert status == 0
    assert "1 of them are no evidence, because the rules refuse their hyperparameters:" in printed
    assert f"{refused.id}: learning_rate = 5000.0 is not supported; expected a number above 0 to 1000" in printed
    assert list(json.loads(capsys.readouterr().out)["refused_hyperparameters"]) == [refused.id]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"bad.jsonl`, line 2: no JSON"),
        ("[1]", r"line 2: expected a Experience object"),
        ('{"task": 1}', r"line 2: .*expected a Task object"),
    ],
)
def test_a_line_that_is_no_experience_is_named_and_nothing_is_stored(
    tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.jsonl"
    write_jsonl(experiences(1), path)
    path.write_text(path.read_text() + text + "\n")

    status = main(["store", "import", str(path), "--into", str(tmp_path / "store")])

    assert status == 2
    assert not (tmp_path / "store").exists()
    with pytest.raises(InputError, match=message):
        read_jsonl(path)


def test_a_line_whose_id_was_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "forged.jsonl"
    write_jsonl(experiences(1), path)
    content = json.loads(path.read_text())
    content["outcome"]["metrics"]["f1"] = 1.0
    path.write_text(json.dumps(content))

    with pytest.raises(InputError, match=r"line 1: it says its id is '[0-9a-f]{32}'; its content has [0-9a-f]{32}"):
        read_jsonl(path)


def test_csv_has_a_column_for_every_field_and_no_formula(store: ExperienceStore, tmp_path: Path) -> None:
    path = tmp_path / "all.csv"

    main(["store", "export", str(store.path), "--to", str(path)])

    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = columns_of(store.read())
    assert list(rows[0]) == list(expected)
    assert [row["id"] for row in rows] == expected["id"]
    assert [row["pipeline.params.learning_rate"] for row in rows] == list(
        map(repr, expected["pipeline.params.learning_rate"])
    )
    assert {row["pipeline.params.class_weighted_loss"] for row in rows} == {"true", "false"}
    message = next(row["outcome.message"] for row in rows if row["provenance.trial"] == "20")
    assert message.startswith("'=cmd|")
    assert not [c for c in path.read_text() if c in "\x1b\u202e"]
    assert "\\x1b[31m" in message


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_starts_a_formula(text: str) -> None:
    assert safe_cell(text).startswith("'")


def test_numbers_stay_numbers_in_csv() -> None:
    assert [safe_cell(value) for value in (-1, -0.5, None, True)] == [-1, -0.5, None, "true"]


def test_parquet_keeps_types(store: ExperienceStore, tmp_path: Path) -> None:
    mixed = experience(30)
    mixed.pipeline.params["batch_size"] = "auto"  # type: ignore[index]
    store.append([mixed])
    write_parquet(store.read(), tmp_path / "all.parquet")

    table = importlib.import_module("pyarrow.parquet").read_table(tmp_path / "all.parquet")

    columns = columns_of(store.read())
    assert table.column_names == list(columns)
    found = table.to_pydict()
    assert found["pipeline.params.batch_size"] == [str(value) for value in columns["pipeline.params.batch_size"]]
    for name in set(columns) - {"pipeline.params.batch_size"}:
        assert found[name] == columns[name], name
    types = {field.name: str(field.type) for field in table.schema}
    assert types["outcome.train_s"] == "double"
    assert types["outcome.n_steps"] == "int64"
    assert types["provenance.suspect"] == "bool"


def test_a_missing_library_is_named(store: ExperienceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(InputError, match=r"Parquet needs pyarrow, which this Python does not have: install it, or"):
        write_parquet(store.read(), tmp_path / "all.parquet")
    with pytest.raises(InputError, match=r"a DataFrame needs pandas"):
        to_frame(store.read())
    assert not list(tmp_path.glob("*.parquet"))


def test_a_data_frame_has_a_row_for_each_experience(store: ExperienceStore) -> None:
    frame = to_frame(store.read(status="succeeded"))

    expected = store.read(status="succeeded")
    assert list(frame["id"]) == [e.id for e in expected]
    assert list(frame["outcome.metrics.f1"]) == [e.outcome.metrics["f1"] for e in expected]
    assert frame["outcome.train_s"].mean() == pytest.approx(
        sum(e.outcome.train_s or 0 for e in expected) / len(expected)
    )


def test_filters_choose_what_is_exported(store: ExperienceStore, tmp_path: Path) -> None:
    path = tmp_path / "failed.jsonl"

    main(["store", "export", str(store.path), "--to", str(path), "--status", "failed", "--site", "site-a"])
    refused = main(["store", "export", str(store.path), "--to", str(tmp_path / "copy"), "--status", "failed"])

    assert {e.outcome.status for e in read_jsonl(path)} == {"failed"}
    assert refused == 2


@pytest.mark.parametrize("name", ["copy", "copy.h5", "copy.jsonl"])
def test_a_redacted_copy_has_no_messages_or_nodes_and_meets_its_original_without_a_conflict(
    store: ExperienceStore, tmp_path: Path, name: str
) -> None:
    before = store.digest()

    status = main(["store", "export", str(store.path), "--to", str(tmp_path / name), "--redact"])

    copy = tmp_path / name
    if name.endswith(".jsonl"):
        main(["store", "import", str(copy), "--into", str(tmp_path / "imported")])
        copy = tmp_path / "imported"
    found = ExperienceStore(copy).read()
    raw = b"".join(path.read_bytes() for path in ([copy] if copy.is_file() else copy.glob("seg-*")))
    assert status == 0
    assert [e.id for e in found] == [e.id for e in store.read()]
    assert {(e.outcome.message, e.provenance.node) for e in found} == {(None, None)}
    assert b"secret-node" not in raw
    assert ExperienceStore(copy).verify() == []
    merge([copy], store.path)
    assert store.digest() == before
    merge([store.path], tmp_path / "both")
    merge([copy], tmp_path / "both")
    assert ExperienceStore(tmp_path / "both").digest() == before
    assert ExperienceStore(tmp_path / "both").verify() == []


def test_a_copy_keeps_marks_and_conflicts_but_not_what_was_forgotten(store: ExperienceStore, tmp_path: Path) -> None:
    store.forget([experience(1).id], "site-a")
    store.append([experience(0, outcome={"metrics": {"f1": 0.5}})])

    copied = copy_store(store.path, tmp_path / "copy", is_redacted=True)

    assert (copied.n_experiences, copied.findings) == (13, ())
    assert ExperienceStore(tmp_path / "copy").ids() == store.ids()
    assert [f.problem for f in ExperienceStore(tmp_path / "copy").verify()] == ["conflict"]
    merge([tmp_path / "copy"], store.path)
    assert len(store.ids()) == 11


def test_a_copy_goes_to_a_new_place_only(store: ExperienceStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"site-a` exists; expected a new store. `store merge` grows one"):
        copy_store(store.path, store.path, is_redacted=True)


RSYNC = shutil.which("rsync")


def sync(source: Path, target: Path) -> None:
    """Copy segments as the README says; with rsync's own steps where it is not installed."""
    target.mkdir(exist_ok=True)
    if RSYNC:
        segments = sorted(map(str, source.glob("seg-*.h5")))
        subprocess.run([RSYNC, "-a", *segments, f"{target}/"], check=True)
        return
    for path in source.glob("seg-*.h5"):  # written aside, renamed, times kept
        aside = target / f".{path.name}.XXXXXX"
        shutil.copy2(path, aside)
        aside.rename(target / path.name)


def test_rsync_of_segments_is_a_merge(store: ExperienceStore, tmp_path: Path) -> None:
    other = ExperienceStore(tmp_path / "site-b")
    other.append(experiences(6, start=8))
    other.append(experiences(6, start=30, site="site-b"))
    other.forget([experience(30).id], "site-b")
    merge([store.path, other.path], tmp_path / "merged")

    sync(other.path, store.path)
    sync(store.path, other.path)
    sync(other.path, store.path)

    expected = ExperienceStore(tmp_path / "merged")
    assert experience(30).id in store.ids()
    author = store.verify()[0].where
    for one in (store, expected):
        one.accept_marks(author, site="site-b")
    assert store.digest() == other.digest() == expected.digest()
    assert as_text(store.read()) == as_text(expected.read())
    assert store.verify() == []
    store.compact()
    sync(other.path, store.path)
    assert store.digest() == expected.digest()


def test_a_store_may_belong_to_a_group(tmp_path: Path) -> None:
    own = grp.getgrgid(os.getegid()).gr_name
    path = tmp_path / "shared"
    ExperienceStore(path).append(experiences(2))

    for start in (2, 4):
        ExperienceStore(path, group=own).append(experiences(2, start=start))

    assert stat.S_IMODE(path.stat().st_mode) == 0o2750
    assert {stat.S_IMODE(p.stat().st_mode) for p in path.glob("seg-*.h5")} == {0o640}
    assert {p.stat().st_gid for p in (path, *path.glob("seg-*.h5"))} == {os.getegid()}
    assert as_text(ExperienceStore(path).read()) == as_text(by_id(experiences(6)))


def test_a_store_of_nobody_elses_is_private(tmp_path: Path) -> None:
    ExperienceStore(tmp_path / "own").append(experiences(2))

    modes = {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "own").iterdir()}
    assert (stat.S_IMODE((tmp_path / "own").stat().st_mode), modes) == (0o700, {0o600})


def test_an_unknown_group_is_refused_with_ones_own(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"store.group = 'no-such-group': there is no such group; yours: \S+"):
        ExperienceStore(tmp_path / "store", group="no-such-group").append(experiences(1))


def test_a_file_that_cannot_be_written_is_named(store: ExperienceStore, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"nowhere"):
        write_csv(store.read(), tmp_path / "nowhere" / "all.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"could not be made"):
        copy_store(store.path, tmp_path / "file" / "copy", is_redacted=False)


def test_every_value_of_a_row_is_plain() -> None:
    columns: dict[str, list[Any]] = columns_of(experiences(12))

    assert {type(value) for values in columns.values() for value in values} <= {type(None), bool, int, float, str}
    assert list(columns)[:3] == ["id", "task.name", "task.kind"]
