"""An environment that is there, in place of the wheels of the lock: what of it differs, and the root of its image.

For a machine to which the wheels cannot be brought. Such an image proves definition, binds and self-test there; a
released one is built from the lock.
"""

import hashlib
import json
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from containers.dev.apptainer import DevApptainerError

CONTAINERS_DIR = Path(__file__).resolve().parent
SCRIPT = CONTAINERS_DIR / "environment.py"
PYTHON = "3.11"
"""The Python that the lock is for."""

OLDEST = (3, 11)
PIN = re.compile(r"^([A-Za-z0-9].*==.*?)(?: \\)?$", flags=re.MULTILINE)


def read_pins(paths: Iterable[Path]) -> dict[str, str]:
    """Read what parts of the lock pin for a machine like this one: package -> version."""
    pins = [Requirement(text) for path in paths for text in PIN.findall(path.read_text())]
    here = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in here}


def read_requirements(paths: Iterable[Path]) -> list[str]:
    """Read what parts of the lock were resolved from: a requirement for each package that is asked for by name."""
    lines = [line.strip() for path in paths for line in path.with_suffix(".in").read_text().splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


@dataclass(frozen=True)
class PythonEnvironment:
    """What an interpreter has of the packages that an image needs.

    Attributes:
        interpreter: Its path.
        requirements: What was asked for.
        python: Its version.
        packages: Package -> version, of what was asked for and all that it needs.
    """

    interpreter: Path
    requirements: Sequence[str]
    python: str
    packages: Mapping[str, str]

    @classmethod
    def read(cls, interpreter: Path, requirements: Sequence[str], *, without: Sequence[str] = ()) -> Self:
        """Ask an interpreter for its packages.

        Args:
            interpreter: The interpreter, also that of a virtual environment.
            requirements: What the image is to contain.
            without: Packages that may be missing.

        Raises:
            DevApptainerError: It is no Python, too old, lacks a package, or has one whose files lie elsewhere.
        """
        said = json.loads(_call(interpreter, "describe", *requirements))
        if tuple(map(int, said["python"].split(".")[:2])) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise DevApptainerError(f"`{interpreter}` is Python {said['python']}; expected {oldest} or newer")
        allowed = {canonicalize_name(name) for name in without}
        lacking = {name: needed_by for name, needed_by in said["missing"].items() if name not in allowed}
        if lacking:
            words = ", ".join(f"{name} (needed by {needed_by})" for name, needed_by in lacking.items())
            raise DevApptainerError(
                f"`{interpreter}` lacks {words}. Install them there, or leave them out: "
                + " ".join(f"--without {name}" for name in lacking)
            )
        if said["unusable"]:
            words = "; ".join(f"{name}: {reason}" for name, reason in said["unusable"].items())
            raise DevApptainerError(f"`{interpreter}` has what cannot be copied: {words}. Install wheels instead")
        return cls(interpreter, requirements, said["python"], said["packages"])

    def differences(self, pins: Mapping[str, str]) -> list[str]:
        """List what is not as the lock has it, ``name=version``, sorted; ``none`` stands for what is not there.

        Args:
            pins: What the lock pins.
        """
        names = sorted({*pins, *self.packages})
        found = [
            f"{name}={self.packages.get(name, 'none')}" for name in names if pins.get(name) != self.packages.get(name)
        ]
        return ([] if self.python.startswith(f"{PYTHON}.") else [f"python={self.python}"]) + found

    @property
    def sha256(self) -> str:
        """Hash of all versions: it stands for the hash of a lock."""
        lines = [f"python=={self.python}", *(f"{name}=={version}" for name, version in sorted(self.packages.items()))]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def copy_to(self, root: Path) -> None:
        """Copy interpreter, packages and what they load of the system to the root of an image.

        Raises:
            DevApptainerError: A step failed.
        """
        _call(self.interpreter, "copy", str(root), *self.requirements)


def write_definition(text: str, environment: PythonEnvironment, *, root: Path, labels: Mapping[str, str]) -> str:
    """Write a definition for a root that is there: that of the released image without what fetches and installs.

    Args:
        text: The released image's definition, rendered.
        environment: What the root was made from.
        root: The root.
        labels: Further labels.
    """
    sections = text[text.index("%environment") :].replace(f"Python {PYTHON}", f"Python {environment.python}")
    sections = sections.replace("/opt/debian-packages.txt, /opt/lock/", "/opt/packages.txt, /opt/differs.txt")
    lines = "".join(f"    {name} {value}\n" for name, value in labels.items())
    return f"Bootstrap: localimage\nFrom: {root}\n\n" + sections.replace("%labels\n", f"%labels\n{lines}", 1)


def _call(interpreter: Path, *words: str) -> str:
    """Run the script with an interpreter; `-c` first, so that no other program takes the script for its input."""
    try:
        asked = _run(interpreter, "-c", "import sys; print(sys.implementation.name)")
        if asked.returncode != 0 or asked.stdout.strip() != "cpython":
            raise DevApptainerError(f"`{interpreter}` is not a Python interpreter (CPython)")
        done = _run(interpreter, str(SCRIPT), *words)
    except OSError as error:
        raise DevApptainerError(f"`{interpreter}` is not a Python interpreter: {error.strerror}") from error
    if done.returncode != 0:
        tail = "\n".join(done.stderr.splitlines()[-5:])
        raise DevApptainerError(f"the environment of `{interpreter}` could not be read or copied:\n{tail}")
    return done.stdout


def _run(interpreter: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(interpreter), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
