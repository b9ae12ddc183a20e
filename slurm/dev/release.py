"""Runs a command with another release of Slurm: ``python -m slurm.dev.release 24.11 COMMAND ...`` (root, on Debian).

The Debian that has it is put into ``build/slurm-24.11`` the first time. The command sees that Debian's programs, and of
this machine every folder that is not the system's own; its mounts go when it ends.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from slurm.dev.packages import ACCOUNTING_PROGRAMS, PROGRAMS, install
from slurm.dev.plan import DevClusterError

CHECKOUT = Path(__file__).resolve().parents[2]
DEBIANS = {"24.11": "trixie"}
"""Release of Slurm -> the Debian that has it."""

ALSO = ("?essential", "base-files", "procps", "iproute2", "python3")
SYSTEM = {"bin", "boot", "dev", "etc", "proc", "run", "sbin", "sys", "usr", "var"}
"""Folders at the top that are the Debian's own; those of the kernel are bound all the same."""

KERNEL = ("dev", "proc", "sys")
ENTER = (
    "import sys; from pathlib import Path; from slurm.dev.release import enter; enter(Path(sys.argv[1]), sys.argv[2:])"
)


def root_of(release: str) -> Path:
    """Return the folder of a release; make it where there is none.

    Raises:
        DevClusterError: The release is not known, we are not root, there is no apt, or the packages cannot be had.
    """
    if release not in DEBIANS:
        raise DevClusterError(f"Slurm {release} is not known here; known: {', '.join(DEBIANS)}")
    root = CHECKOUT / "build" / f"slurm-{release}"
    if not root.exists():
        install(() if shutil.which("mmdebstrap") else ("mmdebstrap",))
        aside = root.with_name(f"{root.name}.part")
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(exist_ok=True)
        packages = [*ALSO, *PROGRAMS.values(), *ACCOUNTING_PROGRAMS.values()]
        print(f"{DEBIANS[release]} with Slurm {release} is put into {root}", flush=True)
        # Unpacked, not installed: to configure the packages takes minutes.
        options = ["--mode=root", "--variant=extract", *(f"--include={name}" for name in packages)]
        _call("mmdebstrap", "--quiet", *options, DEBIANS[release], str(aside), _mirror())
        _configure(aside)
        aside.rename(root)
    return root


def _configure(root: Path) -> None:
    """Do what the packages would do when they are installed, as far as Slurm needs it."""
    for name in ("passwd", "group", "nsswitch.conf"):
        shutil.copy(Path("/etc") / name, root / "etc" / name)
    for program in (root / "usr").glob("*bin/*-wlm"):  # Debian's alternatives
        program.with_name(program.name.removesuffix("-wlm")).symlink_to(program.name)
    _call("chroot", str(root), "/usr/sbin/ldconfig")


def enter(root: Path, command: Sequence[str]) -> NoReturn:
    """Run a command that sees the programs below a folder, and end with its status; this process has mounts of its own.

    Raises:
        DevClusterError: A folder cannot be bound.
    """
    # Slurm 24.11 waits for seconds in each look-up of a host that /etc/hosts does not name.
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {socket.gethostname()}\n")
    cwd = Path.cwd()
    _call("mount", "--bind", str(root), str(root))  # a mount of its own, so that commands can mount below it
    for path in _bound():
        inside = root / path.relative_to("/")
        inside.mkdir(parents=True, exist_ok=True)
        _call("mount", "--rbind", str(path), str(inside))
    os.chroot(root)
    os.chdir(cwd)
    sys.exit(subprocess.run(command, check=False).returncode)


def _bound() -> Iterator[Path]:
    """List the folders of this machine that a command sees."""
    yield from (Path("/", name) for name in KERNEL)
    yield from (path for path in Path("/").iterdir() if path.is_dir() and path.name not in SYSTEM and _own(path))
    yield Path("/usr/local")


def _own(path: Path) -> bool:
    """Check whether a folder at the top is neither a link nor a library's (`lib`, `lib64` ...)."""
    return not path.is_symlink() and not path.name.startswith("lib")


def _mirror() -> str:
    """Return where this machine's apt gets Debian from."""
    for refresh in (False, True):
        if refresh:
            _call("apt-get", "update", "-q")
        names = _call("apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian", "Label: Debian")
        if names:
            return names.split()[0]
    raise DevClusterError("apt names no source of Debian's own packages; see sources.list(5)")


def _call(*command: str) -> str:
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    if completed.returncode != 0:
        words = "\n".join((completed.stdout + completed.stderr).splitlines()[-15:])
        raise DevClusterError(f"`{' '.join(command)}` failed with status {completed.returncode}:\n{words}")
    return completed.stdout


def main() -> int:
    """Make the folder of a release, and run a command in it; returns the command's status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("release", help=f"release of Slurm: {', '.join(DEBIANS)}")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run there; default: a shell")
    arguments = parser.parse_args()
    try:
        if os.geteuid() != 0:
            raise DevClusterError("only root can enter another Debian")
        if sys.base_prefix == "/usr":
            raise DevClusterError(f"`{sys.executable}` belongs to this Debian; make .venv of a Python outside /usr")
        root = root_of(arguments.release)
    except DevClusterError as error:
        print(error, file=sys.stderr)
        return 2
    inside = [sys.executable, "-c", ENTER, str(root), *(arguments.command or ["bash"])]
    return subprocess.run(["unshare", "--mount", "--propagation", "private", *inside], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
