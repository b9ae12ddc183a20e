"""Checks the file that a person names with ``--to``, before any work: nothing of theirs is replaced by accident."""

from collections.abc import Iterable
from pathlib import Path

from xautolm_hpc.dataset import extension_of
from xautolm_hpc.errors import InputError


def check_output(to: str, *, inputs: Iterable[Path] = (), force: bool) -> Path:
    """Return the path of a file that may be written.

    Args:
        to: The file, as it was typed.
        inputs: Files that the command reads, and folders whose data it reads.
        force: Whether a file that exists may be overwritten; one that is read never is.

    Raises:
        InputError: It is a folder, is read by this command, exists, or its folder does not.
    """
    path = Path(to)
    if path.is_dir():
        raise InputError(f"`{to}` is a folder; give a file: --to FILE")
    if to.endswith("/"):
        raise InputError(f"`{to}` names a folder; give a file: --to FILE")
    if not path.parent.is_dir():
        fault = "is no folder" if path.parent.exists() else "does not exist; make it first"
        raise InputError(f"`{to}` cannot be written: `{path.parent}` {fault}, or give --to FILE in another folder")
    if any(_is_read(path, given) for given in inputs):
        raise InputError(f"`{to}` is what this command reads, and would be lost; --to FILE writes another file")
    if path.exists() and not path.is_file():
        raise InputError(f"`{to}` is no regular file; --to FILE writes another")
    if (path.exists() or path.is_symlink()) and not force:
        raise InputError(f"`{to}` exists; --force overwrites it, --to FILE writes another")
    return path


def _is_read(path: Path, given: Path) -> bool:
    """Check whether a file is one that is read, or data in a folder that is read."""
    if not path.exists() or not given.exists():
        return False
    if given.is_dir():
        return extension_of(path.name) is not None and path.resolve().is_relative_to(given.resolve())
    return path.samefile(given)
