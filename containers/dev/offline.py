"""Namespaces without network, in which the ordinary user runs commands: for tests of nodes without internet.

A network namespace without a route, with ``lo`` up, and a mount namespace in which that user can read this repository
and its interpreter even if a folder above them is closed to others. Only root can create them.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from containers.dev.apptainer import DevApptainerError, user_argv, user_environ, user_home_dir

ROOT_DIR = Path(__file__).resolve().parents[2]
COMMAND_S = 600.0
LINKS = (
    "ip link set lo up",
    "ip link add here type veth peer name nowhere",
    "ip addr add 192.0.2.1/32 dev here",  # an address for documentation: nothing routes there
    "ip link set here up",
)
"""A machine without a network still has an address; Slurm's controller does not start without one."""


class OfflinePlace:
    """The namespaces and a folder in them that belongs to the ordinary user: ``with OfflinePlace() as place:``.

    Args:
        name: Beginning of the folder's name.

    Attributes:
        folder: The folder, empty at first; removed at the end.
        environ: The ordinary user's whole environment.
    """

    def __init__(self, name: str = "offline") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=user_home_dir()))
        self.environ = user_environ()
        self._mounts = tempfile.TemporaryDirectory()
        self._keeper: subprocess.Popen[str] | None = None
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise DevApptainerError("only root can take the network away; run as root, on a machine of its own")
        self.folder.chmod(0o755)
        status = user_home_dir().stat()
        os.chown(self.folder, status.st_uid, status.st_gid)
        script = "\n".join(["set -e", *LINKS, *self._mount_lines(), "echo ready", "exec sleep infinity"])
        self._keeper = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "--", "sh", "-c", script],
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._keeper.stdout is None or self._keeper.stdout.readline() != "ready\n":
            raise DevApptainerError("the place without network could not be made; see the lines above")
        return self

    def __exit__(self, *error: object) -> None:
        for process in (*self._started, *filter(None, [self._keeper])):
            process.kill()
            process.wait()
        self._mounts.cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)

    def argv(self, *command: str, as_root: bool = False) -> list[str]:
        """Return the command line that runs a command in this place."""
        if self._keeper is None:
            raise DevApptainerError("the place is not open: with OfflinePlace() as place")
        inside = [*command] if as_root else user_argv(*command)
        return ["nsenter", f"--target={self._keeper.pid}", "--mount", "--net", "--", *inside]

    def run(self, *command: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command as the ordinary user and wait for its end."""
        return subprocess.run(
            self.argv(*command),
            env={**self.environ, **(environ or {})},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )

    def start(self, command: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start a command as the ordinary user, its whole output in one pipe; it is killed at the end of the place."""
        process = subprocess.Popen(
            self.argv(*command),
            env={**self.environ, **environ},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._started.append(process)
        return process

    def processes(self) -> list[str]:
        """List the processes of this place: pid and command line."""
        if self._keeper is None:
            return []
        ours, found = (Path("/proc") / str(self._keeper.pid) / "ns" / "net").readlink(), []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has just ended
                if (path / "ns" / "net").readlink() == ours:
                    words = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found.append(f"{path.name} {words}".strip())
        return found

    def _mount_lines(self) -> list[str]:
        """Write the shell that opens what the ordinary user must read but cannot reach."""
        needed = {Path(sys.base_prefix).resolve(), ROOT_DIR, Path(sys.prefix).resolve()}
        closed = {path: top for path in needed if (top := _closed_ancestor(path)) is not None}
        lines = []
        for number, path in enumerate(closed):
            aside = f"{self._mounts.name}/{number}"
            lines += [f"mkdir {shlex.quote(aside)}", f"mount --bind {shlex.quote(str(path))} {shlex.quote(aside)}"]
        lines += [f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(top))}" for top in sorted({*closed.values()})]
        for number, path in enumerate(closed):
            quoted = shlex.quote(str(path))
            lines += [f"mkdir -p {quoted}", f"mount --bind {shlex.quote(f'{self._mounts.name}/{number}')} {quoted}"]
        return lines


def _closed_ancestor(path: Path) -> Path | None:
    """Find the topmost folder above a path that others cannot pass through."""
    return next((folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001), None)
