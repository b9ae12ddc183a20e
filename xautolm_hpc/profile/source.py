"""Finds the files of a data set and reads their bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from xautolm_hpc.dataset import EXTENSIONS, extension_of
from xautolm_hpc.durable import read_json
from xautolm_hpc.errors import DataError, InputError
from xautolm_hpc.node import node_name

SPLIT_STEMS = {"train": ("train",), "validation": ("validation", "valid", "dev"), "test": ("test",)}
"""Split -> possible names of its file in a folder, without extension."""

SAVED_SPLITS, SAVED_STATE = "dataset_dict.json", "state.json"
"""Files of ``datasets.save_to_disk``: the names of the split folders; in each folder the names of its data files."""

Paths = dict[str, tuple[Path, ...]]
"""Split -> its files, in order."""


def find_files(data_path: Path, files: Mapping[str, Sequence[str]] | None = None) -> Paths:
    """Find the files of a data set: one file, a folder with one for each split, or a saved ``datasets`` folder.

    Args:
        data_path: A file, which is read as train, or a folder.
        files: Split -> names of its files in the folder, where that is known.

    Returns:
        ``train`` and, where there are any, ``validation`` and ``test`` -> paths.

    Raises:
        DataError: The file or folder does not exist (the cause is then an ``OSError``), the extension is not
            known, the folder has no train file, or it has two files for one split.
    """
    if files is not None:
        return {split: tuple(data_path / name for name in names) for split, names in files.items()}
    try:
        data_path.stat()
        names = sorted(path.name for path in data_path.iterdir()) if data_path.is_dir() else None
    except OSError as error:
        raise _unavailable(data_path, error) from error
    if names is None:
        if extension_of(data_path.name) is None:
            raise DataError(f"`{data_path}`: its extension is not known; valid: {', '.join(EXTENSIONS)}")
        return {"train": (data_path,)}
    if SAVED_STATE in names:
        return {"train": _saved_files(data_path)}
    if SAVED_SPLITS in names:
        return _saved_splits(data_path)
    found = {split: _pick(data_path, split, names=names) for split in SPLIT_STEMS}
    return {split: (path,) for split, path in found.items() if path is not None}


def read_content(path: Path) -> bytes:
    """Read a file.

    Raises:
        DataError: It cannot be read on this node; the cause is the ``OSError``.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unavailable(path, error) from error


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


def _pick(folder: Path, split: str, *, names: list[str]) -> Path | None:
    """Find the one file of a split among a folder's names."""
    candidates = [stem + extension for stem in SPLIT_STEMS[split] for extension in EXTENSIONS]
    found = [name for name in names if name in candidates]
    if len(found) > 1:
        raise DataError(f"`{folder}` has {len(found)} files for {split}: {', '.join(found)}. Keep one")
    if not found and split == "train":
        there = ", ".join(names[:20]) or "nothing"
        raise DataError(f"`{folder}` has no train file; expected train{{{','.join(EXTENSIONS)}}}, found: {there}")
    return folder / found[0] if found else None


def _unavailable(path: Path, error: OSError) -> DataError:
    return DataError(
        f"`{path}` cannot be read on node {node_name()}: {error.strerror}. Check data.path, and that the compute "
        "nodes see it"
    )
