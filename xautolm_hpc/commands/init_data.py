"""Where the data of a new search lies: a file or folder, or a data set of the hub, fetched if need be."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xautolm_hpc.dataset import (
    DataSection,
    Files,
    cached_files,
    declare_whole,
    extension_of,
    repository_dir,
    snapshot_dir,
)
from xautolm_hpc.errors import DataError
from xautolm_hpc.prefetch import fetch_repository, plan_data

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
COMMIT = re.compile(r"[0-9a-f]{40}")
MAX_LISTED = 12
COLUMN_KEY = re.compile(r"(?<![\w/.`])data\.(text|label|question|context|answers|delimiter)\b")
ON = ("1", "TRUE", "YES", "ON")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundData:
    """The data of a new search.

    Attributes:
        path: Its file or folder; of a data set of the hub, its folder in the offline cache.
        files: Split -> names of its files in the folder, where that is known.
        hub: Data set of the hub and its commit, or ``None``.
    """

    path: Path
    files: Files | None = None
    hub: tuple[str, str] | None = None


def name_options(message: str) -> str:
    """Write beside each key that a message about data names the option of ``init`` that says the same."""
    return COLUMN_KEY.sub(r"data.\1 (here: --\1)", message)


def find_new_data(data: str, revision: str | None, *, hf_home: Path, environ: Mapping[str, str]) -> FoundData:
    """Find the data that a person names.

    Args:
        data: A file, a folder, or a data set of the hub as OWNER/NAME.
        revision: Commit, branch or tag of the data set of the hub; the newest that is in the cache, or that the hub
            has, when absent.
        hf_home: Offline cache of the hub.
        environ: The person's environment.

    Raises:
        DataError: There is no such file, or the hub may not be asked. A name that looks like a path is never asked of
            the hub, unless a revision is given.
    """
    path = Path(data).expanduser()
    if path.exists():
        return FoundData(path=path)
    if path.is_symlink():
        raise DataError(f"`{data}` is a link to `{path.readlink()}`, where there is nothing; give a file or folder")
    if revision is None and _looks_like_path(data):
        raise DataError(f"`{data}` does not exist; {_what_is_there(path.parent)}")
    if HUB_ID.fullmatch(data) is None:
        raise DataError(f"`{data}` does not exist; give a file, a folder, or a data set of the hub as OWNER/NAME")
    commit = revision or _newest_cached(hf_home, data)
    section = DataSection.model_construct(hub=data, revision=commit)
    cached: Files | None = cached_files(hf_home, section) if commit else None
    if cached is None:
        section, cached = _fetch(section, hf_home=hf_home, environ=environ)
    return FoundData(path=snapshot_dir(hf_home, section), files=cached, hub=(data, str(section.revision)))


def _looks_like_path(data: str) -> bool:
    """Check whether a name is one of a file that is not there, rather than of a data set of the hub."""
    first, slash, _ = data.partition("/")
    return bool(slash) and (extension_of(data) is not None or Path(first).is_dir())


def _what_is_there(folder: Path) -> str:
    """List what could have been meant in a folder."""
    if not folder.is_dir():
        return f"nor does its folder `{folder}`"
    names = sorted(path.name for path in folder.iterdir())
    listed = ", ".join(names[:MAX_LISTED]) + (", ..." if len(names) > MAX_LISTED else "")
    return f"its folder `{folder}` holds: {listed or 'nothing'}"


def _newest_cached(hf_home: Path, hub: str) -> str | None:
    """Find the commit of a data set that was last fetched whole; ``None`` if none was."""
    listings = sorted(repository_dir(hf_home, hub).glob("verified-*.json"), key=lambda path: path.stat().st_mtime)
    found = [COMMIT.search(path.name) for path in listings]
    return next((match[0] for match in reversed(found) if match), None)


def _fetch(section: DataSection, *, hf_home: Path, environ: Mapping[str, str]) -> tuple[DataSection, Files]:
    """Download a data set of the hub into the offline cache, as ``prefetch`` does."""
    if environ.get("HF_HUB_OFFLINE", "0").upper() in ON:
        raise DataError(
            f"`{section.hub}` is no file here and not in the offline cache `{hf_home}`, and HF_HUB_OFFLINE is set: "
            "unset it, or give a file or folder"
        )
    endpoint, token = environ.get("HF_ENDPOINT") or None, environ.get("HF_TOKEN") or None
    planned = plan_data(section, endpoint=endpoint, token=token)
    if planned is None:
        raise DataError("init: the data is no data set of the hub")
    plan, files = planned
    whole = DataSection(hub=section.hub, revision=plan.commit)
    fetch_repository(plan, hf_home, endpoint=endpoint, token=token, on_verified=lambda n_bytes: None)
    declare_whole(hf_home, whole, files=files)
    return whole, files
