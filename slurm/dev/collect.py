"""Collects Slurm's packages into a folder that can be carried, and unpacks them where nothing can be installed.

``python -m slurm.dev.collect FOLDER`` downloads them (Debian, no root); ``python -m slurm.dev.collect FOLDER
--unpack ROOT``, on another machine, unpacks them into ROOT and prints the line that puts them on PATH. Nothing outside
ROOT is changed: programs are scripts that name the libraries, daemons are told where plugins and slurmstepd lie.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from slurm.dev.plan import DevClusterError

PACKAGES = (
    "slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "munge", "libmunge2", "libhwloc15", "libjson-c5",
    "libyaml-0-2", "liblua5.1-0", "libnuma1", "libreadline8", "libdbus-1-3",
)  # fmt: skip
"""Slurm without accounting, and the libraries that a small system lacks."""

PROGRAM_DIRS = ("usr/bin", "usr/sbin")
SUFFIX = "-wlm"
"""Debian's own ending of programs that it links to their plain names when a package is installed. Slurm's daemons
behave as such by their plain names alone."""

SCRIPT = """#!/bin/sh
LD_LIBRARY_PATH={libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}} exec {program} "$@"
"""


def collect(folder: Path) -> list[Path]:
    """Download the packages into a folder, as apt would install them here.

    Returns:
        The files, sorted.

    Raises:
        DevClusterError: apt failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _call("apt-get", "download", "-q", *PACKAGES, cwd=folder)
    return sorted(folder.glob("*.deb"))


def unpack(folder: Path, root: Path) -> Path:
    """Unpack the packages of a folder.

    Args:
        folder: Folder of :func:`collect`.
        root: Where to; it is made, and may stay for later calls.

    Returns:
        The folder of the programs, for PATH.

    Raises:
        DevClusterError: A package is missing, or dpkg failed.
    """
    found = {path.name.split("_")[0]: path for path in sorted(folder.glob("*.deb"))}
    if lacking := sorted(set(PACKAGES) - set(found)):
        raise DevClusterError(f"`{folder}` lacks {', '.join(lacking)}: python -m slurm.dev.collect {folder}")
    root = root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    for name in PACKAGES:
        _call("dpkg", "-x", str(found[name].resolve()), str(root))
    for program in root.glob(f"usr/sbin/*{SUFFIX}"):
        plain = program.with_name(program.name.removesuffix(SUFFIX))
        plain.unlink(missing_ok=True)
        plain.symlink_to(program.name)
    programs_dir = root / "programs"
    programs_dir.mkdir(exist_ok=True)
    (libraries,) = {str(path.parent) for path in root.glob("usr/lib/*/libmunge.so.2")}
    inner = [root / "lib" / Path(libraries).name, *Path(libraries).glob(f"slurm{SUFFIX}")]
    text = ":".join([libraries, *(str(path) for path in inner if path.exists())])
    for program in (path for name in PROGRAM_DIRS for path in (root / name).iterdir()):
        script = programs_dir / program.name
        script.write_text(SCRIPT.format(libraries=text, program=program))
        script.chmod(0o755)
    return programs_dir


def own_parts(slurmd: str) -> tuple[Path, Path] | None:
    """Find where the plugins and slurmstepd of an unpacked Slurm lie.

    Args:
        slurmd: Path of slurmd.

    Returns:
        Both; ``None`` for a Slurm that is installed, which knows them.
    """
    root = Path(slurmd).parent.parent
    plugins = sorted(root.glob(f"usr/lib/*/slurm{SUFFIX}"))
    stepd = root / "usr" / "sbin" / "slurmstepd"
    return (plugins[0], stepd) if Path(slurmd).parent.name == "programs" and plugins and stepd.exists() else None


def _call(*command: str, cwd: Path | None = None) -> None:
    completed = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if completed.returncode != 0:
        words = "\n".join((completed.stdout + completed.stderr).splitlines()[-15:])
        raise DevClusterError(f"`{' '.join(command[:3])} ...` failed with status {completed.returncode}:\n{words}")


def main(argv: list[str] | None = None) -> int:
    """Collect, or unpack; status 2 with a message if that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the packages")
    parser.add_argument("--unpack", type=Path, metavar="ROOT", help="unpack them into ROOT instead")
    given = parser.parse_args(argv)
    try:
        if given.unpack:
            print(f"export PATH={unpack(given.folder, given.unpack)}{os.pathsep}$PATH")
        else:
            found = collect(given.folder)
            print(
                f"{len(found)} packages, {sum(path.stat().st_size for path in found) / 2**20:.1f} MiB: {given.folder}"
            )
    except DevClusterError as error:
        print(f"slurm/dev: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
