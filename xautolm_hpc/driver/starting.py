"""Whether jobs of a run can start at all: what no job can begin is the site's fault, and no attempt mends it."""

import re

from xautolm_hpc.errors import LaunchError
from xautolm_hpc.failures import FailureKind
from xautolm_hpc.jobdir import restarts
from xautolm_hpc.run.history import Attempt, History, Trial

ENOUGH = 2
"""Nodes, or submissions that reached none, on which starting fails for one reason before the search stops with it."""


def check_jobs_start(history: History, *, newest: Attempt, lease_number: int) -> None:
    """Check that jobs begin their attempts, on some node, now that one could not.

    Clocks of nodes may be wrong, so the order of submissions tells what came after what. What drivers before this one
    submitted counts no more: the profile may have been changed, or the node mended.

    Args:
        history: What happened in the run, all ends of one look included.
        newest: An attempt of these that could not start. The reasons of others may have been mended.
        lease_number: Lease of this driver.

    Raises:
        LaunchError: Jobs of first size could not start on two nodes, or before any node was reached and when submitted
            again, for the same reason as the newest; none works, and none submitted with them or since has begun.
    """
    order = {name: place for place, name in enumerate(history.submissions)}
    own = {order[name] for name, line in history.submissions.items() if line["lease"] == lease_number}
    placed = [
        (order[attempt.submission], attempt)
        for trial in history.trials.values()
        for attempt in trial.attempts
        if attempt.submission in order
    ]
    begun = [(place, attempt) for place, attempt in placed if _has_begun(attempt)]
    if any(attempt.end is None for _, attempt in begun):
        return
    last_begun = max((place for place, _ in begun), default=-1)
    larger = {attempt.path for trial in history.trials.values() for attempt in _with_more_memory(trial)}
    alike = [
        (place, attempt)
        for place, attempt in placed
        if place > last_begun
        and place in own
        and _could_not_start(attempt)
        and attempt.path not in larger
        and _alike(_reason(attempt)) == _alike(_reason(newest))
    ]
    if newest.path not in {attempt.path for _, attempt in alike}:
        return
    nodes = sorted({attempt.end.node for _, attempt in alike if attempt.end is not None and attempt.end.node})
    nowhere = {place for place, attempt in alike if attempt.end is not None and not attempt.end.node}
    if max(len(nodes), len(nowhere)) >= ENOUGH:
        where = f"on {', '.join(nodes)}" if len(nodes) >= ENOUGH else "before any node was reached"
        raise LaunchError(
            f"jobs cannot start, {where}: {_reason(alike[-1][1])}. No more are submitted. Mend that, then give the "
            "same command again; `xautolm-hpc doctor PROFILE --job` tries it with one short job"
        )


def _with_more_memory(trial: Trial) -> list[Attempt]:
    """List the attempts that ask for more memory than a first one: that they cannot start says nothing of others."""
    ran_out = [
        attempt.outcome is not None and attempt.outcome.kind == FailureKind.HOST_OOM for attempt in trial.attempts
    ]
    return trial.attempts[ran_out.index(True) + 1 :] if True in ran_out else []


def _could_not_start(attempt: Attempt) -> bool:
    return attempt.outcome is not None and attempt.outcome.kind == FailureKind.LAUNCH_FAILURE


def _reason(attempt: Attempt) -> str:
    return "" if attempt.outcome is None else attempt.outcome.reason


def _alike(reason: str) -> str:
    """Write a reason without the numbers of its job, attempt or node."""
    return re.sub(r"[0-9]+", "0", reason)


def _has_begun(attempt: Attempt) -> bool:
    """Check whether the worker of an attempt began, or its job has claimed it and has not ended."""
    if attempt.end is not None:
        return attempt.end.started_at is not None and not _could_not_start(attempt)
    return attempt.path.is_dir() and bool(restarts(attempt.path))
