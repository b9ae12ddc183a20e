"""Builds and checks the worker's image: ``python containers/image.py build|check|path|render``; README.md says more.

An image is kept in a cache outside the repository, named by the hash of its definition and of the lock, so that it is
built once. As root without full capabilities nothing can be built: the work is then done as the ordinary user that
``containers/dev/apptainer.py up`` makes.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from containers.dev.apptainer import (
    DevApptainerError,
    debian_archive,
    find_apptainer,
    user_argv,
    user_environ,
    user_home_dir,
)
from xautolm_hpc import __version__

ROOT_DIR = Path(__file__).resolve().parents[1]
DEFINITION_PATH = ROOT_DIR / "containers" / "worker.def"
SELFTEST_PATH = ROOT_DIR / "containers" / "selftest.py"
LARGEST_MB = 450
SQUASH = "-comp zstd -Xcompression-level 9"
"""Packs in seconds where gzip takes minutes, and starts as fast."""

TORCH_BUILDS = ("cpu", "cuda")


def lock_parts(torch: str) -> list[Path]:
    """List the parts of the lock that an image holds."""
    return [ROOT_DIR / "lock" / f"{name}.txt" for name in ("build", "common", f"torch-{torch}")]


def lock_sha256(torch: str) -> str:
    """Hash the parts of the lock that an image holds, as ``make env`` does those of an environment."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in lock_parts(torch))).hexdigest()


def image_key(torch: str) -> str:
    """Name what an image is made from: its definition and its lock."""
    return hashlib.sha256(
        DEFINITION_PATH.read_bytes() + SELFTEST_PATH.read_bytes() + lock_sha256(torch).encode()
    ).hexdigest()[:16]


def cache_dir() -> Path:
    """Give the folder of built images: XAUTOLM_IMAGE_DIR, else below the builder's home."""
    named = os.environ.get("XAUTOLM_IMAGE_DIR")
    return Path(named) if named else user_home_dir() / ".cache" / "xautolm-hpc" / "images"


def image_path(torch: str) -> Path:
    """Say where the image of the present definition and lock lies, or would."""
    return cache_dir() / f"worker-{torch}-{image_key(torch)}.sif"


