"""Builds and checks the worker's image: ``python containers/image.py build|check|path|render``; README.md says more.

Images are kept in a cache outside the repository, under the hash of their definition and lock, so that each is built
once. Root without full capabilities cannot build; the build then runs as the ordinary user that
``containers/dev/apptainer.py up`` creates.
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
from dataclasses import dataclass
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
from containers.from_python import SCRIPT, PythonEnvironment, read_pins, read_requirements, write_definition
from xautolm_hpc import __version__

ROOT_DIR = Path(__file__).resolve().parents[1]
CONTAINERS_DIR = ROOT_DIR / "containers"
LARGEST_MB = 450
SQUASH = "-comp zstd -Xcompression-level 9 -noI"
"""Packs in seconds where gzip takes minutes, and starts as fast. Inodes are not compressed: they are read often."""

ISOLATION = ("--containall", "--cleanenv", "--no-home")
"""Nothing of the machine or the caller's environment reaches what is tried in an image."""

QUICK = {"DPKG_FORCE": "unsafe-io"}
"""dpkg does not flush every file to disk: a build does not have to survive a power cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecipe:
    """What an image is made from.

    Attributes:
        name: Beginning of the file's name.
        definition_path: Apptainer's definition.
        lock_names: Parts of the lock that it contains.
        sources: Files and folders of the repository that it contains.
        largest_mb: Size that ``check`` allows, in MiB, or ``None`` for any.
        is_worker: Whether it is for workers; such images contain the hash of their lock.
    """

    name: str
    definition_path: Path
    lock_names: tuple[str, ...]
    sources: tuple[str, ...]
    largest_mb: float | None = None
    is_worker: bool = True


RECIPES = {
    "cpu": ImageRecipe(
        name="worker-cpu",
        definition_path=CONTAINERS_DIR / "worker.def",
        lock_names=("build", "common", "torch-cpu"),
        sources=("containers/selftest.py", "containers/remember.py"),
        largest_mb=LARGEST_MB,
    ),
    "cuda": ImageRecipe(
        name="worker-cuda",
        definition_path=CONTAINERS_DIR / "worker.def",
        lock_names=("build", "common", "torch-cuda"),
        sources=("containers/selftest.py", "containers/remember.py"),
    ),
    "driver": ImageRecipe(
        name="driver",
        definition_path=CONTAINERS_DIR / "driver.def",
        lock_names=("build", "driver"),
        sources=("xautolm_hpc", "pyproject.toml", "README.md", "LICENSE"),
        is_worker=False,
    ),
}
"""The images, by their name on the command line."""


def lock_parts(image: str) -> list[Path]:
    """List the parts of the lock that an image contains."""
    return [ROOT_DIR / "lock" / f"{name}.txt" for name in RECIPES[image].lock_names]


def lock_sha256(image: str) -> str:
    """Hash the parts of the lock that an image contains, as ``make env`` does for an environment."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in lock_parts(image))).hexdigest()


def image_key(image: str) -> str:
    """Digest what an image is made from: its definition, its lock, its other files and how it is packed."""
    recipe = RECIPES[image]
    parts = [recipe.definition_path.read_bytes(), *(path.read_bytes() for path in _source_paths(recipe))]
    return hashlib.sha256(b"".join([*parts, SQUASH.encode(), lock_sha256(image).encode()])).hexdigest()[:16]


def _source_paths(recipe: ImageRecipe) -> list[Path]:
    """List the files of an image besides the lock, in a fixed order, without compiled Python."""
    found = [ROOT_DIR / source for source in recipe.sources]
    files = [path for top in found for path in ([top] if top.is_file() else sorted(top.rglob("*")))]
    return [path for path in files if path.is_file() and path.suffix != ".pyc"]


def cache_dir() -> Path:
    """Return the folder of built images: XAUTOLM_IMAGE_DIR, else a folder in the builder's home."""
    named = os.environ.get("XAUTOLM_IMAGE_DIR")
    return Path(named) if named else user_home_dir() / ".cache" / "xautolm-hpc" / "images"


def image_path(image: str, *, environment: PythonEnvironment | None = None) -> Path:
    """Return the path of the image of the present definition and lock, whether it exists or not.

    Args:
        image: One of :data:`RECIPES`.
        environment: What it contains instead of the packages of the lock.
    """
    name = f"{RECIPES[image].name}-{image_key(image)}"
    if environment is not None:
        made_from = f"{environment.sha256}{environment.interpreter}".encode() + SCRIPT.read_bytes()
        name = f"{name}-from-python-{hashlib.sha256(made_from).hexdigest()[:16]}"
    return cache_dir() / f"{name}.sif"


def contained_sha256(image: str, environment: PythonEnvironment | None) -> str:
    """Return what stands for the lock of an image: the lock's hash, or that of an environment that differs from it."""
    if environment is None or not environment.differences(read_pins(lock_parts(image))):
        return lock_sha256(image)
    return environment.sha256


