"""What a store notes beside its set, key, decisions, list of own segments: odd files, permissions, many processes."""

import grp
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.store.claims import (
    N_FORGOTTEN,
    SITE,
    VICTIMS,
    check_here_instead,
    claims_of,
    copy_segments,
    everything,
    make_theirs,
    read_only,
    write_marks,
)
from tests.store.samples import experience, experiences
from tests.store.test_store_own import of_ours, same
from xautolm_hpc.errors import StoreError
from xautolm_hpc.store import ExperienceStore, copy_store, merge, segment
from xautolm_hpc.store.authors.own import HEADER, MOST_BYTES
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


def test_what_cannot_be_read_when_a_store_is_first_opened_is_its_own_too(ours: Path) -> None:
    before = of_ours(ours)
    (ours / ".own").unlink()
    (ours / "seg-\udcff.h5").write_bytes(b"no name of ours")
    segment = max(ours.glob("seg-*[0-9a-f].h5"), key=lambda path: path.stat().st_size)
    content = segment.read_bytes()
    segment.write_bytes(content[:-1])
    ExperienceStore(ours).read()

    segment.write_bytes(content)
    (ours / "seg-\udcff.h5").unlink()

    assert same(of_ours(ours), before)
    assert ExperienceStore(ours).own_ids() > set(before["ids"])
    assert ExperienceStore(ours).verify() == []


def test_a_line_of_the_list_that_a_file_server_lost_is_written_again(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path / "store")
    store.append([experience(0)])
    whole = (store.path / ".own").read_bytes()
    store.append([experience(1)])
    (store.path / ".own").write_bytes(whole)

    store.append([experience(2)])

    assert store.own_ids() == {experience(number).id for number in range(3)}


@pytest.mark.parametrize(
    "do", [lambda ours, to: merge([ours], to), lambda ours, to: copy_store(ours, to, is_redacted=False)]
)
def test_what_is_not_known_to_be_of_a_store_is_not_taken_elsewhere(
    ours: Path, tmp_path: Path, do: Callable[[Path, Path], Any]
) -> None:
    merge([make_theirs(tmp_path / "theirs", "another result")], ours)
    listed = (ours / ".own").rename(tmp_path / "listed")
    (ours / ".own").mkdir()

    with pytest.raises(StoreError, match="which lists the segments that were written here: it cannot be read"):
        do(ours, tmp_path / "elsewhere")
    (ours / ".own").rmdir()
    listed.rename(ours / ".own")
    do(ours, tmp_path / "elsewhere")

    assert experience(1).id in ExperienceStore(tmp_path / "elsewhere").ids()


def test_a_store_that_is_one_file_keeps_the_other_file_for_good(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path / "ours.h5")
    store.append([experience(60, site="site-b")], is_own=False)
    store.forget([experience(60, site="site-b").id], "site-b")

    store.append([experience(0)])
    store.compact()
    store.append([claims_of(0)["another result"]], is_own=False)

    assert store.ids() == (experience(0).id,)
    assert store.own_ids() == {experience(0).id}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it does not begin with the line"),
        (b"\0" * 100, "it does not begin with the line"),
        (HEADER + b"\n" * MOST_BYTES, "it has 33,554,451 bytes, expected at most 33,554,432"),
    ],
)
def test_a_list_of_our_segments_that_was_cut_or_filled_is_named_and_nothing_is_written_over_it(
    ours: Path, content: bytes, reason: str
) -> None:
    (ours / ".own").write_bytes(content)
    before = sorted(path.name for path in ours.iterdir())

    findings = ExperienceStore(ours).verify()
    with pytest.raises(StoreError, match=reason):
        ExperienceStore(ours).append([experience(70)])
    with pytest.raises(StoreError, match=reason):
        ExperienceStore(ours).forget([experience(0).id], SITE)
    with pytest.raises(StoreError, match=reason):
        ExperienceStore(ours).compact()

    assert [(f.problem, f.where) for f in findings] == [("key", ".own")]
    assert reason in findings[0].message
    assert (sorted(path.name for path in ours.iterdir()), (ours / ".own").read_bytes()) == (before, content)


