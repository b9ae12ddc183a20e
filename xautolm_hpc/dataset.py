"""The user's data: what ``[data]`` says of it, which files are which split, and whether the offline cache has them."""

import fnmatch
import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.errors import DataError
from xautolm_hpc.records import canonical_json

EXTENSIONS = (".jsonl", ".jsonl.gz", ".csv", ".tsv", ".parquet", ".arrow")
SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
"""Split -> words by which files of a hub repository, or their folders, are known to belong to it."""

MAX_LISTED = 12

Files = Mapping[str, tuple[str, ...]]
"""Split -> names of its files, in order."""

Count = Annotated[int, Field(ge=1)]


class DataSection(BaseModel):
    """``[data]``: where the rows lie and how many are used.

    Attributes:
        path: A ``.jsonl``, ``.jsonl.gz``, ``.csv``, ``.tsv``, ``.parquet`` or ``.arrow`` file, a folder with such files
            named ``train``, ``validation`` and ``test``, or one that ``datasets.save_to_disk`` wrote.
        hub: A data set of the hub instead, ``OWNER/NAME``, from the offline cache.
        revision: Commit of it.
        files: Split -> pattern of its files in the repository, where their names do not say it.
        text: Column of the text; likewise ``label``, and for question answering ``question``, ``context``, ``answers``.
        train_rows: Rows drawn from train before ``dev`` is cut off; all when absent. Likewise the others.
        split_seed: Seed of every split; it belongs to the task, not to the search.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    path: str | None = None
    hub: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = None
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    files: dict[str, str] = {}
    text: str = "text"
    label: str = "label"
    question: str = "question"
    context: str = "context"
    answers: str = "answers"
    train_rows: Count | None = None
    validation_rows: Count | None = None
    test_rows: Count | None = None
    split_seed: int = 13

    @model_validator(mode="after")
    def _check_place(self) -> "DataSection":
        if (self.path is None) == (self.hub is None):
            raise ValueError("[data]: expected one of path and hub")
        if (self.hub is None) != (self.revision is None):
            raise ValueError("[data]: hub needs revision, a commit of 40 hexadecimal digits, and path has none")
        if self.files and (self.hub is None or "train" not in self.files or not set(self.files) <= set(SPLIT_WORDS)):
            raise ValueError(
                f"[data]: files goes with hub, and has train and perhaps others of {', '.join(SPLIT_WORDS)}"
            )
        return self


def extension_of(name: str) -> str | None:
    """Return which of :data:`EXTENSIONS` a file's name has; ``None`` if another."""
    return next((extension for extension in EXTENSIONS if name.endswith(extension)), None)


def pick_files(names: Iterable[str], patterns: Mapping[str, str], *, where: str) -> dict[str, tuple[str, ...]]:
    """Find which files of a repository are which split.

    Args:
        names: Names of all its files, with folders.
        patterns: Split -> pattern of its files; if empty the last word in a name which :data:`SPLIT_WORDS` has
            decides, and a single file is train.
        where: The repository, for messages.

    Returns:
        Split -> its files, by name; ``train`` always.

    Raises:
        DataError: No file is train, a pattern fits none, or there are several sets of files.
    """
    known = sorted(name for name in names if extension_of(name) is not None)
    if patterns:
        picked = {split: tuple(fnmatch.filter(known, pattern)) for split, pattern in patterns.items()}
    else:
        picked = _by_name(known, where=where)
    missing = [split for split in ("train", *patterns) if not picked.get(split)]
    if missing:
        listed = ", ".join(known[:MAX_LISTED]) + (", ..." if len(known) > MAX_LISTED else "") or "none that is read"
        raise DataError(
            f"{where}: no files for {missing[0]}; files: {listed}. Read are {', '.join(EXTENSIONS)}. Set data.files, "
            "or take a commit of the hub's branch refs/convert/parquet, which has most data sets as Parquet"
        )
    return picked


