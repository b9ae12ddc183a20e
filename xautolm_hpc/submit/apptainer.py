"""The worker's command inside an image: what is bound, what is passed, what is checked before it starts.

The worker may write its attempt folder, what its command names as writable, and scratch on the node's own disk, which
goes when it ends. Everything else is read-only. Paths are the same inside as outside, but for scratch and the program.
"""

import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from xautolm_hpc.errors import ImageError
from xautolm_hpc.image import Bind, Container, read_image
from xautolm_hpc.jobdir import Command

SCRATCH_DIR = "/scratch"
NOT_PASSED = ("PATH", "HOME", "TMPDIR", "USER", "LOGNAME", "PYTHONPATH", "LD_LIBRARY_PATH")
"""Outside's own; the image has its own values, or Apptainer sets them."""

PASSED_TO_APPTAINER = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL")
MOUNT_PROGRAMS = ("squashfuse_ll", "squashfuse", "fuse2fs", "fuse-overlayfs")
DEAF = "#!/bin/sh\ntrap '' TERM INT HUP USR1 USR2\nexec {program} \"$@\"\n"
"""Starts a mount program that no polite signal ends. Slurm preempts by SIGTERM to every process of a job; without
this the image would vanish under the worker while it writes its checkpoint, and the worker die of SIGBUS."""

DRIVER_LIBRARY, C_LIBRARY = "libcuda.so.1", "libc.so.6"
DRIVER_DIRS = (
    "/usr/local/nvidia/lib64",
    "/usr/local/nvidia/lib",
    "/usr/lib64/nvidia",
    "/run/nvidia/driver/usr/lib/x86_64-linux-gnu",
    "/run/nvidia/driver/usr/lib64",
    "/run/opengl-driver/lib",
    "/usr/lib/wsl/lib",
)
"""Where a node may have its driver beside the system's own folders, which alone Apptainer's ``--nv`` looks through."""

VERIFY_LIMIT_S = 300.0
REFUSED_STATUS = 255
"""Exit status of Apptainer when it could not start the program."""


def container_argv(container: Container, argv: Sequence[str], *, attempt_dir: str, scratch_dir: str) -> list[str]:
    """Write the command that runs a worker inside its image.

    Args:
        container: The image and what is bound.
        argv: Program and arguments inside.
        attempt_dir: Attempt folder; bound for writing and the working folder.
        scratch_dir: Folder on the node's own disk, as :func:`scratch` makes it.
    """
    binds = [f"{bind.source}:{bind.target}:ro" for bind in container.binds]
    binds += [f"{path}:{path}:rw" for path in (*container.writable, attempt_dir)]
    return [
        container.program,
        "exec",
        "--containall",
        "--cleanenv",
        *(["--nv"] if container.nv else []),
        "--home",
        f"{scratch_dir}/home:{SCRATCH_DIR}/home",
        "--workdir",
        f"{scratch_dir}/work",
        *(word for bind in [f"{scratch_dir}/caches:{SCRATCH_DIR}/caches:rw", *binds] for word in ("--bind", bind)),
        "--pwd",
        attempt_dir,
        *container.options,
        container.image,
        *argv,
        attempt_dir,
    ]


def container_environment(container: Container, inside: Mapping[str, str], *, scratch_dir: str) -> dict[str, str]:
    """Build Apptainer's whole environment: a few basics for itself, and what it is to set inside.

    Args:
        container: The image.
        inside: Variables of the worker, allow-listed, with those that only the node knows.
        scratch_dir: Folder on the node's own disk; its programs come first.
    """
    passed = {name: value for name, value in inside.items() if name not in NOT_PASSED}
    passed["PYTHONPATH"] = container.program_dir
    passed["XAUTOLM_SCRATCH"] = f"{SCRATCH_DIR}/caches"
    if container.driver_path:
        passed["LD_LIBRARY_PATH"] = container.driver_path
    passed["XAUTOLM_IMAGE_DIGEST"] = container.image_sha256
    if container.lock_sha256:
        passed["XAUTOLM_LOCK_HASH"] = container.lock_sha256
    own = {name: inside[name] for name in PASSED_TO_APPTAINER if name in inside}
    own["PATH"] = f"{scratch_dir}/bin:{own.get('PATH', os.defpath)}"
    return {**own, **{f"APPTAINERENV_{name}": value for name, value in passed.items()}}


