"""Copies a store: without what may identify persons and machines, or in an earlier format."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from xautolm_hpc.errors import InputError
from xautolm_hpc.records import Experience
from xautolm_hpc.store.authors.decisions import MarkDecision
from xautolm_hpc.store.columns import Columns, Ragged, with_marks
from xautolm_hpc.store.earlier import Losses, in_format
from xautolm_hpc.store.folder import SegmentFolder
from xautolm_hpc.store.layout import EVERYTHING, FORMAT, KEYS, NO_CODE
from xautolm_hpc.store.marks import as_format_1, read_marks
from xautolm_hpc.store.structure import CheckLimits, StoreFinding
from xautolm_hpc.store.union import union
from xautolm_hpc.store.visible import stored_form, with_accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """Result of a copy.

    Attributes:
        n_experiences: Records written.
        losses: What the format of the copy could not say.
        findings: Segments that were left out because they are damaged.
    """

    n_experiences: int
    losses: Losses
    findings: tuple[StoreFinding, ...]


def redacted(e: Experience) -> Experience:
    """Remove the message and the name of the node; the id stays."""
    return replace(e, outcome=replace(e.outcome, message=None), provenance=replace(e.provenance, node=None))


def copy_store(
    source: Path, to: Path, *, is_redacted: bool, format_version: int = FORMAT, limits: CheckLimits | None = None
) -> Copied:
    """Write a store as one segment: marks and conflicts too, but not what was forgotten.

    The copy is the same set of experiences: merging it into the original changes nothing, unless an earlier format
    could not say all of them. The key of the store and marks that wait are not copied; the copy notes which marks are
    in force, so that it shows what the store shows.

    Args:
        source: The store.
        to: New store: a folder, or one ``.h5`` file.
        is_redacted: Whether messages and names of nodes are left out.
        format_version: Format of the copy, one of :data:`~xautolm_hpc.store.layout.READABLE`.
        limits: Limits for checking a foreign segment.

    Raises:
        InputError: ``to`` exists and is not empty.
        StoreError: It could not be written, or the store cannot be read.
    """
    if to.exists() and (to.is_file() or any(to.iterdir())):
        raise InputError(f"`{to}` exists; expected a new store. `store merge` grows one that is there")
    target = SegmentFolder(to, limits=limits)
    loaded = SegmentFolder(source, limits=limits, checked=target.checked).load(EVERYTHING)
    whole = stored_form(loaded.columns())
    if format_version == 1:
        whole = with_marks(with_accepted(whole, read_marks(whole.marks)), as_format_1(whole.marks))
    written, losses = in_format(redacted_columns(whole) if is_redacted else whole, format_version)
    target.make()
    target.authority.decide(MarkDecision.ACCEPTED, written.marks)
    target.replace(target.load(KEYS), written)
    return Copied(n_experiences=len(written), losses=losses, findings=loaded.findings)


def redacted_columns(columns: Columns) -> Columns:
    """Remove messages and names of nodes from columns in stored form; the result is in stored form."""
    codes = {**columns.groups["codes"], "node": np.full(len(columns), NO_CODE, np.int32)}
    silent = Ragged.of([b""] * len(columns))
    plain = replace(
        columns, groups={**columns.groups, "codes": codes}, variable={**columns.variable, "message": silent}
    )
    return union([plain])