def build_arguments(torch: str, *, mirror: str, wheels_dir: str) -> dict[str, str]:
    """Give a value for every argument of the definition."""
    return {
        "torch": torch,
        "mirror": mirror,
        "wheels": wheels_dir,
        "version": __version__,
        "lock_sha256": lock_sha256(torch),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def render(arguments: dict[str, str]) -> str:
    """Fill the definition in, as Apptainer does.

    Raises:
        DevApptainerError: It has an argument that nobody gives a value.
    """
    text = DEFINITION_PATH.read_text()
    wanted = set(re.findall(r"{{ *(\w+) *}}", text))
    if unknown := sorted(wanted - set(arguments)):
        raise DevApptainerError(f"{DEFINITION_PATH.name}: nobody gives a value for {', '.join(unknown)}")
    return re.sub(r"{{ *(\w+) *}}", lambda match: arguments[match[1]], text)


def build(torch: str, *, mirror: str | None, sign_key: Path | None) -> Path:
    """Build the image unless the cache has it, and sign it if a key is given.

    Raises:
        DevApptainerError: There is no Apptainer, wheels could not be fetched, or the build failed.
    """
    path = image_path(torch)
    if path.exists():
        print(f"{path}: there already")
    else:
        _as_user("mkdir", "-p", str(path.parent))
        started = time.monotonic()
        _build(torch, path, mirror=mirror or debian_archive())
        print(f"{path}: built in {time.monotonic() - started:.0f} s, {path.stat().st_size / 2**20:.0f} MB")
    if sign_key is not None:
        _as_user(_apptainer(), "sign", "--key", str(sign_key), str(path))
        print(f"{path}: signed")
    return path


def _build(torch: str, path: Path, *, mirror: str) -> None:
    """Build in a folder of its own that the ordinary user can read, then move the image to its place."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="xautolm-image-") as folder:
        stage_dir = Path(folder)
        stage_dir.chmod(0o755)
        wheels_dir = stage_dir / "wheels"
        _fetch_wheels(torch, wheels_dir)
        shutil.copytree(ROOT_DIR / "lock", stage_dir / "lock")
        (stage_dir / "containers").mkdir()
        shutil.copy(DEFINITION_PATH, stage_dir)
        shutil.copy(SELFTEST_PATH, stage_dir / "containers")
        work_dir = stage_dir / "work"
        work_dir.mkdir()
        work_dir.chmod(0o1777)
        arguments = build_arguments(torch, mirror=mirror, wheels_dir=str(wheels_dir))
        words = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        built = work_dir / path.name
        _as_user(
            _apptainer(), "build", "--fakeroot", "--mksquashfs-args", SQUASH, *words, str(built),
            DEFINITION_PATH.name, cwd=stage_dir, scratch_dir=work_dir,
        )  # fmt: skip
        _as_user("mv", str(built), str(path))
        _as_user("rm", "-rf", *map(str, work_dir.glob("*")))


def _fetch_wheels(torch: str, wheels_dir: Path) -> None:
    """Let pip fetch the wheels here, with this machine's own settings; the build itself needs no index."""
    parts = [word for path in lock_parts(torch) for word in ("-r", str(path))]
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps",
        "--only-binary=:all:", "--python-version=3.11", "--dest", str(wheels_dir), *parts,
    ]  # fmt: skip
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    if completed.returncode != 0:
        words = "\n".join(completed.stderr.splitlines()[-5:])
        raise DevApptainerError(f"pip could not fetch the wheels of the lock (lock/README.md):\n{words}")
    for path in [wheels_dir, *wheels_dir.iterdir()]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def check(torch: str, *, verify_key: Path | None) -> None:
    """Check the image: its signature if a key is given, its own test, its lock and its size.

    Raises:
        DevApptainerError: There is no image, or it fails.
    """
    path = image_path(torch)
    if not path.exists():
        raise DevApptainerError(f"`{path}` does not exist: `make image` builds it")
    if verify_key is not None:
        _as_user(_apptainer(), "verify", "--key", str(verify_key), str(path))
    isolation = ("--containall", "--cleanenv", "--no-home")
    print(_as_user(_apptainer(), "test", *isolation, str(path)).strip())
    lock_line = _as_user(_apptainer(), "exec", *isolation, str(path), "cat", "/opt/worker/xautolm-lock.sha256").strip()
    if lock_line != lock_sha256(torch):
        raise DevApptainerError(f"`{path}` was made from another lock, {lock_line}; `make image` builds it anew")
    sizes = _as_user(_apptainer(), "exec", *isolation, str(path), "head", "-n", "12", "/opt/sizes.txt")
    size_mb = path.stat().st_size / 2**20
    print(f"largest packages, unpacked:\n{sizes.rstrip()}\nimage {size_mb:.0f} MB, sha256 {_sha256(path)}")
    if torch == "cpu" and size_mb > LARGEST_MB:
        raise DevApptainerError(f"`{path}` takes {size_mb:.0f} MB; at most {LARGEST_MB} MB are meant")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _apptainer() -> str:
    found = find_apptainer()
    if found is None:
        raise DevApptainerError("there is no apptainer; on Debian: sudo python containers/dev/apptainer.py up")
    return str(found)


def _as_user(*command: str, cwd: Path = Path("/"), scratch_dir: Path | None = None) -> str:
    """Run a command as the ordinary user; its words are shown only if it fails."""
    scratch = {} if scratch_dir is None else {"APPTAINER_TMPDIR": str(scratch_dir), "TMPDIR": str(scratch_dir)}
    try:
        argv = user_argv(*command)
    except KeyError as error:
        raise DevApptainerError("as root: python containers/dev/apptainer.py up makes the user that builds") from error
    completed = subprocess.run(
        argv, env={**user_environ(), **scratch}, cwd=cwd, capture_output=True, text=True, check=False
    )
    if completed.returncode != 0:
        words = "\n".join((completed.stdout + completed.stderr).splitlines()[-15:])
        raise DevApptainerError(f"`{' '.join(command[:3])} ...` failed with status {completed.returncode}:\n{words}")
    return completed.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; status 2 with words on standard error if it cannot be done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=("build", "check", "path", "render"))
    parser.add_argument("--torch", choices=TORCH_BUILDS, default="cpu", help="which torch (%(default)s)")
    parser.add_argument("--mirror", help="address of a Debian archive (default: that of this machine's apt)")
    parser.add_argument("--sign-key", type=Path, help="private key (PEM) to sign the image with")
    parser.add_argument("--verify-key", type=Path, help="public key (PEM) that must have signed the image")
    options = parser.parse_args(arguments)
    try:
        if options.verb == "build":
            build(options.torch, mirror=options.mirror, sign_key=options.sign_key)
        elif options.verb == "check":
            check(options.torch, verify_key=options.verify_key)
        elif options.verb == "path":
            print(image_path(options.torch))
        else:
            mirror = options.mirror or debian_archive()
            print(render(build_arguments(options.torch, mirror=mirror, wheels_dir="wheels")))
    except DevApptainerError as error:
        print(f"containers: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