def read_environment(image: str, interpreter: Path, *, without: Sequence[str] = ()) -> PythonEnvironment:
    """Read what an interpreter has of the packages of an image; :meth:`PythonEnvironment.read` names the errors."""
    requirements = read_requirements(lock_parts(image))
    return PythonEnvironment.read(interpreter.absolute(), requirements, without=without)


def build_arguments(image: str, *, mirror: str, wheels_dir: str) -> dict[str, str]:
    """Return a value for every argument of an image's definition."""
    common = {"mirror": mirror, "wheels": wheels_dir, "version": __version__}
    if not RECIPES[image].is_worker:
        return common
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {**common, "torch": image, "lock_sha256": lock_sha256(image), "created": created}


def render(image: str, arguments: dict[str, str]) -> str:
    """Fill in the arguments of a definition, as Apptainer does.

    Raises:
        DevApptainerError: An argument has no value.
    """
    path = RECIPES[image].definition_path
    text = path.read_text()
    wanted = set(re.findall(r"{{ *(\w+) *}}", text))
    if unknown := sorted(wanted - set(arguments)):
        raise DevApptainerError(f"{path.name}: there is no value for {', '.join(unknown)}")
    return re.sub(r"{{ *(\w+) *}}", lambda match: arguments[match[1]], text)


def build(
    image: str, *, mirror: str | None, sign_key: Path | None, environment: PythonEnvironment | None = None
) -> Path:
    """Build the image unless the cache has it, and sign it if a key is given.

    Args:
        image: One of :data:`RECIPES`.
        mirror: Address of a Debian archive; ``None`` takes that of this machine's apt.
        sign_key: Private key (PEM), or ``None``.
        environment: What it is to contain instead of the packages of the lock; then nothing is fetched.

    Raises:
        DevApptainerError: Apptainer is missing, wheels could not be fetched, or the build failed.
    """
    path = image_path(image, environment=environment)
    if path.exists():
        print(f"{path}: there already")
    else:
        _as_user("mkdir", "-p", str(path.parent))
        started = time.monotonic()
        if environment is None:
            _build(image, path, mirror=mirror or debian_archive())
        else:
            _build_from_python(image, path, environment=environment)
        print(f"{path}: built in {time.monotonic() - started:.0f} s, {path.stat().st_size / 2**20:.0f} MB")
    if sign_key is not None:
        _as_user(_apptainer(), "sign", "--key", str(sign_key), str(path))
        print(f"{path}: signed")
    return path


def _build(image: str, path: Path, *, mirror: str) -> None:
    """Build in a temporary folder that the ordinary user can read, then move the image to its place."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="xautolm-image-") as folder:
        stage_dir = Path(folder)
        stage_dir.chmod(0o755)
        wheels_dir = stage_dir / "wheels"
        _fetch_wheels(image, wheels_dir)
        recipe = RECIPES[image]
        for source in [recipe.definition_path, *lock_parts(image), *_source_paths(recipe)]:
            staged = stage_dir / source.relative_to(ROOT_DIR)
            staged.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, staged)
        work_dir = stage_dir / "work"
        work_dir.mkdir()
        work_dir.chmod(0o1777)
        arguments = build_arguments(image, mirror=mirror, wheels_dir=str(wheels_dir))
        words = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        built = work_dir / path.name
        _as_user(
            _apptainer(), "build", "--fakeroot", "--mksquashfs-args", SQUASH, *words, str(built),
            str(recipe.definition_path.relative_to(ROOT_DIR)), cwd=stage_dir, scratch_dir=work_dir,
        )  # fmt: skip
        _as_user("mv", str(built), str(path))
        _as_user("rm", "-rf", *map(str, work_dir.glob("*")))


def _build_from_python(image: str, path: Path, *, environment: PythonEnvironment) -> None:
    """Copy an environment to the root of an image, pack it, test it, then move the image to its place."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="xautolm-image-") as folder:
        stage_dir = Path(folder)
        stage_dir.chmod(0o755)
        root, work_dir = stage_dir / "root", stage_dir / "work"
        root.mkdir()
        work_dir.mkdir()
        work_dir.chmod(0o1777)
        environment.copy_to(root)
        shutil.copyfile(CONTAINERS_DIR / "selftest.py", root / "opt" / "selftest.py")
        contents = {
            "worker/xautolm-lock.sha256": [contained_sha256(image, environment)],
            "packages.txt": [f"{name}=={version}" for name, version in environment.packages.items()],
            "differs.txt": environment.differences(read_pins(lock_parts(image))),
        }
        for name, lines in contents.items():
            (root / "opt" / name).write_text("".join(f"{line}\n" for line in lines))
        definition = stage_dir / "from-python.def"
        definition.write_text(render_from_python(image, environment, root=root))
        built = work_dir / path.name
        _as_user(
            _apptainer(), "build", "--notest", "--mksquashfs-args", SQUASH, str(built), str(definition),
            cwd=stage_dir, scratch_dir=work_dir,
        )  # fmt: skip
        _as_user(_apptainer(), "test", *ISOLATION, str(built))
        _as_user("mv", str(built), str(path))
        _as_user("rm", "-rf", *map(str, work_dir.glob("*")))


