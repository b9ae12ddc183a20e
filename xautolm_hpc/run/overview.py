"""A run at one moment, put together from its history, its jobs' states and their heartbeats."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from xautolm_hpc.durable import read_json
from xautolm_hpc.errors import InputError
from xautolm_hpc.jobdir import Claim, End, Heartbeat, claim_path, heartbeat_path, restarts
from xautolm_hpc.launcher import JobState, JobStatus
from xautolm_hpc.records import T, from_json
from xautolm_hpc.run.history import History, Trial
from xautolm_hpc.view import BestTrial, RunView, TrialView


def fill_view(view: RunView, history: History, *, states: Mapping[Path, JobStatus], now: float) -> RunView:
    """Fill in what history and jobs know of a run.

    Args:
        view: Name, phase, generation and cost of the run.
        history: What happened so far.
        states: State of each attempt's job, as far as known.
        now: Seconds since the epoch.
    """
    ends = [trial.last.end for trial in history.trials.values() if trial.last.end is not None]
    trials = history.generation(view.generation)
    return replace(
        view,
        trials=tuple(view_trial(trial, states.get(trial.last.path), now=now) for trial in trials),
        n_succeeded=sum(end.outcome.status == "succeeded" for end in ends),
        n_failed=sum(end.outcome.status == "failed" for end in ends),
        best=best_trial(history),
    )


def view_trial(trial: Trial, state: JobStatus | None, *, now: float) -> TrialView:
    """Put together one line about a trial."""
    end = trial.last.end
    pipeline = trial.plan.pipeline
    if end is not None:
        return TrialView(
            trial=trial.number,
            attempt=trial.last.number,
            model=pipeline.model_id,
            method=pipeline.method,
            state=end.outcome.status.upper(),
            reason=end.outcome.kind or "",
            node=end.node,
            elapsed_s=None if end.started_at is None else end.ended_at - end.started_at,
            f1=end.outcome.metrics.get("f1"),
        )
    claim, heartbeat = _read_progress(trial.last.path)
    return TrialView(
        trial=trial.number,
        attempt=trial.last.number,
        model=pipeline.model_id,
        method=pipeline.method,
        state=JobState.PENDING if state is None else state.state,
        reason="" if state is None else state.reason,
        node=(state and state.node) or (claim.node if claim else None),
        elapsed_s=now - claim.claimed_at if claim else None,
        step=heartbeat.step if heartbeat else 0,
        n_steps=heartbeat.n_steps if heartbeat else 0,
    )


def best_trial(history: History) -> BestTrial | None:
    """Find the trial with the highest F1 so far."""
    scored = [
        (trial.last.end.outcome.metrics["f1"], -trial.number, trial)
        for trial in history.trials.values()
        if trial.last.end is not None and "f1" in trial.last.end.outcome.metrics
        if trial.last.end.outcome.status == "succeeded"
    ]
    if not scored:
        return None
    f1, _, trial = max(scored, key=lambda entry: entry[:2])
    pipeline = trial.plan.pipeline
    return BestTrial(trial=trial.number, model=pipeline.model_id, method=pipeline.method, f1=f1)


def ended_line(trial: Trial, end: End) -> str:
    """Write in one line how an attempt ended."""
    pipeline, outcome = trial.plan.pipeline, end.outcome
    head = f"trial {trial.number}"
    if trial.last.number:
        head += f" (attempt {trial.last.number})"
    head += f" {pipeline.model_id} {pipeline.method}"
    if outcome.status == "succeeded":
        seconds = "" if outcome.evaluation_time_s is None else f" in {outcome.evaluation_time_s:.1f} s"
        return f"{head}: f1 {outcome.metrics.get('f1', float('nan')):.3f}{seconds}"
    words = f"{head}: {outcome.kind} ({outcome.origin})"
    return f"{words}: {outcome.reason}" if outcome.reason else words


def _read_progress(path: Path) -> tuple[Claim | None, Heartbeat | None]:
    """Read the last claim and heartbeat; a file that is being replaced counts as not there."""
    claimed = restarts(path) if path.exists() else []
    if not claimed:
        return None, None
    last = claimed[-1]
    return _read_if_whole(Claim, claim_path(path, last)), _read_if_whole(Heartbeat, heartbeat_path(path, last))


def _read_if_whole(record_type: type[T], path: Path) -> T | None:
    try:
        return from_json(record_type, read_json(path), where=str(path))
    except (OSError, InputError):
        return None