def test_nothing_of_ours_is_lost_when_the_list_of_our_segments_was_cut_and_is_put_back(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path / "store")
    store.append(experiences(3))
    own, segments = store.path / ".own", [*store.path.glob("seg-*.h5")]
    listed = own.read_bytes()
    own.write_bytes(b"")

    with pytest.raises(StoreError, match="it does not begin with the line"):
        store.amend([experience(0, provenance={"suspect": True})])
    left = own.read_bytes(), [*store.path.glob("seg-*.h5")]
    store.append([experience(60, site="site-b")], is_own=False)
    after_foreign = own.read_bytes()
    own.write_bytes(listed)
    store.amend([experience(0, provenance={"suspect": True})])

    assert left == (b"", segments)
    assert after_foreign == b""
    assert [e.provenance.trial for e in store.read() if e.provenance.suspect] == [0]
    assert store.own_ids() == {experience(number).id for number in range(3)}


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/etc/hostname")])
def test_what_is_no_list_of_our_segments_is_named_and_not_written_to(ours: Path, make: Callable[[Path], None]) -> None:
    (ours / ".own").unlink()
    make(ours / ".own")

    with pytest.raises(StoreError, match=r"which lists the segments that were written here: it cannot be read"):
        ExperienceStore(ours).append([experience(70)])

    assert [(f.problem, f.where) for f in ExperienceStore(ours).verify()] == [("key", ".own")]


def test_a_line_that_a_file_server_lost_while_the_segment_was_written_is_noted_again(
    ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, write = b"0" * 32 + b"\n", segment.write

    def write_while_another_machine_notes(*arguments: Any, **options: Any) -> None:
        lines = (ours / ".own").read_bytes().splitlines(keepends=True)
        (ours / ".own").write_bytes(b"".join(lines[:-1]) + other)
        write(*arguments, **options)

    monkeypatch.setattr(segment, "write", write_while_another_machine_notes)
    ExperienceStore(ours).append([experience(70)])

    assert experience(70).id in ExperienceStore(ours).own_ids()
    assert other in (ours / ".own").read_bytes()


def test_a_store_that_lost_its_list_says_so_and_takes_what_is_here_as_its_own(
    ours: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    merge([make_theirs(tmp_path / "theirs", "another result")], ours)
    (tmp_path / "copy").mkdir()
    copy_segments(ours, tmp_path / "copy")  # as rsync does without the files that begin with a dot
    said_before = capfd.readouterr().err

    copy = ExperienceStore(tmp_path / "copy")
    problems = [f.problem for f in copy.verify()]
    said = capfd.readouterr().err
    copy.read()
    shutil.copy2(ours / ".own", copy.path / ".own")

    assert said_before == ""
    assert f"`{copy.path}/.own`, which lists the segments that were written here, was not there and was made" in said
    assert said.count("\n") == 1
    assert capfd.readouterr().err == ""
    assert problems.count("conflict") >= len(VICTIMS)
    assert "foreign-record" not in problems
    assert {f.where for f in ExperienceStore(copy.path).verify() if f.problem == "foreign-record"} == {
        experience(number).key for number in VICTIMS
    }


def test_a_store_that_was_given_to_a_group_lets_it_read_which_segments_are_own(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    ExperienceStore(path).append(experiences(2))

    ExperienceStore(path, group=grp.getgrgid(os.getegid()).gr_name).append([experience(2)])

    assert {name: stat.S_IMODE((path / name).stat().st_mode) for name in (".own", ".marks")} == {
        ".own": 0o640,
        ".marks": 0o640,
    }


def test_a_file_that_was_taken_away_leaves_no_experiences_behind(tmp_path: Path) -> None:
    ours = ExperienceStore(tmp_path / "ours.h5")
    ours.append(experiences(2))
    ours.append([experience(60)], is_own=False)
    ours.path.unlink()

    left = ours.ids()
    ours.append([experience(5)])

    assert left == ()
    assert ours.ids() == (experience(5).id,)
