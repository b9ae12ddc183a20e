"""Builds wheel and sdist from a copy of what they are made of."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path

from tests.checks.source import ROOT_DIR

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "xautolm_hpc", "examples", "slurm", "store")
BUILD = """
import sys
from setuptools import build_meta
out = sys.argv[1]  # which setuptools changes
build_meta.build_sdist(out)
build_meta.build_wheel(out)
"""


@dataclass(frozen=True)
class Built:
    """What was built.

    Attributes:
        wheel: The wheel.
        sdist: The source distribution.
    """

    wheel: Path
    sdist: Path

    def wheel_names(self) -> set[str]:
        """List the files of the wheel."""
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())

    def sdist_names(self) -> set[str]:
        """List the files of the source distribution, without its own folder."""
        with tarfile.open(self.sdist) as archive:
            return {name.partition("/")[2] for member in archive if member.isfile() and (name := member.name)}

    def metadata(self) -> Message:
        """Read the metadata of the wheel."""
        with zipfile.ZipFile(self.wheel) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
            return Parser().parsestr(archive.read(name).decode())

    def install(self, target: Path) -> Path:
        """Unpack the wheel, as ``pip install --no-deps --target`` does."""
        shutil.unpack_archive(self.wheel, target, "zip")
        return target


def build(folder: Path) -> Built:
    """Build wheel and sdist in a folder that does not exist yet."""
    source, out = folder / "source", folder / "out"
    source.mkdir(parents=True)
    out.mkdir()
    for name in SOURCES:
        path = ROOT_DIR / name
        if path.is_dir():
            shutil.copytree(path, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(out)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Built(wheel=next(out.glob("*.whl")), sdist=next(out.glob("*.tar.gz")))