@contextmanager
def scratch(command: Command, attempt_dir: Path, *, environ: Mapping[str, str]) -> Iterator[Path]:
    """Make a worker's folder on the node's own disk; it goes when the worker has ended.

    Args:
        command: The worker.
        attempt_dir: Its attempt folder.
        environ: The node's environment; ``scratch`` of the cluster profile may name a variable of it.

    Raises:
        ImageError: The profile names a variable that is not set here.
        OSError: The folder cannot be made, for instance because the disk is full.
    """
    container = command.container
    named = container.scratch_dir if container else None
    base = _expand(named, environ) if named else environ.get("TMPDIR") or tempfile.gettempdir()
    path = Path(tempfile.mkdtemp(prefix="xautolm-", dir=base))
    try:
        for name in ("home", "work/tmp", "work/var_tmp", "caches", "bin"):
            (path / name).mkdir(parents=True)
        _deafen_mount_programs(path / "bin")
        if container:
            _make_mount_points(path, container.binds, writable=[*container.writable, str(attempt_dir)])
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def check_container(container: Container) -> Container:
    """Check before the start what Apptainer would fail on, with clearer messages.

    Returns:
        The same, with the path of Apptainer on this node.

    Raises:
        ImageError: There is no Apptainer here, the image is damaged, was replaced or is not signed with the site's
            key, or what is to be bound is missing.
    """
    program = shutil.which(container.program)
    if program is None:
        raise ImageError(f"`{container.program}` is not on PATH of this node; see [container] program in the profile")
    image = read_image(Path(container.image), machine=platform.machine())
    if image.stamp != container.image_stamp:
        raise ImageError(
            f"image `{container.image}` was replaced since the driver looked at it; start the driver again"
        )
    for source in [*(bind.source for bind in container.binds), *container.writable]:
        if not Path(source).exists():
            raise ImageError(f"`{source}`, which is to be bound into the image, does not exist on this node")
    if container.driver_path:
        _check_driver(Path(container.driver_path))
    if container.verify_key:
        verify_signature(program, container.image, key_path=container.verify_key)
    return replace(container, program=program)


def find_driver(environ: Mapping[str, str]) -> str | None:
    """Find the folder of this node's driver where it is a place of its own; ``None`` where there is none.

    Args:
        environ: The node's environment; its library path is looked through first.
    """
    for folder in [*filter(None, environ.get("LD_LIBRARY_PATH", "").split(":")), *DRIVER_DIRS]:
        if (Path(folder) / DRIVER_LIBRARY).exists() and not (Path(folder) / C_LIBRARY).exists():
            return folder
    return None


def verify_signature(program: str, image: str, *, key_path: str) -> None:
    """Check that an image was signed with the site's key.

    Raises:
        ImageError: It was not, was changed since, or the key is missing.
    """
    command = [program, "verify", "--key", key_path, image]
    try:
        completed = subprocess.run(command, capture_output=True, text=True, timeout=VERIFY_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageError(f"image `{image}`: its signature could not be checked: {error}") from error
    if completed.returncode != 0:
        message = (completed.stderr.strip() or completed.stdout.strip()).splitlines()[-1:]
        raise ImageError(f"image `{image}` has no valid signature of the key `{key_path}`: {''.join(message)}")


def _check_driver(folder: Path) -> None:
    """Check that a folder can stand in an image's library path: it holds the driver, and not the node's C library."""
    if not (folder / DRIVER_LIBRARY).exists():
        raise ImageError(f"`{folder}`, [container] driver_path, holds no {DRIVER_LIBRARY} on this node")
    if (folder / C_LIBRARY).exists():
        raise ImageError(
            f"`{folder}`, [container] driver_path, holds this node's {C_LIBRARY} too, which would replace the image's; "
            "leave it out: `--nv` looks through the system's folders itself"
        )


def _deafen_mount_programs(folder: Path) -> None:
    """Write a starter for every mount program of this node to a folder that Apptainer looks into first."""
    for name in MOUNT_PROGRAMS:
        if (program := shutil.which(name)) is not None:
            (folder / name).write_text(DEAF.format(program=shlex.quote(program)))
            (folder / name).chmod(0o700)


def _expand(named: str, environ: Mapping[str, str]) -> str:
    """Replace the name of a variable by its value: ``$TMPDIR`` or ``$TMPDIR/xautolm``."""
    if not named.startswith("$"):
        return named
    name, slash, rest = named[1:].partition("/")
    if not environ.get(name):
        raise ImageError(f"[container] scratch = {named!r}: ${name} is not set on this node")
    return environ[name] + slash + rest


def _make_mount_points(path: Path, binds: Sequence[Bind], *, writable: Sequence[str]) -> None:
    """Make what is to be bound below the image's /tmp and /var/tmp: those are folders of scratch, not the image's."""
    targets = {bind.target: bind.source for bind in binds} | {name: name for name in writable}
    for target, source in targets.items():
        for top, name in (("/tmp/", "tmp"), ("/var/tmp/", "var_tmp")):  # noqa: S108 - mount points
            if target.startswith(top):
                point = path / "work" / name / target.removeprefix(top)
                if Path(source).is_dir():
                    point.mkdir(parents=True, exist_ok=True)
                else:
                    point.parent.mkdir(parents=True, exist_ok=True)
                    point.touch()
