"""A file that only has the name of a segment harms itself alone: it is named, and nobody waits for it."""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.fakes import FakeClock
from tests.store.samples import experience, experiences
from xautolm_hpc.errors import FormatError, StoreError
from xautolm_hpc.store import ExperienceStore, StoreFinding, merge


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        here = Path.cwd()
        os.chdir(path.parent)  # the path of a socket is short
        try:
            bound.bind(path.name)
        finally:
            os.chdir(here)


def link_to_pipe(path: Path) -> None:
    os.mkfifo(path.parent / "pipe")
    path.symlink_to("pipe")


def of_version(value: Any) -> Callable[[Path], None]:
    """Make a function that writes a segment with this ``format_version``; ``None`` writes none."""

    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            if value is not None:
                file.attrs["format_version"] = value

    return write


ODD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "dangling": (lambda path: path.symlink_to("gone.h5"), "it is a link to `gone.h5`, which does not exist"),
    "loop": (lambda path: path.symlink_to(path.name), "it cannot be looked at: Too many levels of symbolic links"),
    "below-a-file": (lambda path: path.symlink_to("/etc/passwd/x"), "it cannot be looked at: Not a directory"),
    "long": (lambda path: path.symlink_to("x" * 300), "it cannot be looked at: File name too long"),
    "pipe": (os.mkfifo, "it is a pipe"),
    "link-to-pipe": (link_to_pipe, "it is a pipe"),
    "socket": (bound_socket, "it is a socket"),
    "zero": (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
    "terminal": (lambda path: path.symlink_to("/dev/tty"), "it is a device"),
    "folder": (Path.mkdir, "it is a folder"),
    "link-to-folder": (lambda path: path.symlink_to("/"), "it is a folder"),
    "text": (of_version("two"), "format_version is no single whole number"),
    "number-as-text": (of_version("2"), "format_version is no single whole number"),
    "float": (of_version(2.0), "format_version is no single whole number"),
    "nan": (of_version(float("nan")), "format_version is no single whole number"),
    "array": (of_version(np.array([2, 2])), "format_version is no single whole number"),
    "large-array": (of_version(np.zeros((50, 50), np.int64)), "format_version is no single whole number"),
    "empty": (of_version(h5py.Empty("i8")), "format_version is no single whole number"),
    "bool": (of_version(np.bool_(True)), "format_version is no single whole number"),
    "missing": (of_version(None), "format_version"),
    "zero-version": (of_version(0), "format_version is 0; expected one of 1, 2"),
    "negative": (of_version(-(2**63)), "format_version is -9223372036854775808; expected one of 1, 2"),
    "newer": (of_version(3), "is format 3; this version reads 1, 2. Upgrade xautolm-hpc, or ask its site for a copy"),
    "huge": (of_version(np.uint64(2**64 - 1)), "is format 18446744073709551615; this version reads 1, 2. Upgrade"),
}


def put_odd_files(store: Path) -> dict[str, str]:
    """Write one of each to a store; return what each is called and why it is refused."""
    reasons = {}
    for number, (make, reason) in enumerate(ODD.values()):
        name = f"seg-{number:032d}.h5"
        make(store / name)
        reasons[name] = reason
    return reasons


def reasons_of(findings: Sequence[StoreFinding], expected: Mapping[str, str]) -> dict[str, str]:
    """Return for each segment the reason that is expected, if its message has it, else the message."""
    return {f.where: expected[f.where] if expected[f.where] in f.message else f.message for f in findings}


def test_what_is_no_segment_is_named_and_the_rest_is_read_at_once(tmp_path: Path) -> None:
    ExperienceStore(tmp_path).append(experiences(3))
    expected, clock = put_odd_files(tmp_path), FakeClock(0.0)
    store = ExperienceStore(tmp_path, clock=clock)

    n_read, left_out, verified = len(store.read()), store.findings, store.verify()

    assert n_read == 3
    assert reasons_of(left_out, expected) == expected
    assert reasons_of(verified, expected) == expected
    assert len(store.read_table()) == len(store.ids()) == store.info()["n_experiences"] == 3
    assert sum(clock.slept_s) < 1


def test_every_command_goes_on_beside_them(tmp_path: Path) -> None:
    path, clock = tmp_path / "store", FakeClock(0.0)
    ExperienceStore(path).append(experiences(3))
    put_odd_files(path)
    store = ExperienceStore(path, clock=clock)

    appended = [store.append([experience(number)]).n_new for number in range(3, 14)]
    store.forget([experience(0).id], "site-a")
    merged = merge([path], tmp_path / "into")
    compacted = store.compact()
    again = store.compact()

    assert appended == [1] * 11
    assert (merged.n_new, compacted) == (13, again)
    assert len(merged.findings) == len(store.findings) == len(ODD)
    assert len(store.read()) == len(ExperienceStore(tmp_path / "into").read()) == 13
    assert sum(clock.slept_s) < 5


def test_a_link_to_a_segment_counts_as_the_segment(tmp_path: Path) -> None:
    ExperienceStore(tmp_path / "elsewhere").append(experiences(3))
    target = next((tmp_path / "elsewhere").glob("seg-*.h5"))
    store = ExperienceStore(tmp_path / "store")
    store.append(experiences(2, start=3))
    (store.path / target.name).symlink_to(target)
    store.append(experiences(1, start=5), is_own=False)

    assert len(store.read()) == 6
    assert store.verify() == []
    store.compact()
    assert target.exists()
    assert [path.is_symlink() for path in store.path.glob("seg-*.h5")] == [False, False]


@pytest.mark.parametrize("make", [os.mkfifo, of_version(3), lambda path: path.symlink_to("/dev/zero")])
def test_one_file_that_is_no_segment_is_refused_and_stays(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    path = tmp_path / "store.h5"
    make(path)
    mode = path.lstat().st_mode

    with pytest.raises(StoreError, match=r"is refused: it is a |is format 3"):
        ExperienceStore(path).read_table()
    with pytest.raises(StoreError, match=r"is refused: it is a |is format 3"):
        ExperienceStore(path).append(experiences(1))
    assert path.lstat().st_mode == mode


def test_a_newer_file_is_a_format_error_that_names_the_command(tmp_path: Path) -> None:
    of_version(3)(tmp_path / "store.h5")

    with pytest.raises(FormatError, match=r"`xautolm-hpc store export STORE --to COPY --format 2`"):
        ExperienceStore(tmp_path / "store.h5").read()


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/full")])
def test_a_record_of_checks_that_is_no_file_hinders_nobody(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    tmp_path.joinpath("store").mkdir()
    make(tmp_path / "store" / ".checked")
    store = ExperienceStore(tmp_path / "store")

    store.append(experiences(2))

    assert len(store.read()) == 2


def test_a_left_over_that_is_a_folder_or_a_link_stays_and_hinders_nobody(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path)
    store.append(experiences(2))
    (tmp_path / ".seg-folder.h5.x.tmp").mkdir()
    os.utime(tmp_path / ".seg-folder.h5.x.tmp", (0, 0))
    (tmp_path / ".seg-link.h5.x.tmp").symlink_to("gone")

    store.compact()

    assert [f.problem for f in store.verify()] == ["left-over", "left-over"]
