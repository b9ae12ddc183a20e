"""Finds the files of a data set and reads their bytes."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

from xautolm_hpc.dataset import EXTENSIONS, check_shards, extension_of, split_shard
from xautolm_hpc.durable import open_regular, read_json
from xautolm_hpc.errors import DataError, InputError
from xautolm_hpc.node import node_name

SPLIT_STEMS = {"train": ("train",), "validation": ("validation", "valid", "dev"), "test": ("test",)}
"""Split -> possible names of its file in a folder, without extension."""

SAVED_SPLITS, SAVED_STATE = "dataset_dict.json", "state.json"
"""Files of ``datasets.save_to_disk``: the names of the split folders; in each folder the names of its data files."""

MAX_LISTED = 20
MAX_LOOKED_AT = 1000
"""Names in a folder that nothing can be read of which are looked at for a hint."""

AS_CSV = "save the table as CSV"
HINTS = {
    ".json": "write one object a line: pandas.read_json('x.json').to_json('x.jsonl', orient='records', lines=True); "
    "SQuAD is to be flattened to columns question, context and answers",
    ".xlsx": AS_CSV,
    ".xls": AS_CSV,
    ".ods": AS_CSV,
    ".txt": "make one table of all texts, with columns text and label, such as a CSV file",
}
"""Extension that is not read -> what to do with such files."""

Paths = dict[str, tuple[Path, ...]]
"""Split -> its files, in order."""


def find_files(data_path: Path, files: Mapping[str, Sequence[str]] | None = None) -> Paths:
    """Find the files of a data set: one file, a folder with one for each split, or a saved ``datasets`` folder.

    Args:
        data_path: A file, which is read as train, or a folder. The file of a split may be divided into shards, such as
            ``train-00000-of-00002.parquet``, or lie in a folder of its name; all may lie in one folder within.
        files: Split -> names of its files in the folder, where that is known.

    Returns:
        ``train`` and, where there are any, ``validation`` and ``test`` -> paths.

    Raises:
        DataError: The file or folder does not exist (the cause is then an ``OSError``), the extension is not
            known, the folder has no train file, it has two files for one split, or a shard is missing.
    """
    if files is not None:
        return {split: tuple(data_path / name for name in names) for split, names in files.items()}
    try:
        data_path.stat()
    except OSError as error:
        raise _unavailable(data_path, error) from error
    names = _list_names(data_path) if data_path.is_dir() else None
    if names is None:
        if extension_of(data_path.name) is None:
            raise DataError(
                f"`{data_path}`: its extension is not known; valid: {', '.join(EXTENSIONS)}{hint_for([data_path])}"
            )
        return {"train": (data_path,)}
    if SAVED_STATE in names:
        return {"train": _saved_files(data_path)}
    if SAVED_SPLITS in names:
        return _saved_splits(data_path)
    return _find_in_folder(data_path, names)


def unread_notes(data_path: Path, paths: Mapping[str, Sequence[Path]]) -> tuple[str, ...]:
    """Write which files of a folder could be read but are no split; nothing where there are none.

    Args:
        data_path: A file or folder, of which no list of files is known.
        paths: Split -> its files.
    """
    if not data_path.is_dir():
        return ()
    read = {path for group in paths.values() for path in group}
    saved_dirs = {path.parent for path in read if (path.parent / SAVED_STATE).exists()}  # caches lie there too
    names = [
        str(path.relative_to(data_path))
        for path in sorted({*data_path.glob("*"), *data_path.glob("*/*")} - read)
        if extension_of(path.name) is not None and path.is_file() and path.parent not in saved_dirs
    ]
    names = [name for name in names if not name.startswith(".")]
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    listed = ", ".join(names[:MAX_LISTED]) + more
    return (f"not read: {listed}; a split is called train, validation or test",) if names else ()


def hint_for(paths: Iterable[Path]) -> str:
    """Write what to do with files that are not read, beginning with a full stop; empty where no hint is known."""
    extensions = sorted({path.suffix.lower() for path in islice(paths, MAX_LOOKED_AT)})
    return "".join(f". For {extension}: {HINTS[extension]}" for extension in extensions if extension in HINTS)


def read_content(path: Path) -> bytes:
    """Read a file.

    Raises:
        DataError: It cannot be read on this node; the cause is the ``OSError``.
    """
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError as error:
        raise _unavailable(path, error) from error
    except InputError as error:
        raise DataError(f"{error}; expected a file of data") from error


def _find_in_folder(folder: Path, names: Sequence[str]) -> Paths:
    """Find the files of every split in a folder, or in the one folder within that has them, as on the hub."""
    found = _pick(folder, names)
    if "train" in found:
        return found
    inner = [folder / name for name in names if not name.startswith(".") and (folder / name).is_dir()]
    sets = {path: picked for path in inner if "train" in (picked := _pick(path, _list_names(path)))}
    if len(sets) > 1:
        listed = ", ".join(path.name for path in sets)
        raise DataError(f"`{folder}` holds several sets of files, in {listed}. Set data.path to one of these folders")
    if not sets:
        raise _without_train(folder, names)
    return next(iter(sets.values()))


def _without_train(folder: Path, names: Sequence[str]) -> DataError:
    """Describe a folder without a train file: what there is, or what there is in its folder called train."""
    train_dir, hint = folder / "train", hint_for(folder.rglob("*"))
    if train_dir.is_dir():
        there = ", ".join(_list_names(train_dir)[:MAX_LISTED]) or "nothing"
        return DataError(
            f"`{train_dir}` has no file that can be read; read are {', '.join(EXTENSIONS)}, found: {there}{hint}"
        )
    there = ", ".join(names[:MAX_LISTED]) or "nothing"
    return DataError(f"`{folder}` has no train file; expected train{{{','.join(EXTENSIONS)}}}, found: {there}{hint}")


def _saved_splits(folder: Path) -> Paths:
    """Find the files of every split that ``save_to_disk`` wrote under a known name."""
    there = _saved_value(folder / SAVED_SPLITS, "splits")
    found: Paths = {}
    for split, stems in SPLIT_STEMS.items():
        named = [stem for stem in stems if stem in there]
        if len(named) > 1:
            raise DataError(f"`{folder}` has {len(named)} splits for {split}: {', '.join(named)}. Keep one")
        if named:
            found[split] = _saved_files(folder / named[0])
    if "train" not in found:
        raise DataError(f"`{folder}` has no split train; its splits: {', '.join(map(str, there)) or 'none'}")
    return found


def _saved_files(folder: Path) -> tuple[Path, ...]:
    """List the files of one split that ``save_to_disk`` wrote, in the order of its rows."""
    state = folder / SAVED_STATE
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in _saved_value(state, "_data_files")]
    paths = tuple(folder / Path(name).name for name in names if isinstance(name, str))
    if not paths or len(paths) < len(names):
        raise DataError(f"`{state}` names no data files; save the data again with datasets.save_to_disk")
    return paths


def _saved_value(path: Path, key: str) -> list[object]:
    """Read a list that ``save_to_disk`` wrote."""
    try:
        value = read_json(path)
    except OSError as error:
        raise _unavailable(path, error) from error
    except InputError as error:
        raise DataError(f"{error}; save the data again with datasets.save_to_disk") from None
    listed = value.get(key) if isinstance(value, dict) else None
    if not isinstance(listed, list):
        raise DataError(f"`{path}` lacks the list {key!r}; save the data again with datasets.save_to_disk")
    return listed


def _pick(folder: Path, names: Sequence[str]) -> Paths:
    """Find the files of every split among the names in a folder."""
    found = {split: _pick_split(folder, split, names=names) for split in SPLIT_STEMS}
    return {split: paths for split, paths in found.items() if paths}


def _pick_split(folder: Path, split: str, *, names: Sequence[str]) -> tuple[Path, ...]:
    """Find the files of a split: one, a set of shards, or those in a folder of its name."""
    wanted = {stem + extension for stem in SPLIT_STEMS[split] for extension in EXTENSIONS}
    sets: dict[str, list[str]] = {}  # name of the undivided file -> names of its shards, or of itself
    for name in names:
        shard = split_shard(name)
        whole = (name if shard is None else shard.whole).lower()
        if whole in wanted:
            sets.setdefault(whole, []).append(name)
    if not sets:
        sets = dict(_files_within(folder, stem) for stem in SPLIT_STEMS[split] if stem in names)
    sets = {whole: group for whole, group in sets.items() if group}
    if len(sets) > 1:
        listed = ", ".join(sorted(name for group in sets.values() for name in group)[:MAX_LISTED])
        raise DataError(f"`{folder}` has {len(sets)} files for {split}: {listed}. Keep one")
    group = next(iter(sets.values()), [])
    check_shards(group, where=f"`{folder}`")
    return tuple(folder / name for name in sorted(group))


def _files_within(folder: Path, split_name: str) -> tuple[str, list[str]]:
    """List the files of a split that lie in a folder of its name; they must have one format."""
    inner = folder / split_name
    found = [name for name in _list_names(inner) if extension_of(name) is not None] if inner.is_dir() else []
    if len({extension_of(name) for name in found}) > 1:
        raise DataError(f"`{inner}` holds files of several formats: {', '.join(found[:MAX_LISTED])}. Keep one format")
    return split_name, [f"{split_name}/{name}" for name in found]


def _list_names(folder: Path) -> list[str]:
    """List the names in a folder.

    Raises:
        DataError: It cannot be read; the cause is the ``OSError``.
    """
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise _unavailable(folder, error) from error


def _unavailable(path: Path, error: OSError) -> DataError:
    return DataError(
        f"`{path}` cannot be read on node {node_name()}: {error.strerror}. Check data.path, and that the compute "
        "nodes see it"
    )
