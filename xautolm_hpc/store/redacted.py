"""Copies a store without what may identify persons and machines."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from xautolm_hpc.errors import InputError
from xautolm_hpc.records import Experience
from xautolm_hpc.store.columns import Columns, Ragged
from xautolm_hpc.store.decisions import Decision
from xautolm_hpc.store.folder import SegmentFolder
from xautolm_hpc.store.layout import EVERYTHING, KEYS, NO_CODE
from xautolm_hpc.store.structure import CheckLimits, StoreFinding
from xautolm_hpc.store.union import union
from xautolm_hpc.store.visible import stored_form


def redacted(e: Experience) -> Experience:
    """Remove the message and the name of the node; the id stays."""
    return replace(e, outcome=replace(e.outcome, message=None), provenance=replace(e.provenance, node=None))


def copy_store(
    source: Path, to: Path, *, is_redacted: bool, limits: CheckLimits | None = None
) -> tuple[int, list[StoreFinding]]:
    """Write a store as one segment: marks and conflicts too, but not what was forgotten.

    The copy is the same set of experiences: merging it into the original changes nothing. The key of the store is not
    copied; the copy notes which marks are in force, so that it shows what the store shows.

    Args:
        source: The store.
        to: New store: a folder, or one ``.h5`` file.
        is_redacted: Whether messages and names of nodes are left out.
        limits: Limits for checking a foreign segment.

    Returns:
        Number of records written, and segments that were left out.

    Raises:
        InputError: ``to`` exists and is not empty.
        StoreError: It could not be written, or the store cannot be read.
    """
    if to.exists() and (to.is_file() or any(to.iterdir())):
        raise InputError(f"`{to}` exists; expected a new store. `store merge` grows one that is there")
    target = SegmentFolder(to, limits=limits)
    loaded = SegmentFolder(source, limits=limits, checked=target.checked).load(EVERYTHING)
    whole = stored_form(loaded.columns())
    target.make()
    target.authority.decide(Decision.ACCEPTED, whole.marks)
    target.replace(target.load(KEYS), redacted_columns(whole) if is_redacted else whole, waiting=loaded.waiting())
    return len(whole), list(loaded.findings)


def redacted_columns(columns: Columns) -> Columns:
    """Remove messages and names of nodes from columns in stored form; the result is in stored form."""
    codes = {**columns.groups["codes"], "node": np.full(len(columns), NO_CODE, np.int32)}
    silent = Ragged.of([b""] * len(columns))
    plain = replace(
        columns, groups={**columns.groups, "codes": codes}, variable={**columns.variable, "message": silent}
    )
    return union([plain])
