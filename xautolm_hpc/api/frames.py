"""Trials and experiences as data frames."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xautolm_hpc.errors import InputError
from xautolm_hpc.records import Experience, to_json

if TYPE_CHECKING:
    import pandas as pd


def flat_trial(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Write a trial as a row: its metrics by their names, its hyperparameters as ``params.NAME``."""
    nested = ("metrics", "params", "curve")
    plain = {key: value for key, value in trial.items() if key not in nested}
    params = {f"params.{name}": value for name, value in trial["params"].items()}
    return {**plain, **trial["metrics"], **params, "curve": trial.get("curve")}


def flat_experience(experience: Experience) -> dict[str, Any]:
    """Write an experience as a row."""
    task, system, pipeline, outcome = experience.task, experience.system, experience.pipeline, experience.outcome
    return {
        "id": experience.id,
        "site": experience.provenance.site,
        "task": task.name,
        "kind_of_task": task.kind,
        "gpu": system.gpu_name,
        "model": pipeline.model_id,
        "method": pipeline.method,
        "status": str(outcome.status),
        "failure": outcome.kind,
        "truncated": outcome.truncated,
        **outcome.metrics,
        "evaluation_time_s": outcome.evaluation_time_s,
        "gpu_energy_j": outcome.gpu_energy_j,
        "peak_gpu_memory_bytes": outcome.peak_gpu_memory_bytes,
        **{f"params.{name}": to_json(value) for name, value in pipeline.params.items()},
    }


def frame_of(rows: Sequence[Mapping[str, Any]]) -> "pd.DataFrame":
    """Build a data frame.

    Raises:
        InputError: pandas is not installed here.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise InputError("data frames need pandas, which is not installed here: pip install pandas") from error
    return pd.DataFrame(rows)
