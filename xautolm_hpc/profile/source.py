"""Find the files of a data set and read their bytes."""

from pathlib import Path

from xautolm_hpc.errors import DataError
from xautolm_hpc.node import node_name

EXTENSIONS = (".jsonl", ".jsonl.gz", ".csv", ".tsv", ".parquet")
SPLIT_STEMS = {"train": ("train",), "validation": ("validation", "valid", "dev"), "test": ("test",)}
"""Split -> names its file may have in a folder, without extension."""


def find_files(data_path: Path) -> dict[str, Path]:
    """Find the files of a data set: one file, or a folder with one for each split.

    Args:
        data_path: A file, which stands for train, or a folder.

    Returns:
        ``train`` and, where the folder has them, ``validation`` and ``test`` -> path.

    Raises:
        DataError: There is no such file or folder (its cause is then an ``OSError``), the extension is not
            known, the folder has no train file, or it has two files for one split.
    """
    try:
        data_path.stat()
        names = sorted(path.name for path in data_path.iterdir()) if data_path.is_dir() else None
    except OSError as error:
        raise _unavailable(data_path, error) from error
    if names is None:
        if extension_of(data_path) is None:
            raise DataError(f"`{data_path}`: its extension is not known; valid: {', '.join(EXTENSIONS)}")
        return {"train": data_path}
    found = {split: _pick(data_path, split, names=names) for split in SPLIT_STEMS}
    return {split: path for split, path in found.items() if path is not None}


def read_content(path: Path) -> bytes:
    """Read a file.

    Raises:
        DataError: It cannot be read on this node; the cause is the ``OSError``.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unavailable(path, error) from error


def extension_of(path: Path) -> str | None:
    """Tell which of :data:`EXTENSIONS` a file has; ``None`` if another."""
    return next((extension for extension in EXTENSIONS if path.name.endswith(extension)), None)


def _pick(folder: Path, split: str, *, names: list[str]) -> Path | None:
    """Pick the one file of a split out of a folder's names."""
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
