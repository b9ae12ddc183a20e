"""Counts of what a store holds."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from xautolm_hpc.store.columns import Array, Columns, parse
from xautolm_hpc.store.decode import utc_text, values
from xautolm_hpc.store.layout import NO_INTEGER
from xautolm_hpc.store.visible import View


def summarise(seen: View, *, n_differing_copies: int, sizes_bytes: Sequence[int]) -> dict[str, Any]:
    """Count experiences by task, status, site and so on; plain data for JSON.

    Args:
        seen: The store, with the columns of :data:`~xautolm_hpc.store.layout.SUMMARY`.
        n_differing_copies: Experiences of which other stores say something else.
        sizes_bytes: Size of each segment on disk.
    """
    columns = seen.visible()
    codes = columns.groups["codes"]
    known = values(columns)
    tasks = [parse(entry)["name"] for entry in columns.dictionaries["tasks"]]
    models = [parse(entry)[0] for entry in columns.dictionaries["models"]]
    n, n_bytes = len(columns), sum(sizes_bytes)
    return {
        "n_experiences": n,
        "by_task": _counts(codes["task"], tasks),
        "by_status": _counts(codes["status"], known),
        "by_failure_kind": _counts(codes["kind"], known),
        "by_site": _counts(codes["site"], known),
        "by_model": _counts(codes["model"], models),
        "by_method": _counts(codes["method"], known),
        "n_suspect": int(columns.groups["counts"]["suspect"].sum()),
        "n_truncated": int((columns.groups["numbers"]["truncated"] == 1).sum()),
        "n_conflicts": len(seen.conflicts),
        "n_contradicting": sum(map(len, seen.contradicted.values())) + n_differing_copies,
        **_span(columns),
        "n_segments": len(sizes_bytes),
        "n_bytes": n_bytes,
        "bytes_each": round(n_bytes / n, 1) if n else None,
    }


def _counts(codes: Array, names: Sequence[str]) -> dict[str, int]:
    """Count the rows of each name, most frequent first; entries with the same name are counted together."""
    counts: dict[str, int] = {}
    for name, n in zip(names, np.bincount(codes[codes >= 0], minlength=len(names)).tolist(), strict=True):
        if n:
            counts[name] = counts.get(name, 0) + n
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _span(columns: Columns) -> dict[str, str | None]:
    started = columns.groups["integers"]["started_at_us"]
    started = started[started != NO_INTEGER]
    ended = columns.groups["integers"]["ended_at_us"]
    return {
        "first_start": utc_text(int(started.min())) if started.size else None,
        "last_end": utc_text(int(ended.max())) if ended.size else None,
    }