def render_from_python(image: str, environment: PythonEnvironment, *, root: Path) -> str:
    """Write the definition of an image of an environment that is there, with labels of what differs from the lock."""
    arguments = build_arguments(image, mirror="", wheels_dir="")
    differs = environment.differences(read_pins(lock_parts(image)))
    labels = {
        "xautolm.from-python": str(environment.interpreter),
        "xautolm.lock.compared": lock_sha256(image),
        "xautolm.lock.differs": ",".join(differs) or "none",
    }
    text = render(image, {**arguments, "lock_sha256": contained_sha256(image, environment)})
    return write_definition(text, environment, root=root, labels=labels)


def _fetch_wheels(image: str, wheels_dir: Path) -> None:
    """Download the wheels with pip and the settings of this machine; the build itself needs no index."""
    parts = [word for path in lock_parts(image) for word in ("-r", str(path))]
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


def check(image: str, *, verify_key: Path | None, environment: PythonEnvironment | None = None) -> None:
    """Check an image: its signature if a key is given, its own test, its lock and its size.

    Args:
        image: One of :data:`RECIPES`.
        verify_key: Public key (PEM) that must have signed it, or ``None``.
        environment: What it contains instead of the packages of the lock; it may have any size then.

    Raises:
        DevApptainerError: The image does not exist or fails a check.
    """
    path, recipe = image_path(image, environment=environment), RECIPES[image]
    if not path.exists():
        raise DevApptainerError(f"`{path}` does not exist: `make image` builds it")
    if verify_key is not None:
        _as_user(_apptainer(), "verify", "--key", str(verify_key), str(path))
    print(_as_user(_apptainer(), "test", *ISOLATION, str(path)).strip())
    if recipe.is_worker:
        found = _as_user(_apptainer(), "exec", *ISOLATION, str(path), "cat", "/opt/worker/xautolm-lock.sha256").strip()
        if found != contained_sha256(image, environment):
            raise DevApptainerError(f"`{path}` was made from another lock, {found}; `make image` builds it again")
    if environment is not None:
        differs = environment.differences(read_pins(lock_parts(image)))
        print(f"not as the lock has it: {', '.join(differs) or 'nothing'}")
    sizes = _as_user(_apptainer(), "exec", *ISOLATION, str(path), "head", "-n", "12", "/opt/sizes.txt")
    size_mb = path.stat().st_size / 2**20
    print(f"largest packages, unpacked:\n{sizes.rstrip()}\nimage {size_mb:.0f} MB, sha256 {_sha256(path)}")
    if environment is None and recipe.largest_mb is not None and size_mb > recipe.largest_mb:
        raise DevApptainerError(f"`{path}` takes {size_mb:.0f} MB; at most {recipe.largest_mb:g} MB are meant")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _apptainer() -> str:
    found = find_apptainer()
    if found is None:
        raise DevApptainerError("there is no apptainer; on Debian: sudo python containers/dev/apptainer.py up")
    return str(found)


def _as_user(*command: str, cwd: Path = Path("/"), scratch_dir: Path | None = None) -> str:
    """Run a command as the ordinary user; its output is shown only if it fails."""
    scratch = {} if scratch_dir is None else {"APPTAINER_TMPDIR": str(scratch_dir), "TMPDIR": str(scratch_dir), **QUICK}
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
    """Run a command line; return status 2 with a message on standard error if it fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=("build", "check", "path", "render"))
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--torch", choices=("cpu", "cuda"), default="cpu", help="the worker's, this torch (%(default)s)")
    which.add_argument("--driver", action="store_true", help="the driver's")
    parser.add_argument("--mirror", help="address of a Debian archive (default: that of this machine's apt)")
    parser.add_argument("--sign-key", type=Path, help="private key (PEM) to sign the image with")
    parser.add_argument("--verify-key", type=Path, help="public key (PEM) that must have signed the image")
    parser.add_argument(
        "--from-python",
        type=Path,
        metavar="PYTHON",
        help="take the packages of this interpreter instead of those of the lock; not for an image to release",
    )
    parser.add_argument(
        "--without", action="append", default=[], metavar="PACKAGE", help="--from-python: a package that may be missing"
    )
    options = parser.parse_args(arguments)
    image = "driver" if options.driver else options.torch
    if options.from_python is not None and options.driver:
        parser.error("--from-python is for the worker's image")
    try:
        environment = None
        if options.from_python is not None:
            environment = read_environment(image, options.from_python, without=options.without)
        if options.verb == "build":
            build(image, mirror=options.mirror, sign_key=options.sign_key, environment=environment)
        elif options.verb == "check":
            check(image, verify_key=options.verify_key, environment=environment)
        elif options.verb == "path":
            print(image_path(image, environment=environment))
        elif environment is not None:
            print(render_from_python(image, environment, root=Path("root")))
        else:
            mirror = options.mirror or debian_archive()
            print(render(image, build_arguments(image, mirror=mirror, wheels_dir="wheels")))
    except DevApptainerError as error:
        print(f"containers: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
