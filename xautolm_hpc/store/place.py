"""The folder of a store: whether one is here or can be made, and what unfinished writers left in it."""

import contextlib
from pathlib import Path

from xautolm_hpc.errors import NoStoreError, StoreError
from xautolm_hpc.store import files
from xautolm_hpc.store.authors.authority import DECISIONS_NAME
from xautolm_hpc.store.authors.own import OWN_NAME
from xautolm_hpc.store.files import ASIDE_SUFFIX
from xautolm_hpc.store.packaged import check_writable

LEFT_OVER_S = 86_400


def check_place(store: Path, *, is_file: bool) -> None:
    """Check that a store is here or can be made here; nothing is read or made.

    Args:
        store: A folder of segments, or one file.
        is_file: Whether it is one file.

    Raises:
        NoStoreError: The path, or a folder it lies in, is a file.
    """
    nearest = next(path for path in (store, *store.absolute().parents) if path.exists())
    if not nearest.is_dir() and not (is_file and nearest == store and nearest.is_file()):
        raise no_store(store, nearest)


def no_store(store: Path, found: Path) -> NoStoreError:
    """Build the error for a path that is no store, or that is in the way of one."""
    expected = "expected a folder of segments or a file `*.h5`"
    if found == store:
        return NoStoreError(f"`{found}` is no store; {expected}")
    return NoStoreError(f"`{store}` is no store and cannot be made, because `{found}` is a file; {expected}")


def make_folder(store: Path, *, is_file: bool, group: str | None) -> None:
    """Create the folder of a store if it does not exist.

    Args:
        store: A folder of segments, or one file.
        is_file: Whether it is one file.
        group: Group of users that may read the folder; ``None`` leaves it as it is.

    Raises:
        StoreError: It could not be made, or the store comes with this program.
    """
    check_writable(store)
    folder = store.parent if is_file else store
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if group is not None and not is_file:
            files.share(folder, group, noted=[folder / DECISIONS_NAME, folder / OWN_NAME])
    except OSError as error:
        raise StoreError(f"`{folder}` could not be made: {error}. See to its permissions or choose another") from error


def left_overs(store: Path) -> list[Path]:
    """List unfinished files of writers; a recent one may belong to a writer that is still running."""
    if not store.is_dir():
        return []
    return sorted(store.glob(f".seg-*{ASIDE_SUFFIX}"))


def remove_left_overs(store: Path, *, newest: Path) -> None:
    """Remove unfinished files that are a day older than a file just written, by the clock of the file server."""
    now_s = newest.stat().st_mtime
    for path in left_overs(store):
        with contextlib.suppress(OSError):  # gone already, or no file at all
            if now_s - path.stat().st_mtime > LEFT_OVER_S:
                path.unlink()