def _by_name(names: Iterable[str], *, where: str) -> dict[str, tuple[str, ...]]:
    """Divide files by the split that their names say."""
    found: dict[tuple[str, str], list[str]] = {}  # (folder, split) -> names
    for name in names:
        place = _place(name)
        if place is not None:
            found.setdefault(place, []).append(name)
    names = list(names)
    if not found and len(names) == 1:
        return {"train": tuple(names)}
    folders = sorted({folder for folder, _ in found})
    if len(folders) > 1:
        listed = ", ".join(folder or "the top" for folder in folders[:MAX_LISTED])
        raise DataError(f"{where} holds several sets of files, in {listed}. Name one with data.files")
    return {split: tuple(group) for (_, split), group in found.items()}


def _place(name: str) -> tuple[str, str] | None:
    """Find the split of a file and the folder of its set: what stands before the part that names the split."""
    parts = PurePosixPath(name).parts
    for index in range(len(parts) - 1, -1, -1):
        for word in reversed(re.split(r"[^a-z]+", parts[index].lower())):
            split = next((split for split, words in SPLIT_WORDS.items() if word in words), None)
            if split is not None:
                return "/".join(parts[:index]), split
    return None


def repository_dir(hf_home: Path, hub: str) -> Path:
    """Name the folder of a data set in the offline cache."""
    return hf_home / "hub" / f"datasets--{hub.replace('/', '--')}"


def snapshot_dir(hf_home: Path, data: DataSection) -> Path:
    """Name the folder that holds the files of a data set in the offline cache."""
    return repository_dir(hf_home, data.hub or "") / "snapshots" / (data.revision or "-")


def declare_whole(hf_home: Path, data: DataSection, *, files: Files) -> None:
    """Note that files of a data set are in the offline cache, every one verified; until then nobody reads them.

    Args:
        hf_home: The offline cache.
        data: ``[data]`` of a search.
        files: Its files.

    Raises:
        OSError: The file system refused.
    """
    folder = snapshot_dir(hf_home, data)
    sizes = {split: {name: (folder / name).stat().st_size for name in names} for split, names in files.items()}
    write_json(_listing_path(hf_home, data), sizes)


def cached_files(hf_home: Path, data: DataSection) -> dict[str, tuple[str, ...]] | None:
    """Find the files of a data set in the offline cache; ``None`` if they are not there, whole.

    Args:
        hf_home: The offline cache.
        data: ``[data]`` of a search.
    """
    folder = snapshot_dir(hf_home, data)
    try:
        sizes = read_json(_listing_path(hf_home, data))
        is_whole = all(
            (folder / name).stat().st_size == size for files in sizes.values() for name, size in files.items()
        )
    except OSError:
        return None
    return {split: tuple(files) for split, files in sizes.items()} if is_whole else None


def missing_data(data: DataSection, hf_home: Path) -> list[str]:
    """List how to get a data set of the hub that is not at hand; empty where it is."""
    if data.hub is None or cached_files(hf_home, data) is not None:
        return []
    return [
        f"data set {data.hub!r} at {data.revision} is not whole in the offline cache `{hf_home}`: "
        "`xautolm-hpc prefetch` fetches it"
    ]


def find_data(data: DataSection, hf_home: Path) -> tuple[str, Files | None]:
    """Find the data: its file or folder, and of the hub's which files in the folder are which split.

    Args:
        data: ``[data]`` of a search.
        hf_home: The offline cache.

    Raises:
        DataError: A data set of the hub is not whole in the cache.
    """
    if data.path is not None:
        return data.path, None
    missing = missing_data(data, hf_home)
    if missing:
        raise DataError(missing[0])
    return str(snapshot_dir(hf_home, data)), cached_files(hf_home, data)


def _listing_path(hf_home: Path, data: DataSection) -> Path:
    """Name the list of what was verified; each choice of files has its own."""
    chosen = hashlib.sha256(canonical_json(dict(data.files)).encode()).hexdigest()[:12]
    return repository_dir(hf_home, data.hub or "") / f"verified-{data.revision}-{chosen}.json"
