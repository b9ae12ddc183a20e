"""The stores that come with this program."""

from pathlib import Path

from xautolm_hpc.errors import InputError, NoStoreError

PACKAGED_STORES = {"package:seed": Path(__file__).resolve().parents[1] / "packaged" / "seed"}
"""Name in ``store.also_read`` -> store; a run keeps the name, so that it goes on where the program is moved."""


def locate_store(written: str) -> Path:
    """Return the path of a store that a search file or a command names.

    Args:
        written: Its path, or one of :data:`PACKAGED_STORES`.

    Raises:
        InputError: It begins as a name of these and is none.
    """
    if written in PACKAGED_STORES:
        return PACKAGED_STORES[written].resolve()
    if written.startswith("package:"):
        raise InputError(f"`{written}` does not come with this program; valid: {', '.join(PACKAGED_STORES)}")
    return Path(written)


def check_writable(path: Path) -> None:
    """Check that a store is none that comes with this program: those are only read.

    Raises:
        NoStoreError: It is one.
    """
    if any(path.resolve().is_relative_to(store.resolve()) for store in PACKAGED_STORES.values()):
        raise NoStoreError(
            f"`{path}` comes with this program and is only read; name a store of your own, and list this one in "
            "store.also_read or merge it"
        )
