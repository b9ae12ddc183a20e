"""The stores that come with this program."""

from pathlib import Path

PACKAGED_STORES = {"package:seed": Path(__file__).resolve().parents[1] / "packaged" / "seed"}
"""Name in ``store.also_read`` -> store; a run keeps the name, so that it goes on where the program is moved."""


def locate_store(written: str) -> Path:
    """Return the path of a store that a search file names.

    Args:
        written: Its path, or one of :data:`PACKAGED_STORES`.
    """
    return PACKAGED_STORES[written].resolve() if written in PACKAGED_STORES else Path(written)
