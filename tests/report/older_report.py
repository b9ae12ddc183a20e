"""A report of an earlier version: what has come to ``report.json`` since trials were evaluated on test is missing."""

import json
from collections.abc import Iterable
from itertools import chain
from typing import Any

from xautolm_hpc.report import summarise
from xautolm_hpc.view import RunFacts

LATER = ("certainty", "ended_s", "importance", "shortfall", "left_out", "refusal_reasons")
LATER_OF_TRIALS = ("curve", "epochs_run", "learning_steps", "truncated", "epochs_done", "started_at", "ended_at")
LATER_OF_REASONS = ("f1", "task_fingerprint")
LATER_OF_PARTS = {
    "run": ("finish_kind",),
    "task": ("fingerprint",),
    "counts": ("truncated",),
    "spent": ("failed_s", "without_gpu", "co2_kg", "price", "co2_g_per_kwh", "price_per_gpu_h", "currency"),
    "prior": ("additions", "forecast"),
}


def older_report(run: RunFacts) -> dict[str, Any]:
    """Build the content that an earlier version would have written, as it is read from its file."""
    summary: dict[str, Any] = json.loads(json.dumps(summarise(run)))
    trials = [summary["best"], *chain(*(summary[group] for group in ("front", "dominated", "unranked", "failed")))]
    members = chain(summary["prior"]["models"], summary["prior"]["methods"])
    _drop(LATER, [summary])
    _drop(LATER_OF_TRIALS, trials)
    _drop(LATER_OF_REASONS, chain(*(member["moved_by"] for member in members)))
    for part, keys in LATER_OF_PARTS.items():
        _drop(keys, [summary[part]])
    return summary


def _drop(keys: Iterable[str], records: Iterable[dict[str, Any]]) -> None:
    for record in records:
        for key in keys:
            record.pop(key, None)
