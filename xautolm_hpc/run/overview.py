"""A run at one moment, put together from its history, its jobs' states and their heartbeats."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from xautolm_hpc.failures import TRUNCATED, FailureKind, OutcomeStatus
from xautolm_hpc.jobdir import End
from xautolm_hpc.launcher import JobState, JobStatus
from xautolm_hpc.pareto import preference
from xautolm_hpc.run.attempt_end import read_end
from xautolm_hpc.run.history import History, Trial
from xautolm_hpc.run.progress import read_progress
from xautolm_hpc.view import TRIAL_ENDS, BestTrial, RunView, TrialEnd, TrialView


def fill_view(
    view: RunView,
    history: History,
    *,
    states: Mapping[Path, JobStatus],
    now: float,
    polled: Mapping[Path, End | None] = MappingProxyType({}),
) -> RunView:
    """Fill in what history and jobs know of a run.

    Args:
        view: Name, phase, generation and cost of the run.
        history: What happened so far.
        states: State of each attempt's job, as far as known.
        now: Seconds since the epoch.
        polled: Attempts whose folders need no look -> how they ended, ``None`` if they have not.
    """
    ends = ends_of(history, polled)
    return replace(
        view,
        trials=tuple(
            _view(trial, states.get(trial.last.path), end=ends.get(trial.number), history=history, now=now)
            for trial in history.generation(view.generation)
        ),
        n_succeeded=sum(end.outcome.succeeded for end in ends.values()),
        n_failed=sum(
            end.outcome.status == OutcomeStatus.FAILED and end.outcome.kind != FailureKind.CANCELLED
            for end in ends.values()
        ),
        best=_best(history, ends, objectives=view.objectives),
    )


def end_of(trial: Trial, polled: Mapping[Path, End | None] = MappingProxyType({})) -> End | None:
    """Return how a trial's present attempt ended: from the ledger, or from its folder before the ledger says so.

    Args:
        trial: The trial.
        polled: Attempts whose folders need no look -> how they ended, ``None`` if they have not.
    """
    last = trial.last
    if last.end is not None or last.submission is None:
        return last.end
    return polled[last.path] if last.path in polled else read_end(last.path)


def ends_of(history: History, polled: Mapping[Path, End | None] = MappingProxyType({})) -> dict[int, End]:
    """Read how the present attempts ended, each file once: trial number -> end; see :func:`end_of`."""
    found = ((number, end_of(trial, polled)) for number, trial in history.trials.items())
    return {number: end for number, end in found if end is not None}


def view_trial(trial: Trial, state: JobStatus | None, *, history: History, now: float) -> TrialView:
    """Build one line about a trial.

    Args:
        trial: The trial.
        state: State of its present attempt's job, if it is known.
        history: What happened in its run.
        now: Seconds since the epoch.
    """
    return _view(trial, state, end=end_of(trial), history=history, now=now)


def _view(trial: Trial, state: JobStatus | None, *, end: End | None, history: History, now: float) -> TrialView:
    """Build one line about a trial whose present attempt ended as given, or not yet."""
    pipeline = trial.plan.pipeline
    build = partial(
        TrialView, trial=trial.number, attempt=trial.last.number, model=pipeline.model_id, method=pipeline.method
    )
    if end is not None:
        is_cancelled = end.outcome.kind == FailureKind.CANCELLED
        return build(
            state=JobState.CANCELLED if is_cancelled else TRIAL_ENDS[end.outcome.status],
            reason="" if is_cancelled else end.outcome.kind or (TRUNCATED if end.outcome.truncated else ""),
            node=end.node,
            elapsed_s=None if end.started_at is None else end.ended_at - end.started_at,
            f1=end.outcome.metrics.get("f1"),
        )
    if history.stopped is not None and trial.last.submission is None:
        return build(state=TrialEnd.NOT_RUN, reason="the search stopped before")
    is_cancelled = history.run_dir.cancel_path.exists()
    now_at = read_progress(trial.last.path, state, is_cancelled=is_cancelled, now=now)
    return build(
        state=now_at.state,
        reason=now_at.reason,
        node=now_at.node,
        elapsed_s=now_at.elapsed_s,
        step=now_at.step,
        n_steps=now_at.n_steps,
    )


def best_trial(history: History, objectives: Sequence[str]) -> BestTrial | None:
    """Find the best trial so far, by the rule of :func:`xautolm_hpc.pareto.preference`.

    Args:
        history: What happened so far.
        objectives: The search's objectives, the first one first.
    """
    return _best(history, ends_of(history), objectives=objectives)


def _best(history: History, ends: Mapping[int, End], *, objectives: Sequence[str]) -> BestTrial | None:
    """Find the best of the trials that ended as given."""
    outcomes = [(history.trials[number], end.outcome) for number, end in ends.items()]
    keys = [(preference(outcome, t.number, objectives=objectives), t, outcome) for t, outcome in outcomes]
    ranked = [(key, trial, outcome) for key, trial, outcome in keys if key is not None]
    if not ranked:
        return None
    _, trial, outcome = min(ranked, key=lambda entry: entry[0])
    pipeline, first = trial.plan.pipeline, objectives[0]
    return BestTrial(
        trial=trial.number,
        model=pipeline.model_id,
        method=pipeline.method,
        f1=outcome.objective("f1"),
        objective=first,
        value=outcome.objective(first),
        truncated=outcome.truncated is True,
    )


def ended_line(trial: Trial, end: End) -> str:
    """Write in one line how an attempt ended."""
    pipeline, outcome = trial.plan.pipeline, end.outcome
    head = f"trial {trial.number}"
    if trial.last.number:
        head += f" (attempt {trial.last.number})"
    head += f" {pipeline.model_id} {pipeline.method}"
    if outcome.succeeded:
        seconds = "" if outcome.evaluation_time_s is None else f" in {outcome.evaluation_time_s:.1f} s"
        truncated = f", {TRUNCATED}" if outcome.truncated else ""
        return f"{head}: f1 {outcome.metrics.get('f1', float('nan')):.3f}{seconds}{truncated}"
    words = f"{head}: {outcome.kind} ({outcome.origin})"
    return f"{words}: {outcome.reason}" if outcome.reason else words
