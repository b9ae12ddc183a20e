"""A writer that is killed, or whose file system refuses, leaves a store with everything committed."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.store.samples import as_text, by_id, experience, experiences
from xautolm_hpc import durable
from xautolm_hpc.errors import StoreError
from xautolm_hpc.store import ExperienceStore, files

ROOT_DIR = Path(__file__).resolve().parents[2]
WRITER = """
import sys
from pathlib import Path
from tests.store.samples import experiences
from xautolm_hpc.store import ExperienceStore
store = ExperienceStore(Path(sys.argv[1]))
for start in range(0, 4000, 2):
    store.append(experiences(2, start=start))
    print(start + 2, flush=True)
"""


@pytest.mark.parametrize("run", range(10))
def test_a_killed_writer_leaves_everything_it_committed(tmp_path: Path, run: int) -> None:
    rng = np.random.default_rng(run)
    n_wanted, n_bytes = int(rng.integers(1, 12)) * 2, int(rng.integers(-1, 2)) * 4096
    command = [sys.executable, "-c", WRITER, str(tmp_path / "store")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT_DIR) as writer:
        assert writer.stdout is not None
        for text in writer.stdout:
            if int(text) >= n_wanted:
                break
        wait_for_bytes_aside(tmp_path / "store", n_bytes)
        os.kill(writer.pid, signal.SIGKILL)
        n_committed = max([n_wanted, *(int(text) for text in writer.stdout if text.endswith("\n"))])

    store = ExperienceStore(tmp_path / "store")
    found = store.read()

    assert {f.problem for f in store.verify()} <= {"left-over"}
    assert len(found) in {n_committed, n_committed + 2}
    assert as_text(found) == as_text(by_id(experiences(len(found))))
    store.append(experiences(40))
    assert len(store.ids()) == max(40, len(found))


def wait_for_bytes_aside(folder: Path, n_bytes: int) -> None:
    """Wait until a file being written has some bytes: none at all, an empty one, or a part; at most a second."""
    deadline_s = time.monotonic() + 1
    while n_bytes >= 0 and time.monotonic() < deadline_s:
        with contextlib.suppress(FileNotFoundError):
            if any(path.stat().st_size >= n_bytes for path in folder.glob(".seg-*")):
                return
        time.sleep(0.0002)


class FlakyOs:
    """The operating system, in which one call fails once; by default after a segment was begun."""

    def __init__(self, name: str, *, error: int, is_begun: bool = False) -> None:
        self._name, self._error = name, error
        self._is_begun, self.is_spent = is_begun, False

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in (self._name, "open") or self.is_spent:
            return real

        def call(*args: Any) -> Any:
            self._is_begun |= name == "open" and args[0].name.startswith(".seg-")
            if name != self._name or not self._is_begun:
                return real(*args)
            self.is_spent = True
            raise OSError(self._error, os.strerror(self._error))

        return call


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("name", ["open", "write", "fsync", "rename", "close"])
@pytest.mark.parametrize("n_before", [0, 7])
def test_a_refused_write_leaves_everything_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, n_before: int, name: str, error: int
) -> None:
    store = ExperienceStore(tmp_path / "store")
    for number in range(n_before):  # the eighth commit merges
        store.append([experience(number)])
    flaky = FlakyOs(name, error=error)
    monkeypatch.setattr(files, "os", flaky)

    with pytest.raises(StoreError, match=rf"could not be written: .*{os.strerror(error)}.* The store is as before"):
        store.append([experience(n_before)])

    assert flaky.is_spent
    assert as_text(store.read()) == as_text(by_id(experiences(n_before)))
    assert store.verify() == []
    assert store.append([experience(n_before)]).n_new == 1
    assert as_text(store.read()) == as_text(by_id(experiences(n_before + 1)))


def test_a_write_that_takes_only_a_part_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ShortWrites(FlakyOs):
        def __getattr__(self, name: str) -> Any:
            return (lambda fd, data: os.write(fd, data[:1000])) if name == "write" else getattr(os, name)

    monkeypatch.setattr(files, "os", ShortWrites("", error=0))
    store = ExperienceStore(tmp_path)

    store.append(experiences(5))

    assert as_text(store.read()) == as_text(by_id(experiences(5)))
    assert store.verify() == []


def test_what_is_read_back_wrongly_is_not_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class WrongWrites(FlakyOs):
        """A disk that keeps another experience's bytes than it was given."""

        def __getattr__(self, name: str) -> Any:
            other = next((tmp_path / "other").glob("seg-*.h5")).read_bytes()
            return (lambda fd, data: (os.write(fd, other), len(data))[1]) if name == "write" else getattr(os, name)

    ExperienceStore(tmp_path / "other").append([experience(1)])
    store = ExperienceStore(tmp_path / "store")
    monkeypatch.setattr(files, "os", WrongWrites("", error=0))

    with pytest.raises(StoreError, match=r"what was read back has digest [0-9a-f]{32}, expected [0-9a-f]{32}"):
        store.append([experience(0)])

    assert list(store.path.glob("seg-*.h5")) == []


def test_a_folder_that_cannot_be_flushed_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ExperienceStore(tmp_path / "store")
    for number in range(7):
        store.append([experience(number)])
    monkeypatch.setattr(durable, "os", FlakyOs("fsync", error=errno.EIO, is_begun=True))

    with pytest.raises(StoreError, match=r"could not be written: .*Input/output error"):
        store.append([experience(7)])

    trials = sorted(e.provenance.trial for e in store.read())
    assert trials in (list(range(7)), list(range(8)))
    assert {f.problem for f in store.verify()} == set()


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "store").symlink_to(tmp_path / "nowhere")

    with pytest.raises(StoreError, match=r"`.*/store` could not be made: .*See to its permissions"):
        ExperienceStore(tmp_path / "store").append([experience(0)])


def test_segments_that_cannot_be_removed_after_a_merge_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ExperienceStore(tmp_path)
    for number in range(7):
        store.append([experience(number)])

    class NoUnlink(FlakyOs):
        """A folder from which nothing may be removed."""

        def __getattr__(self, name: str) -> Any:
            self.is_spent = False
            return super().__getattr__(name)

    with monkeypatch.context() as patch:
        patch.setattr(files, "os", NoUnlink("unlink", error=errno.EACCES))
        store.append([experience(7)])

    assert len(list(tmp_path.glob("seg-*.h5"))) == 8
    assert as_text(store.read()) == as_text(by_id(experiences(8)))
    assert store.append(experiences(8)).n_new == 0
