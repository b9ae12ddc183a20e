"""A cache of profiles beside the runs, by content: the same data is profiled once."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import xautolm_hpc
from xautolm_hpc import durable, jobdir
from xautolm_hpc.errors import InputError
from xautolm_hpc.jobdir import SPLITS, ProfileRequest, ProfileResult, split_path
from xautolm_hpc.records import canonical_json, from_json, to_json
from xautolm_hpc.task_kinds import TASK_KINDS

NOT_IN_KEY = ("data_dir", "cache_dir")
CONTENT_VERSION = 2
"""Goes up when the same data gives another profile. 2: classes in their own order, answers at the nearest mention."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile with its files.

    Attributes:
        result: Record of the profile.
        files: Split -> bytes of its file.
    """

    result: ProfileResult
    files: Mapping[str, bytes]


def cache_key(request: ProfileRequest, paths: Mapping[str, Sequence[Path]], *, contents: Mapping[Path, bytes]) -> str:
    """Digest everything a profile depends on: the input's bytes, the request, and the versions of what reads them."""
    asked = {name: value for name, value in to_json(request).items() if name not in NOT_IN_KEY}
    inputs = {
        split: [[path.name, hashlib.sha256(contents[path]).hexdigest()] for path in group]
        for split, group in paths.items()
    }
    versions = [TASK_KINDS[request.task_kind].feature_schema, xautolm_hpc.__version__, CONTENT_VERSION]
    described = canonical_json([inputs, asked, *versions])
    return hashlib.sha256(described.encode()).hexdigest()


def load_profile(entry_dir: Path) -> Profile | None:
    """Read a cached profile; ``None`` if there is none or it is damaged."""
    try:
        data = durable.read_json(entry_dir / jobdir.PROFILE_RESULT)
        result = from_json(ProfileResult, data, where=str(entry_dir))
        files = {split: split_path(entry_dir, split).read_bytes() for split in SPLITS}
    except (OSError, InputError):
        return None
    digests = {split: hashlib.sha256(content).hexdigest() for split, content in files.items()}
    return Profile(result, files) if digests == dict(result.sha256) else None


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a split.

    Raises:
        OSError: A file could not be written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for split, content in files.items():
        durable.write_bytes(split_path(folder, split), content)


def save_profile(entry_dir: Path, profile: Profile) -> None:
    """Write a profile to the cache; its result is written last and makes the entry complete.

    Raises:
        OSError: A file could not be written.
    """
    write_files(entry_dir, profile.files)
    durable.write_json(entry_dir / jobdir.PROFILE_RESULT, to_json(profile.result))
