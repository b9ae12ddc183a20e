"""Which profiles had their job check already: one small file beside the runs."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xautolm_hpc import __version__
from xautolm_hpc.config import ClusterProfile
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.errors import InputError
from xautolm_hpc.node import utc_text
from xautolm_hpc.records import canonical_json

FILE_NAME = ".job-checks.json"
START = "start_s of {}"
NOT_IN_KEY: Mapping[str, Any] = {"patience": True, "system": True, "job": {"trials_per_job": True}}
"""What of a profile changes nothing about whether a job can run, in pydantic's form."""


def job_check_key(profile: ClusterProfile) -> str:
    """Digest what a job check depends on: the profile, its image's file and this package's version."""
    described = profile.model_dump(mode="json", exclude=dict(NOT_IN_KEY))
    image = None if profile.container is None else _stamp(Path(profile.container.image))
    return hashlib.sha256(canonical_json([described, image, __version__]).encode()).hexdigest()


def recall_job_check(runs_dir: Path, key: str) -> bool:
    """Check whether a job check of this key passed already; a damaged file counts as none."""
    try:
        return key in read_json(runs_dir / FILE_NAME)
    except (OSError, InputError):
        return False


def remember_job_check(runs_dir: Path, key: str, *, now: float) -> None:
    """Remember that a job check passed.

    Args:
        runs_dir: Folder of run folders.
        key: What :func:`job_check_key` gave.
        now: Seconds since the epoch.

    Raises:
        OSError: The file system refused.
    """
    _add(runs_dir, key, value=utc_text(now))


def recall_start_s(runs_dir: Path, key: str) -> float | None:
    """Return how long a worker of this key took to import its libraries, in seconds; ``None`` if nobody measured it."""
    try:
        seconds = read_json(runs_dir / FILE_NAME).get(START.format(key))
    except (OSError, InputError):
        return None
    return float(seconds) if isinstance(seconds, int | float) else None


def remember_start_s(runs_dir: Path, key: str, *, start_s: float) -> None:
    """Remember how long a worker took to import its libraries.

    Args:
        runs_dir: Folder of run folders.
        key: What :func:`job_check_key` gave.
        start_s: The seconds.

    Raises:
        OSError: The file system refused.
    """
    _add(runs_dir, START.format(key), value=start_s)


def _add(runs_dir: Path, key: str, *, value: object) -> None:
    path = runs_dir / FILE_NAME
    try:
        known = read_json(path)
    except (OSError, InputError):
        known = {}
    write_json(path, {**known, key: value})


def _stamp(path: Path) -> list[int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
