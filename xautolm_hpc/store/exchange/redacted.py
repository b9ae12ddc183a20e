"""Copies a store: without what may identify persons and machines, or in an earlier format."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from xautolm_hpc.errors import InputError
from xautolm_hpc.records import Experience
from xautolm_hpc.store.authors.decisions import MarkDecision
from xautolm_hpc.store.columns import Columns, Ragged, only_marks, owned, with_marks
from xautolm_hpc.store.earlier import NO_LOSSES, Losses, in_format
from xautolm_hpc.store.folder import SegmentFolder
from xautolm_hpc.store.layout import EVERYTHING, FORMAT, KEYS, NO_CODE
from xautolm_hpc.store.marks import as_format_1, read_marks
from xautolm_hpc.store.structure import CheckLimits, StoreFinding
from xautolm_hpc.store.union import union
from xautolm_hpc.store.visible import stored_forms, view, with_accepted, without_hidden


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
    """Write a store: marks and conflicts too, but not what was forgotten.

    The copy is the same set of experiences: merging it into the original changes nothing, unless an earlier format
    could not say all of them. The key of the store and marks that wait are not copied; the copy notes which marks are
    in force and which experiences are the store's own, so that it shows what the store shows. It is one segment, or two
    if the store holds experiences of others too; in format 1 one, without those that have no effect.

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
    loaded = SegmentFolder(source, limits=limits, checked=target.checked).load(EVERYTHING).sure()
    forms, losses = stored_forms(loaded.columns()), NO_LOSSES
    if is_redacted:
        forms = [redacted_columns(form) for form in forms]
    if format_version == 1:
        forms, losses = _in_format_1(forms)
    target.make()
    target.authority.decide(MarkDecision.ACCEPTED, forms[-1].marks)
    target.replace(target.load(KEYS), forms if len(forms) > 1 else owned(forms, is_own=True))
    return Copied(n_experiences=sum(map(len, forms)), losses=losses, findings=loaded.findings)


def _in_format_1(forms: list[Columns]) -> tuple[list[Columns], Losses]:
    """Convert a store to format 1, whose readers do not know which experiences are its own: without what has no say."""
    marks = forms[-1].marks
    n_contradicting = sum(map(len, view(forms).contradicted.values()))
    shown = union([*without_hidden(forms), only_marks(marks)])
    accepted = with_marks(with_accepted(shown, read_marks(marks)), as_format_1(marks))
    written, losses = in_format(accepted, 1)
    if n_contradicting:
        losses = replace(losses, left_out={**losses.left_out, "contradicting": n_contradicting})
    return [written], losses


def redacted_columns(columns: Columns) -> Columns:
    """Remove messages and names of nodes from columns in stored form; the result is in stored form."""
    codes = {**columns.groups["codes"], "node": np.full(len(columns), NO_CODE, np.int32)}
    silent = Ragged.of([b""] * len(columns))
    plain = replace(
        columns, groups={**columns.groups, "codes": codes}, variable={**columns.variable, "message": silent}
    )
    return union([plain])
