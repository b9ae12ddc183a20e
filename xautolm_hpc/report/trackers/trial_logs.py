"""What trackers are told of a trial: parameters, curves, final metrics and tags, the same for each of them."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from xautolm_hpc.records import Value
from xautolm_hpc.report.figure_numbers import all_trials
from xautolm_hpc.report.safe_text import one_line, shortened
from xautolm_hpc.report.summary import MEASURES

LONGEST_TEXT = 500
"""Characters of a text that a tracker is given; MLflow refuses longer ones than some thousand."""

CURVES = ("epoch", "train_loss", "dev_loss", "dev_f1")
"""Names of the first values of a point of ``curve`` in ``report.json``; the fifth is the seconds so far."""

TAGS = (
    *("experience", "generation", "attempt", "status", "kind", "origin", "truncated", "suspect"),
    *("energy_source", "energy_scope", "gpu", "node"),
)
"""Fields of a trial that become tags, where they are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialLog:
    """One trial, as trackers are told of it.

    Attributes:
        trial: Its number.
        status: How it ended: ``succeeded``, ``failed`` or ``stopped``.
        params: Model, method and hyperparameters; texts are escaped.
        metrics: Final metrics on ``validation``, those on ``test`` as ``test_NAME``, times, memory and energy.
        curve: After each epoch, the seconds of training so far and the values by name.
        tags: What else is known, as text; escaped.
        began_s: When it began, in seconds since 1970 (UTC); 0 where it is unknown.
        ended_s: When it ended, likewise.
    """

    trial: int
    status: str
    params: Mapping[str, Value]
    metrics: Mapping[str, float]
    curve: tuple[tuple[float, Mapping[str, float]], ...]
    tags: Mapping[str, str]
    began_s: float
    ended_s: float

    @property
    def digest(self) -> str:
        """Digest of all that is told, by which a trial is found again in a log."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def trial_logs(summary: Mapping[str, Any]) -> list[TrialLog]:
    """List what is told of each trial of a summary, by number.

    Args:
        summary: The content of ``report.json``.
    """
    return [_trial_log(summary, trial) for trial in all_trials(summary)]


def _trial_log(summary: Mapping[str, Any], trial: Mapping[str, Any]) -> TrialLog:
    """Collect what is told of one trial; an older report does not say when it began."""
    run, tests = summary["run"], summary["tests"].get(str(trial["trial"]), {})
    params = {"model": trial["model"], "method": trial["method"], **trial["params"]}
    measured = {**trial["metrics"], **{name: trial.get(name) for name in MEASURES}}
    measured |= {f"test_{name}": value for name, value in tests.items()}
    tags = {"run": run["name"], "run_id": run["run_id"], "model": trial["model"], "method": trial["method"]}
    tags |= {name: trial[name] for name in TAGS if trial.get(name) not in (None, "")}
    ended_s = _seconds(trial.get("ended_at"))
    return TrialLog(
        trial=trial["trial"],
        status=str(trial["status"]),
        params={_name(key): _text(value) if isinstance(value, str) else value for key, value in params.items()},
        metrics={_name(key): float(value) for key, value in measured.items() if value is not None},
        curve=tuple(_points(trial.get("curve", ()))),
        tags={
            name: _text(str(value).lower() if isinstance(value, bool) else str(value)) for name, value in tags.items()
        },
        began_s=_seconds(trial.get("started_at")) or ended_s,
        ended_s=ended_s,
    )


def _points(curve: Sequence[Sequence[float | None]]) -> Iterator[tuple[float, dict[str, float]]]:
    """Iterate over the points of a curve: seconds so far, and what is known by name."""
    before_s = 0.0
    for point in curve:
        values = {f"curve/{name}": value for name, value in zip(CURVES, point, strict=False) if value is not None}
        so_far_s = point[4] if len(point) > 4 else None
        if so_far_s is not None:
            values["curve/epoch_s"], before_s = so_far_s - before_s, so_far_s
        yield before_s, values


def _seconds(at: str | None) -> float:
    return 0.0 if at is None else datetime.fromisoformat(at).timestamp()


def _name(name: str) -> str:
    """Return a name that every tracker takes."""
    return shortened(re.sub(r"[^\w-]", "_", name), LONGEST_TEXT // 2)


def _text(text: str) -> str:
    return shortened(one_line(text), LONGEST_TEXT)
