"""The user's data: what ``[data]`` says of it, which files are which split, and whether the offline cache has them."""

import fnmatch
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.errors import DataError
from xautolm_hpc.records import canonical_json

EXTENSIONS = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".arrow")
DELIMITED = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
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


def _check_delimiter(value: str) -> str:
    """Check a delimiter; words for a tab become one."""
    delimiter = "\t" if value in ("tab", "\\t") else value
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise ValueError(
            f"data.delimiter = {value!r}: expected one character that is neither a quote nor a line end, such as ',', "
            "';' or '|', or 'tab'"
        )
    return delimiter


class DataSection(BaseModel):
    """``[data]``: where the rows lie and how many are used.

    Attributes:
        path: A JSON Lines, CSV, TSV, Parquet or Arrow file, or a folder with such files named ``train``,
            ``validation`` and ``test``, whole or in shards, or one that ``datasets.save_to_disk`` wrote.
        hub: A data set of the hub instead, ``OWNER/NAME``, from the offline cache.
        revision: Commit of the data set of the hub, 40 hexadecimal digits.
        files: Split -> pattern of its files in the repository, where their names do not say it.
        text: Column of the text.
        label: Column of its class.
        question: Column of the question, for question answering and generation.
        context: Column of the text in which the answer stands.
        answers: Column of the valid answers.
        delimiter: Character that divides the columns of CSV and TSV files, or ``tab``; recognised when absent.
        train_rows: Rows drawn from train before ``dev`` is cut off; all when absent.
        validation_rows: Rows drawn from validation; all when absent.
        test_rows: Rows drawn from test; all when absent.
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
    delimiter: Annotated[str, AfterValidator(_check_delimiter)] | None = None
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
    return next((extension for extension in EXTENSIONS if name.lower().endswith(extension)), None)


def check_extension(path: Path) -> str:
    """Return which of :data:`EXTENSIONS` a file has.

    Raises:
        DataError: It has another, or none.
    """
    extension = extension_of(path.name)
    if extension is None:
        raise DataError(f"`{path}`: its extension is not known; valid: {', '.join(EXTENSIONS)}")
    return extension


SHARD = re.compile(
    r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<total>\d+)(?:-[0-9a-f]+)?(?P<extension>\.[a-z.]+)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Shard:
    """One of the files into which a file is divided.

    Attributes:
        whole: Name that the file would have undivided.
        number: Place of the shard, from 0.
        total: Number of shards.
    """

    whole: str
    number: int
    total: int


def split_shard(name: str) -> Shard | None:
    """Read the name of a shard, such as ``train-00000-of-00002.parquet``; ``None`` if it is the name of none."""
    found = SHARD.fullmatch(name)
    if found is None:
        return None
    return Shard(found["stem"] + found["extension"], int(found["number"]), int(found["total"]))


def check_shards(names: Iterable[str], *, where: str) -> None:
    """Check that files which are shards are all there, each once.

    Args:
        names: The files of one split.
        where: Their place, for messages.

    Raises:
        DataError: A shard is missing or stands twice, or files of other kinds or sets are among them.
    """
    names = sorted(names)
    shards = [split_shard(name) for name in names]
    sets = {None if shard is None else (shard.whole, shard.total) for shard in shards}
    if sets <= {None}:
        return
    if len(sets) > 1:
        raise DataError(
            f"{where} mixes sets of shards: {', '.join(names[:MAX_LISTED])}. Keep one, or name it with data.files"
        )
    numbers = [shard.number for shard in shards if shard is not None]
    total = next(shard.total for shard in shards if shard is not None)
    missing = sorted(set(range(total)) - set(numbers))
    if missing:
        listed = ", ".join(f"{number:05d}-of-{total:05d}" for number in missing[:MAX_LISTED])
        raise DataError(
            f"{where} lacks {len(missing)} of {total} shards: {listed}; there: {', '.join(names[:MAX_LISTED])}. Bring "
            "them too"
        )
    if len(numbers) > total:
        listed = ", ".join(names[:MAX_LISTED])
        raise DataError(f"{where} has {len(numbers)} files for {total} shards: {listed}. Keep one set")


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
    for group in found.values():
        check_shards(group, where=where)
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
