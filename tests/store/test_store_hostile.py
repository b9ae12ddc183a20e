"""Hostile and broken segments: each is refused with its name and the reason, and the rest of the store is read."""

import contextlib
import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import psutil
import pytest

from tests.store import hostile
from tests.store.samples import as_text, by_id, experiences
from xautolm_hpc.store import CheckLimits, ExperienceStore, StoreFinding, merge


def file_name(number: int) -> str:
    return f"seg-{number:032d}.h5"


@pytest.fixture(scope="module")
def hostile_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write all hostile files to one store with a sound segment."""
    path = tmp_path_factory.mktemp("site-b")
    ExperienceStore(path).append(experiences(9))
    sound = next(path.glob("seg-*.h5"))
    return [hostile.make(change, sound, path / file_name(i)) for i, change in enumerate(hostile.CHANGES)]


@pytest.fixture(scope="module")
def folder(hostile_files: list[Path]) -> Path:
    """Return that store."""
    return hostile_files[0].parent


@pytest.fixture(scope="module")
def findings(folder: Path) -> dict[str, StoreFinding]:
    """Read that store once and return what was left out."""
    store = ExperienceStore(folder)
    assert as_text(store.read()) == as_text(by_id(experiences(9)))
    return {finding.where: finding for finding in store.findings}


@pytest.mark.parametrize("number", range(len(hostile.CHANGES)), ids=hostile.names())
def test_a_hostile_segment_is_refused_with_its_reason(
    hostile_files: list[Path], findings: dict[str, StoreFinding], number: int
) -> None:
    reason, name = [*hostile.CHANGES.values()][number], hostile_files[number].name

    finding = findings[name]

    assert name in finding.message
    assert re.search(reason, finding.message), finding.message


def test_a_merge_and_verify_name_them_too(hostile_files: list[Path], folder: Path, tmp_path: Path) -> None:
    merged = merge([folder], tmp_path / "into")
    verified = ExperienceStore(folder).verify()

    expected = {path.name for path in hostile_files}
    assert len(expected) >= 30
    assert {finding.where for finding in merged.findings} == expected
    assert {finding.where for finding in verified} == expected
    assert as_text(ExperienceStore(tmp_path / "into").read()) == as_text(by_id(experiences(9)))


def test_what_was_checked_is_not_checked_again(
    folder: Path, findings: dict[str, StoreFinding], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xautolm_hpc.store.folder.check_segments", _no_check)
    store = ExperienceStore(folder)

    store.read_table()

    assert {finding.where: finding.message for finding in store.findings} == {
        where: finding.message for where, finding in findings.items()
    }


def _no_check(*_: object, **__: object) -> None:
    raise AssertionError("checked again")


def test_a_merge_uses_the_record_of_checked_segments_of_the_store_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ExperienceStore(tmp_path / "own").append(experiences(3))
    monkeypatch.setattr("xautolm_hpc.store.folder.check_segments", _no_check)

    assert merge([tmp_path / "own"], tmp_path / "into").n_new == 3

    (tmp_path / "own" / ".checked").unlink()
    with pytest.raises(AssertionError, match="checked again"):
        merge([tmp_path / "own"], tmp_path / "other")


def test_what_a_check_found_is_kept_when_another_segment_vanishes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ExperienceStore(tmp_path)
    store.append(experiences(3))
    vanishing = tmp_path / file_name(1)
    vanishing.write_bytes(next(tmp_path.glob("seg-*.h5")).read_bytes())
    (tmp_path / ".checked").unlink()
    checked: list[list[str]] = []

    def check(paths: list[Path], *_: object, **__: object) -> dict[Path, list[StoreFinding]]:
        checked.append([path.name for path in paths])
        vanishing.unlink(missing_ok=True)
        return {path: [] for path in paths}

    monkeypatch.setattr("xautolm_hpc.store.folder.check_segments", check)

    assert len(ExperienceStore(tmp_path).read()) == 3
    assert [len(names) for names in checked] == [2]


def test_a_copy_in_place_of_a_checked_segment_is_checked(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path)
    store.append(experiences(9))
    path = next(tmp_path.glob("seg-*.h5"))
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)

    hostile.make(hostile.forged_id, path, tmp_path / "copy").rename(path)
    os.utime(path, ns=times)

    assert store.read() == []
    assert [f.problem for f in store.findings] == ["digest"]


def test_a_record_of_another_user_or_one_open_to_others_is_not_used(tmp_path: Path) -> None:
    ExperienceStore(tmp_path).append(experiences(9))
    path = next(tmp_path.glob("seg-*.h5"))
    hostile.make(hostile.forged_id, path, tmp_path / "copy").rename(path)
    status = path.stat()
    identity = [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    memory = tmp_path / ".checked"
    memory.write_text(f'["{path.name}", {identity}, [], ""]\n')

    believed = len(ExperienceStore(tmp_path).read())
    memory.chmod(0o666)
    open_to_others = len(ExperienceStore(tmp_path).read())

    assert (believed, open_to_others) == (9, 0)


def test_a_segment_that_takes_too_long_is_refused_and_the_next_is_checked(tmp_path: Path) -> None:
    ExperienceStore(tmp_path / "sound").append(experiences(9))
    sound = next((tmp_path / "sound").glob("seg-*.h5"))
    slow = [tmp_path / "store" / file_name(number) for number in range(2)]
    slow[0].parent.mkdir()
    for path in slow:
        path.write_bytes(sound.read_bytes())
        with h5py.File(path, "r+") as file:
            hostile.claim(file, "codes", (len(file["codes"]), 2_000_000), (1, 1))
    (tmp_path / "store" / sound.name).write_bytes(sound.read_bytes())
    refused = {}

    for name, limits in (("wall", CheckLimits(wall_s=1.5)), ("cpu", CheckLimits(cpu_s=1.0))):
        store = ExperienceStore(tmp_path / "store", limits=limits)
        assert len(store.read()) == 9
        refused[name] = [finding.message for finding in store.findings]

    assert [len(found) for found in refused.values()] == [2, 2]
    assert all(re.search(r"refused: checking it took more than 1\.5 s\.", text) for text in refused["wall"])
    assert all(re.search(r"refused: checking it took more than 1 s of processor", text) for text in refused["cpu"])


def test_a_segment_whose_check_crashes_is_refused_and_the_next_is_checked(tmp_path: Path) -> None:
    ExperienceStore(tmp_path / "sound").append(experiences(9))
    sound = next((tmp_path / "sound").glob("seg-*.h5"))
    (tmp_path / "store").mkdir()
    crashing = tmp_path / "store" / file_name(0)
    crashing.write_bytes(sound.read_bytes())
    with h5py.File(crashing, "r+") as file:
        hostile.claim(file, "codes", (len(file["codes"]), 2_000_000), (1, 1))
    (tmp_path / "store" / sound.name).write_bytes(sound.read_bytes())
    store = ExperienceStore(tmp_path / "store")

    with ThreadPoolExecutor() as pool:
        reading = pool.submit(store.read)
        kill_child_at_work()
        found = reading.result()

    assert as_text(found) == as_text(by_id(experiences(9)))
    assert [(f.problem, f.where) for f in store.findings] == [("refused", crashing.name)]
    assert "is refused: it crashed the process that checked it (SIGSEGV)" in store.findings[0].message


def kill_child_at_work() -> None:
    """Send the checking child the signal that a bug in a library would cause, once it has begun with the file."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if any(opened.path.endswith(file_name(0)) for opened in child.open_files()):
                    child.send_signal(signal.SIGSEGV)
                    return
        time.sleep(0.01)
    raise AssertionError("no child had the file open")


def test_a_segment_that_takes_too_much_memory_is_refused(tmp_path: Path) -> None:
    ExperienceStore(tmp_path).append(experiences(9))
    sound = next(tmp_path.glob("seg-*.h5"))
    (tmp_path / file_name(0)).write_bytes(sound.read_bytes())
    with h5py.File(tmp_path / file_name(0), "r+") as file:
        hostile.claim(file, "message", (2**29,), (2**20,))
    store = ExperienceStore(tmp_path, limits=CheckLimits(memory_gb=0.25))

    found = store.read()

    assert len(found) == 9
    assert re.search(r"refused: checking it takes more than 0.25 GB|damaged", store.findings[0].message)


def test_limits_are_positive() -> None:
    with pytest.raises(Exception, match=r"limit wall_s = 0: expected a number above 0"):
        CheckLimits(wall_s=0)
