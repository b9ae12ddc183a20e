"""A copy of a store without what may tell of persons and machines."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from xautolm_hpc.errors import InputError
from xautolm_hpc.records import Experience
from xautolm_hpc.store.columns import Columns, Ragged, only_marks
from xautolm_hpc.store.folder import SegmentFolder
from xautolm_hpc.store.layout import EVERYTHING, NO_CODE
from xautolm_hpc.store.structure import CheckLimits, Finding
from xautolm_hpc.store.union import union
from xautolm_hpc.store.visible import stored_form


def redacted(e: Experience) -> Experience:
    """Leave out the message and the name of the node; the id stays."""
    return replace(e, outcome=replace(e.outcome, message=None), provenance=replace(e.provenance, node=None))


def copy_store(
    source: Path, to: Path, *, is_redacted: bool, limits: CheckLimits | None = None
) -> tuple[int, list[Finding]]:
    """Write a store as one segment: marks and conflicts too, but not what was forgotten.

    The copy is the same set: merged with the original it changes nothing but what redaction left out.

    Args:
        source: The store.
        to: New store: a folder, or one ``.h5`` file.
        is_redacted: Whether messages and names of nodes are left out.
        limits: What the check of a foreign segment may cost.

    Returns:
        Number of records written, and segments that were left out.

    Raises:
        InputError: ``to`` exists and is not empty.
        StoreError: It could not be written, or the store cannot be read.
    """
    if to.exists() and (to.is_file() or any(to.iterdir())):
        raise InputError(f"`{to}` exists; expected a new store. `store merge` grows one that is there")
    target = SegmentFolder(to, limits=limits)
    parts, findings = SegmentFolder(source, limits=limits, checked=target.checked).load(EVERYTHING)
    whole = stored_form([*parts.values()] or [only_marks(())])
    target.replace((), without_traces(whole) if is_redacted else whole)
    return len(whole), findings


def without_traces(columns: Columns) -> Columns:
    """Leave out the messages and names of nodes of columns in stored form; the result is in stored form."""
    codes = {**columns.groups["codes"], "node": np.full(len(columns), NO_CODE, np.int32)}
    silent = Ragged.of([b""] * len(columns))
    plain = replace(
        columns, groups={**columns.groups, "codes": codes}, variable={**columns.variable, "message": silent}
    )
    return union([plain])
