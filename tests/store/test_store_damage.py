"""A segment that is damaged, strange, newer or gone: named, and the rest is read."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.fakes import FakeClock
from tests.store.samples import as_text, by_id, experience, experiences
from xautolm_hpc.errors import FormatError, InputError, StoreError
from xautolm_hpc.store import ExperienceStore, merge
from xautolm_hpc.store.encode import encode
from xautolm_hpc.store.folder import PAUSES_S, SegmentFolder
from xautolm_hpc.store.layout import KEYS
from xautolm_hpc.store.trust import identity_of


@pytest.fixture
def store(tmp_path: Path) -> ExperienceStore:
    """Write a store of three segments of four experiences each."""
    store = ExperienceStore(tmp_path / "site-b")
    for start in (0, 4, 8):
        store.append(experiences(4, start=start))
    return store


def victim(store: ExperienceStore) -> Path:
    """Find the segment that holds trial 4."""
    key = experience(4).id
    for path in sorted(store.path.glob("seg-*.h5")):
        if key in ExperienceStore(path).ids():
            return path
    raise AssertionError("no segment has trial 4")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_in(dataset: str) -> Callable[[Path], None]:
    """Make a function that flips one bit inside a dataset's chunk on disk."""

    def flip(path: Path) -> None:
        with h5py.File(path, "r") as file:
            chunk = file[dataset].id.get_chunk_info(0)
        content = bytearray(path.read_bytes())
        content[chunk.byte_offset + chunk.size // 2] ^= 1
        path.write_bytes(content)

    return flip


@pytest.mark.parametrize("damage", [truncate, empty, flip_in("digests"), flip_in("codes"), flip_in("params")])
def test_a_damaged_segment_is_named_and_the_rest_is_read(
    store: ExperienceStore, damage: Callable[[Path], None]
) -> None:
    path = victim(store)
    damage(path)

    table = store.read_table()

    left = by_id([*experiences(4), *experiences(4, start=8)])
    assert [one.decode() for one in table.id] == [e.id for e in left]
    assert [(f.problem, f.where) for f in store.findings] == [("damaged", path.name)]
    assert f"`site-b/{path.name}` is damaged" in store.findings[0].message
    assert [(f.problem, f.where) for f in store.verify()] == [("damaged", path.name)]
    assert as_text(store.read()) == as_text(left)


def test_a_file_that_was_touched_is_checked_whole_before_any_of_it_counts(store: ExperienceStore) -> None:
    path = victim(store)
    assert len(store.read_table()) == 12
    flip_in("message")(path)

    assert len(store.read_table()) == 8
    assert [(f.problem, f.where) for f in store.findings] == [("damaged", path.name)]
    assert [(f.problem, f.where) for f in store.verify()] == [("damaged", path.name)]


def test_a_damaged_segment_is_neither_merged_nor_removed_and_commits_go_on(store: ExperienceStore) -> None:
    path = victim(store)
    truncate(path)

    for start in range(12, 30):
        assert store.append([experience(start)]).n_new == 1
    store.compact()

    assert path.exists()
    assert sorted(e.provenance.trial for e in store.read()) == [0, 1, 2, 3, *range(8, 30)]
    assert len(list(store.path.glob("seg-*.h5"))) == 2


def edit(path: Path, change: Callable[[h5py.File], None]) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def replace(file: h5py.File, name: str, values: Any) -> None:
    """Put other values in a dataset's place, with its attributes."""
    attributes = dict(file[name].attrs)
    del file[name]
    file.create_dataset(name, data=values, chunks=values.shape).attrs.update(attributes)


def raise_code(file: h5py.File) -> None:
    file["codes"][0, 0] = 10_000


def lower_parameter(file: h5py.File) -> None:
    file["params"][0, 0] = -7


def lengthen_message(file: h5py.File) -> None:
    file["variable_ends"][1, -1] += 1


def rename_column(file: h5py.File) -> None:
    names = file["codes"].attrs["names"]
    names[0] = b"zzz"
    file["codes"].attrs["names"] = names


def drop_dataset(file: h5py.File) -> None:
    del file["values"]


def change_type(file: h5py.File) -> None:
    values = file["counts"][...].astype(np.float64)
    replace(file, "counts", values)


def shorten(file: h5py.File) -> None:
    file.attrs["n_experiences"] = 3


def unknown_mark(file: h5py.File) -> None:
    replace(file, "marks", np.frombuffer(b'["hide","x"]', np.uint8))


def strange_status(file: h5py.File) -> None:
    names = [name.decode() for name in file["codes"].attrs["names"]]
    file["codes"][names.index("status"), 0] = file["codes"][names.index("site"), 0]


STRUCTURE = [
    (raise_code, "has an index outside its dictionary"),
    (lower_parameter, "has an index outside its dictionary"),
    (lengthen_message, "the ends of message do not fit"),
    (rename_column, "codes has columns"),
    (drop_dataset, "values"),
    (change_type, "counts has type float64, expected <i4"),
    (shorten, "has another length than the 3 experiences"),
    (unknown_mark, "unknown mark .*; valid: forget, accept, resolve"),
    (strange_status, "status has the unknown value"),
]


@pytest.mark.parametrize(("change", "message"), STRUCTURE, ids=[change.__name__ for change, _ in STRUCTURE])
def test_a_segment_of_another_structure_is_named(
    store: ExperienceStore, change: Callable[[h5py.File], None], message: str
) -> None:
    path = victim(store)
    edit(path, change)

    with pytest.raises(StoreError, match=message):
        ExperienceStore(path).read()
    problem = "refused" if change is change_type else "damaged"
    assert [(f.problem, f.where) for f in store.verify()] == [(problem, path.name)]
    assert len(store.read()) == 8


def change_number(file: h5py.File) -> None:
    file["numbers"][11, 0] = 12345.0


def change_id(file: h5py.File) -> None:
    file["digests"][0, 3, 15] ^= 1


def strange_task(file: h5py.File) -> None:
    content = file["tasks"][...].tobytes().replace(b'"n_train":400', b'"n_train":"x"')
    replace(file, "tasks", np.frombuffer(content, np.uint8))


def negative_trial(file: h5py.File) -> None:
    file["counts"][4, 0] = -1


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        (change_number, ["digest", "digest"]),
        (change_id, ["digest", "digest", "digest"]),
        (strange_task, ["digest", "digest", "range"]),
        (negative_trial, ["digest", "digest", "range"]),
    ],
    ids=["number", "id", "task", "trial"],
)
def test_verify_names_content_that_is_not_what_was_written(
    store: ExperienceStore, change: Callable[[h5py.File], None], problems: list[str]
) -> None:
    path = victim(store)
    says = path.stem.removeprefix("seg-")
    edit(path, change)
    with h5py.File(path, "r+") as file:
        file.attrs["digest"] = "0" * 32  # what it says of itself is wrong as well as its name

    findings = store.verify()

    assert [f.problem for f in findings] == problems
    assert {f.where for f in findings} == {path.name}
    assert f"says its digest is {says}" in findings[1].message


