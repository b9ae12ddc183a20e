"""The key of a store's marks and its decisions about those of others: odd files, permissions, processes at once."""

import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.claims import (
    N_FORGOTTEN,
    SITE,
    check_here_instead,
    everything,
    read_only,
    write_marks,
)
from tests.store.samples import experience, experiences
from xautolm_hpc.errors import StoreError
from xautolm_hpc.store import ExperienceStore, merge
from xautolm_hpc.store.folder import SegmentFolder
from xautolm_hpc.store.marks import tombstone


@pytest.mark.parametrize("content", [b"", b"abc\n", b"0" * 64, b"z" * 64 + b"\n", b"0" * 65 + b"\n"])
def test_an_odd_key_is_named_with_the_remedy_and_the_store_is_read(ours: Path, content: bytes) -> None:
    before = everything(ours)
    (ours / ".key").write_bytes(content)
    store = ExperienceStore(ours)

    during = everything(ours)
    findings = store.verify()
    with pytest.raises(StoreError, match=rf"is no key for marks: it has {len(content)} bytes, .* or remove it"):
        store.forget([experience(0).id], SITE)
    (ours / ".key").unlink()
    store.forget([experience(0).id], SITE)

    assert during == before
    assert [(f.problem, f.where) for f in findings] == [("key", ".key")]
    assert set(before["ids"]) - set(store.ids()) == {experience(0).id}
    assert store.verify() == []


def test_odd_decisions_are_named_with_the_remedy_and_the_store_is_read(ours: Path) -> None:
    (ours / ".marks").write_bytes(b"\0\1\2")

    findings = ExperienceStore(ours).verify()

    assert [(f.problem, f.where) for f in findings] == [("key", ".marks")]
    assert "Copy it from a backup of the store; or remove it" in findings[0].message
    assert experience(N_FORGOTTEN).id not in ExperienceStore(ours).ids()


def test_a_decision_that_was_never_finished_counts_for_nothing(ours: Path, victims: list[str]) -> None:
    write_marks(ours, [tombstone(one, SITE) for one in victims])
    ExperienceStore(ours).refuse_marks("format-1")
    whole = (ours / ".marks").read_bytes()
    (ours / ".marks").write_bytes(whole[:-20])

    n_waiting = ExperienceStore(ours).info()["n_pending_marks"]
    ExperienceStore(ours).refuse_marks("format-1")

    assert n_waiting == 1
    assert ExperienceStore(ours).info()["n_pending_marks"] == 0


MAKE = """
import sys, time
from pathlib import Path
from xautolm_hpc.node import SystemClock
from xautolm_hpc.store.authors.key import KeyFile
while not Path(sys.argv[2]).exists():
    pass
print(KeyFile(Path(sys.argv[1]), clock=SystemClock()).made().id)
"""


def test_processes_that_make_the_key_at_once_get_the_same_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAKE, str(tmp_path / ".key"), str(tmp_path / "go")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]

    (tmp_path / "go").touch()
    ids = {process.communicate(timeout=120)[0] for process in processes}

    assert len(ids) == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")] == []


def modes(store: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in store.iterdir() if path.name in {".key", ".marks"}}


def test_the_key_is_for_its_owner_unless_the_group_may_write_in_the_store(ours: Path) -> None:
    private = modes(ours)

    ours.chmod(0o2770)
    ExperienceStore(ours).read()
    shared = modes(ours)
    ours.chmod(0o2750)
    ExperienceStore(ours).read()

    assert private == {".key": 0o600, ".marks": 0o600}
    assert shared == {".key": 0o640, ".marks": 0o660}
    assert modes(ours) == {".key": 0o600, ".marks": 0o640}


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """Make a folder that every user may enter; those of the tests are for their owner."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_who_may_only_read_a_store_sees_what_its_owner_sees(
    ours: Path, open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_here_instead(monkeypatch)
    store = Path(shutil.copytree(ours, open_dir / "store"))
    expected = everything(ours)

    with read_only(store):
        found = everything(store)
        with pytest.raises(StoreError, match=r"you may not read the key|could not be (written|made)"):
            ExperienceStore(store).forget([experience(0).id], SITE)

    assert found == expected


def test_a_store_of_format_1_that_may_only_be_read_is_read_with_its_marks(
    open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_here_instead(monkeypatch)
    store = ExperienceStore(open_dir / "store")
    store.append(experiences(3))
    (store.path / ".marks").unlink()
    write_marks(store.path, [tombstone(experience(1).id, SITE)], format_version=1)

    with read_only(store.path):
        found = ExperienceStore(store.path).ids()

    assert sorted(found) == sorted(experience(number).id for number in (0, 2))
    assert not (store.path / ".marks").exists()


def test_a_merge_writes_nothing_into_the_store_it_reads(ours: Path, tmp_path: Path) -> None:
    theirs = ExperienceStore(tmp_path / "theirs")
    theirs.append(experiences(3))
    (theirs.path / ".marks").unlink()
    before = {path.name: path.read_bytes() for path in theirs.path.iterdir()}

    merge([theirs.path], ours)
    ExperienceStore.read_tables([ours, theirs.path])

    assert {path.name: path.read_bytes() for path in theirs.path.iterdir()} == before


def test_members_of_a_group_that_share_a_store_forget_for_each_other(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o770)
    first, second = ExperienceStore(shared), ExperienceStore(shared)
    first.append(experiences(3))
    second.append(experiences(3, start=3))

    first.forget([experience(4).id], SITE)
    second.forget([experience(1).id], SITE)

    assert len(first.ids()) == len(second.ids()) == 4
    assert first.verify() == []
    assert (shared / ".key").stat().st_gid == shared.stat().st_gid


def test_a_mark_of_format_2_in_a_segment_of_format_1_is_damage(ours: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"has an author, which format 1 does not have"):
        write_marks(tmp_path, SegmentFolder(ours).all_marks(), format_version=1)
