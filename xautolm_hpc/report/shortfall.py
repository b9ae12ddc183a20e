"""Why no trial of a run is above the majority baseline, told from what its trials did."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from statistics import median
from typing import Any

from xautolm_hpc.failures import FailureKind
from xautolm_hpc.hyperparameters import n_warmup_steps
from xautolm_hpc.records import Experience, Value
from xautolm_hpc.report.quantities import counted, value_text

FEW_STEPS = 50
"""Optimiser steps after the warm-up below which a new head has rarely learnt anything; half of the trials are below."""

LEAST_GAIN = 5e-5
"""F1 above the baseline that counts: what the report shows as +0.0000 does not."""


CUT_GAIN = 0.05
"""F1 on dev above the baseline that a trial without a result must have had to show that time is what lacks."""

OUT_OF_TIME = (FailureKind.TIME_LIMIT, FailureKind.NODE_BUSY)
"""Failures of trials whose time ended."""


class Cause(StrEnum):
    """What kept trials at the baseline."""

    FEW_STEPS = "few-steps"
    STOPPED_EARLY = "stopped-early"
    TRUNCATED = "truncated"
    CUT_SHORT = "cut-short"
    FAILED = "failed"
    NOT_LEARNT = "not-learnt"


REMEDIES: Mapping[Cause, str] = {
    Cause.FEW_STEPS: "Few steps: raise constraints.min_steps, or write smaller batches or more epochs in "
    "[space.params].",
    Cause.STOPPED_EARLY: "Early stopping: raise trial.early_stopping_min_steps, or early_stopping_patience in "
    "[space.params].",
    Cause.TRUNCATED: "Time: raise trial.time_limit_min, or write fewer epochs in [space.params].",
    Cause.CUT_SHORT: "Time: raise trial.time_limit_min; on your own machine, or run fewer trials at a time ([local] "
    "n_slots = 1).",
    Cause.FAILED: "Most trials failed: mend first what the section on failures tells.",
    Cause.NOT_LEARNT: "The steps were many: write higher learning rates in [space.params], try other models, and check "
    "that the labels follow from the texts.",
}
"""Cause -> what to do about it."""


def epochs_run(experience: Experience) -> int | None:
    """Return the epochs that an attempt ran to their end; ``None`` where its record has no curve."""
    return len(experience.outcome.curve) or None


def learning_steps(experience: Experience) -> int | None:
    """Return the optimiser steps that an attempt took after its warm-up; ``None`` where that is unknown."""
    n_run, n_steps, params = epochs_run(experience), experience.outcome.n_steps, experience.pipeline.params
    epochs = _number(params, "epochs")
    if n_run is None or n_steps is None or epochs is None:
        return None
    given, share = _number(params, "warmup_steps"), experience.outcome.schedule_share
    n_planned = round(n_steps / share if share else n_steps / n_run * epochs)
    n_warmup = n_warmup_steps(
        None if given is None else int(given), _number(params, "warmup_ratio") or 0.0, n_steps=n_planned
    )
    return max(0, n_steps - n_warmup)


def find_shortfall(
    succeeded: Sequence[Experience], majority_f1: float | None, *, failed: Sequence[Experience] = ()
) -> dict[str, Any] | None:
    """Find out why no trial is above the majority baseline.

    Args:
        succeeded: Trials that succeeded.
        majority_f1: F1 of the baseline, or ``None``.
        failed: Attempts that failed.

    Returns:
        ``None`` where one is above it, none succeeded or the baseline is unknown. Else ``trials``, their number;
        ``stopped_early``, how many ran fewer epochs than drawn; ``truncated``, how many their time ended; (least,
        median, greatest) of ``steps`` after the warm-up, ``epochs_run``, ``epochs_drawn`` and ``learning_rate``, each
        ``None`` where it is unknown; ``causes``; ``cut_short``, trial and F1 on dev of the attempt that was furthest
        above the baseline when its time ended, or ``None``.
    """
    scores = [f1 for e in succeeded if (f1 := e.outcome.objective("f1")) is not None]
    if majority_f1 is None or not scores or max(scores) - majority_f1 >= LEAST_GAIN:
        return None
    steps = _spread([learning_steps(e) for e in succeeded])
    drawn = [_number(e.pipeline.params, "epochs") for e in succeeded]
    runs = [
        (run, epochs, e.outcome.truncated is True)
        for e, epochs in zip(succeeded, drawn, strict=True)
        if (run := epochs_run(e)) and epochs
    ]
    n_stopped = sum(run < epochs and not truncated for run, epochs, truncated in runs)
    n_truncated = sum(e.outcome.truncated is True for e in succeeded)
    cut_short = _cut_short(failed, majority_f1)
    n_failed = len({e.provenance.trial for e in failed} - {e.provenance.trial for e in succeeded})
    outer = [Cause.CUT_SHORT.value] if cut_short else [Cause.FAILED.value] if n_failed > len(succeeded) else []
    return {
        "trials": len(succeeded),
        "stopped_early": n_stopped,
        "truncated": n_truncated,
        "steps": steps,
        "epochs_run": _spread([run for run, _, _ in runs]),
        "epochs_drawn": _spread(drawn),
        "learning_rate": _spread([_number(e.pipeline.params, "learning_rate") for e in succeeded]),
        "cut_short": cut_short,
        "causes": outer + _causes(steps, n_stopped=n_stopped, n_truncated=n_truncated, n_trials=len(succeeded))
        or [Cause.NOT_LEARNT.value],
    }


def shortfall_text(shortfall: Mapping[str, Any]) -> str:
    """Write why no trial is above the baseline and what helps.

    Args:
        shortfall: Result of :func:`find_shortfall`.
    """
    parts = [f"of {counted(shortfall['trials'], 'trial')} that succeeded, {_stopped_text(shortfall)}"]
    for key, noun in (
        ("steps", "optimiser steps after the warm-up"),
        ("epochs_run", "epochs run"),
        ("epochs_drawn", "epochs drawn"),
        ("learning_rate", "learning rates"),
    ):
        if shortfall[key] is not None:
            parts.append(f"{noun}: {_spread_text(shortfall[key])}")
    remedies = " ".join(REMEDIES[Cause(cause)] for cause in shortfall["causes"])
    if cut := shortfall.get("cut_short"):  # an older report has none
        remedies = f"Trial {cut['trial']} was at F1 {cut['f1']:.4f} on dev when its time ended. {remedies}"
    return f"No trial is above the majority baseline: {'; '.join(parts)}. {remedies}"


def _cut_short(failed: Sequence[Experience], majority_f1: float) -> dict[str, Any] | None:
    """Find the attempt with the highest F1 on dev when its time ended, if that is well above the baseline."""
    found = [
        (float(point[3]), e.provenance.trial)
        for e in failed
        if e.outcome.kind in OUT_OF_TIME
        for point in e.outcome.curve[-1:]
        if point[3] - majority_f1 >= CUT_GAIN
    ]
    if not found:
        return None
    f1, trial = max(found)
    return {"trial": trial, "f1": f1}


def _causes(steps: Sequence[float] | None, *, n_stopped: int, n_truncated: int, n_trials: int) -> list[str]:
    causes = []
    if steps is not None and steps[1] < FEW_STEPS:
        causes.append(Cause.FEW_STEPS)
    if 4 * n_stopped >= n_trials:
        causes.append(Cause.STOPPED_EARLY)
    if 4 * n_truncated >= n_trials:
        causes.append(Cause.TRUNCATED)
    return [cause.value for cause in causes]


def _stopped_text(shortfall: Mapping[str, Any]) -> str:
    n_stopped = shortfall["stopped_early"]
    text = f"early stopping ended {n_stopped:,} before all epochs drawn" if n_stopped else "none was stopped early"
    n_truncated = shortfall.get("truncated")  # an older report has none
    return f"{text}, {n_truncated:,} {'was' if n_truncated == 1 else 'were'} truncated" if n_truncated else text


def _spread(values: Sequence[float | None]) -> list[float] | None:
    """Return the least, median and greatest of the known values."""
    known = [value for value in values if value is not None]
    return [min(known), median(known), max(known)] if known else None


def _spread_text(spread: Sequence[float]) -> str:
    least, middle, greatest = (value_text(float(f"{value:.3g}")) for value in spread)
    return least if least == greatest else f"{least} to {greatest}, median {middle}"


def _number(params: Mapping[str, Value], name: str) -> float | None:
    value = params.get(name)
    return None if value is None or isinstance(value, bool | str) else value