def newer(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 3


def test_a_segment_of_a_newer_format_is_left_out_with_the_remedy(store: ExperienceStore, tmp_path: Path) -> None:
    path = victim(store)
    newer(path)
    expected = (
        f"`site-b/{path.name}` is format 3; this version reads 1, 2. "
        "Upgrade xautolm-hpc, or ask its site for a copy in a format that this version reads: "
        "`xautolm-hpc store export STORE --to COPY --format 2`"
    )

    for read in (store.read_table, store.read, store.ids, store.info, store.compact):
        read()
        assert [(f.problem, f.message) for f in store.findings] == [("format", f"{expected}. It was left out")]
    assert len(store.read()) == 8
    assert merge([store.path], tmp_path / "into").n_new == 8
    assert path.exists()
    with pytest.raises(FormatError, match=r"is format 3"):
        ExperienceStore(path).read()
    assert [(f.problem, f.where, f.message) for f in store.verify()] == [("format", path.name, expected)]


def test_a_commit_goes_on_beside_a_newer_segment(store: ExperienceStore) -> None:
    path = victim(store)
    newer(path)

    appended = [store.append([experience(i)]).n_new for i in range(20, 32)]

    assert appended == [1] * 12
    assert path.exists()


def test_a_file_left_over_by_a_killed_writer_is_found_and_removed_when_old(store: ExperienceStore) -> None:
    fresh, old = (store.path / f".seg-{name}.h5.abc.tmp" for name in ("fresh", "old"))
    for path in (fresh, old):
        path.write_bytes(b"half a segm")
    os.utime(old, (0, 0))

    findings = store.verify()
    store.compact()

    assert [(f.problem, f.where) for f in findings] == [("left-over", fresh.name), ("left-over", old.name)]
    assert (fresh.exists(), old.exists()) == (True, False)
    assert len(store.read()) == 12


class StaleFolder(SegmentFolder):
    """A folder whose listing lags behind, as that of a file server may."""

    def __init__(self, path: Path, *, clock: FakeClock, n_stale: int) -> None:
        super().__init__(path, clock=clock)
        self._stale = [super().paths()] * n_stale

    def paths(self) -> list[Path]:
        return self._stale.pop() if self._stale else super().paths()


def test_a_reader_that_misses_a_segment_lists_again(store: ExperienceStore) -> None:
    clock = FakeClock(0.0)
    folder = StaleFolder(store.path, clock=clock, n_stale=3)
    store.compact()

    loaded = folder.load(KEYS)

    assert [len(part) for part in loaded.parts.values()] == [12]
    assert loaded.findings == ()
    assert clock.slept_s == list(PAUSES_S[:3])


class TornFolder(SegmentFolder):
    """A folder whose first listing was made while segments were merged: it has neither the old ones nor the new."""

    is_torn = True

    def _listing(self) -> list[Path]:
        found = super()._listing()[:1] if self.is_torn else super()._listing()
        self.is_torn = False
        return found


def test_a_listing_counts_only_when_the_next_one_is_the_same(store: ExperienceStore) -> None:
    loaded = TornFolder(store.path).load(KEYS)

    assert sum(len(part) for part in loaded.parts.values()) == 12


def test_a_reader_gives_up_when_segments_keep_vanishing(store: ExperienceStore) -> None:
    folder = StaleFolder(store.path, clock=FakeClock(0.0), n_stale=len(PAUSES_S))
    store.compact()

    with pytest.raises(StoreError, match=r"could not be opened, for 60 s; the folder is being emptied"):
        folder.load(KEYS)


def test_a_merge_leaves_damaged_segments_out_and_names_them(store: ExperienceStore, tmp_path: Path) -> None:
    path = victim(store)
    truncate(path)

    merged = merge([store.path], tmp_path / "into")

    assert merged.n_new == 8
    assert [(f.problem, f.where) for f in merged.findings] == [("damaged", path.name)]


def test_other_files_in_the_folder_are_ignored(store: ExperienceStore) -> None:
    for name in ("README.md", "seg-notes.txt", "other.h5", ".seg-hidden"):
        (store.path / name).write_text("hello")

    assert len(store.read()) == 12
    assert store.verify() == []


def test_a_bad_value_leaves_the_store_as_it_was(store: ExperienceStore) -> None:
    before = sorted(store.path.glob("seg-*.h5"))

    with pytest.raises(InputError, match=r"train_s is nan"):
        store.append([experience(50), experience(51, outcome={"train_s": float("nan")})])

    assert sorted(store.path.glob("seg-*.h5")) == before


def test_one_file_that_cannot_be_read_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "store.h5"
    ExperienceStore(path).append(experiences(4))
    flip_in("codes")(path)
    before = path.read_bytes()
    rotten_unseen = SegmentFolder(path)
    rotten_unseen.checked.record([(path, identity_of(path.stat()), ())])

    for damaged in (SegmentFolder(tmp_path / "store.h5", checked=rotten_unseen.checked), rotten_unseen):
        with pytest.raises(StoreError, match=r"store.h5` is damaged or no segment"):
            damaged.add(encode([experience(9)]))

    assert path.read_bytes() == before
