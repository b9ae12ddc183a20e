"""What to do about failures."""

from collections.abc import Mapping
from typing import Any

from xautolm_hpc.failures import FailureKind
from xautolm_hpc.report.quantities import counted, value_text

ADVICE: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    FailureKind.NODE_BUSY: (
        "lost their time to other programs",
        "on your own machine run fewer trials at a time ([local] n_slots = 1), raise trial.time_limit_min, or wait for "
        "a quieter hour",
        ("local.n_slots", "trial.time_limit_min"),
    ),
    FailureKind.TIME_LIMIT: (
        "did not end within trial.time_limit_min",
        "if they are many, raise the limit, or take smaller models or shorter texts",
        ("trial.time_limit_min",),
    ),
    FailureKind.HOST_OOM: (
        "ran out of host memory",
        "raise job.memory_gb if that happens often",
        ("job.memory_gb",),
    ),
}
"""Failure kind -> what its attempts did; what to do, in the words of the guide's page on troubles; settings named."""


def advice_lines(summary: Mapping[str, Any]) -> list[str]:
    """Write what to do about each kind of failure that something can be done about, and what the settings are now.

    Args:
        summary: Result of :func:`xautolm_hpc.report.summary.summarise`.
    """
    n_attempts, settings = counted(summary["counts"]["attempts"], "attempt"), summary.get("settings", {})
    lines = []
    for failure in summary["failures"]:
        if failure["kind"] in ADVICE:
            did, remedy, keys = ADVICE[failure["kind"]]
            now = ", ".join(f"{key} = {value_text(settings[key])}" for key in keys if key in settings)
            text = f"{failure['attempts']:,} of {n_attempts} {did}: {remedy}"
            lines.append(f"{text}; now {now}." if now else f"{text}.")
    return lines
