"""Apptainer from collected packages, on a machine that has nothing of what it needs."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from containers.dev import apptainer
from containers.dev.apptainer import CARRIED, OWN, DevApptainerError, collect, find_apptainer, up


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let none of what is installed here be found, and install to a folder of the test's; returns that."""
    prefix = tmp_path / "prefix"
    monkeypatch.setattr(apptainer, "PREFIX_DIR", prefix)
    monkeypatch.setattr(apptainer, "UNDO_PATH", prefix / "undo.json")
    monkeypatch.setattr(apptainer, "SYSTEM_PATH", str(tmp_path / "none"))
    monkeypatch.setattr(apptainer, "FUSE_PATH", tmp_path / "fuse")
    monkeypatch.setattr(os, "geteuid", lambda: 0)  # refused before anything is done that needs root
    monkeypatch.setattr(apptainer, "_user_exists", lambda: True)
    (tmp_path / "fuse").touch(mode=0o666)
    return prefix


def test_a_folder_that_lacks_packages_is_refused(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apptainer, "find_apptainer", lambda: None)
    for name in {*OWN, *CARRIED} - {"uidmap", "libc6"}:
        (tmp_path / f"{name}_1_amd64.deb").touch()

    with pytest.raises(DevApptainerError, match=r"lacks libc6, uidmap: python .*apptainer.py collect"):
        up(tmp_path)


@pytest.mark.container
def test_what_was_collected_runs_from_its_own_folder(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = collect(tmp_path / "packages")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")

    up(tmp_path / "packages")

    assert len(packages) == len(OWN) + len(CARRIED)
    program = find_apptainer()
    assert program == bare / "bin" / "apptainer"
    environ = {"PATH": f"{bare}/bin:/usr/bin:/bin"}
    said = subprocess.run([program, "--version"], env=environ, capture_output=True, text=True, check=True).stdout
    assert said.startswith("apptainer version 1.")
    for name, library in {"mksquashfs": "liblzo2", "squashfuse_ll": "libfuse3"}.items():
        loads = subprocess.run(["ldd", bare / "bin" / name], capture_output=True, text=True, check=True).stdout
        assert f"{library}" in loads
        assert f"=> {bare}/lib/carried/{library}" in loads
    (tmp_path / "content").mkdir()
    packed = subprocess.run(
        ["mksquashfs", str(tmp_path / "content"), str(tmp_path / "packed"), "-comp", "zstd"],
        env=environ,
        executable=bare / "bin" / "mksquashfs",
        capture_output=True,
        check=False,
    )
    assert packed.returncode == 0, packed.stderr
    assert (bare / "bin/newuidmap").stat().st_mode & stat.S_ISUID
