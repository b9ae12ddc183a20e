"""The verdict on an attempt whose job ended without an outcome: which kind of failure it was, and what it cost.

The rules are tried in the order of :data:`RULES`; the first one that returns a kind decides. A failure that is not
clearly the pipeline's counts as one of the infrastructure: it is tried again, and is no evidence against the pipeline.
"""

import signal
from collections.abc import Callable

from xautolm_hpc import __version__
from xautolm_hpc.failures import NAMED_BY_WRAPPER, FailureKind, OutcomeStatus, TextSource, last_line_with_kind
from xautolm_hpc.gather.traces import Evidence
from xautolm_hpc.jobdir import CHECKPOINT_EXIT_STATUS, End
from xautolm_hpc.launcher import JobState
from xautolm_hpc.node import is_node_busy
from xautolm_hpc.records import Outcome

Judgement = tuple[FailureKind, str]
"""Failure kind and reason."""

CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE)


def judge(evidence: Evidence) -> Judgement:
    """Return which kind of failure it was and why; a time limit of a trial that others delayed is ``node_busy``.

    Returns:
        Failure kind, and the reason as a text.
    """
    kind, reason = _first_judgement(evidence)
    if kind is FailureKind.TIME_LIMIT and is_node_busy(evidence.delay_s, evidence.elapsed_s):
        return FailureKind.NODE_BUSY, f"{reason}; other processes of the node delayed it by {evidence.delay_s:.1f} s"
    return kind, reason


def _first_judgement(evidence: Evidence) -> Judgement:
    for rule in RULES:
        judgement = rule(evidence)
        if judgement is not None:
            return judgement
    return FailureKind.LOST, f"the job ended as {evidence.state.state} without an outcome or an exit file"


def verdict(evidence: Evidence, *, now: float) -> End:
    """Turn evidence into a failed end that keeps the time and energy known to be burnt.

    Args:
        evidence: What the attempt left behind.
        now: Seconds since the epoch, for an end nothing dates.
    """
    kind, reason = judge(evidence)
    message = "\n".join(filter(None, [reason, evidence.log_tail or evidence.launch_log]))
    beats, claims = evidence.heartbeats, evidence.claims
    gpu_j = _sum([beat.gpu_energy_j for beat in beats])
    cpu_j = _sum([beat.cpu_energy_j for beat in beats])
    sources = [name for name, joules in (("nvml-counter", gpu_j), ("rapl", cpu_j)) if joules is not None]
    peaks = [ended.peak_rss_bytes for ended in evidence.exits if ended.peak_rss_bytes is not None]
    outcome = Outcome(
        status=OutcomeStatus.FAILED,
        train_s=evidence.train_s,
        gpu_energy_j=gpu_j,
        cpu_energy_j=cpu_j,
        energy_source="+".join(sources) or "none",
        energy_scope="none" if not sources else "node" if gpu_j is None else "whole-gpu",
        peak_rss_bytes=max(peaks, default=None),
        n_steps=max((beat.step for beat in beats), default=None),
        schedule_share=max((min(1.0, beat.step / beat.n_steps) for beat in beats if beat.n_steps), default=None),
        kind=kind,
        origin=kind.origin,
        message=message,
    )
    return End(
        outcome=outcome,
        system=None,
        restart=claims[-1].restart if claims else 0,
        started_at=claims[0].claimed_at if claims else None,
        job_started_at=claims[0].job_started_at if claims else None,
        ended_at=_ended_at(evidence, now),
        node=_node(evidence),
        lock_hash=evidence.container.lock_sha256 if evidence.container else None,
        image_digest=evidence.container.image_sha256 if evidence.container else None,
        package_version=__version__,
    )


def _damaged_outcome(evidence: Evidence) -> Judgement | None:
    return None if evidence.damaged is None else (FailureKind.LOST, f"the outcome cannot be read: {evidence.damaged}")


def _given_up(evidence: Evidence) -> Judgement | None:
    """Name a job that this program cancelled because it would not start: nobody else did, so it is tried again."""
    if evidence.given_up is None:
        return None
    return FailureKind.LAUNCH_FAILURE, f"the job was given up: {evidence.given_up}"


def _by_wrapper(evidence: Evidence) -> Judgement | None:
    ended = evidence.exit
    if ended is None or ended.ended_by not in NAMED_BY_WRAPPER:
        return None
    kind = FailureKind(ended.ended_by)
    if kind is FailureKind.WALL_LIMIT and _has_used_its_time(evidence):
        kind = FailureKind.TIME_LIMIT
    return kind, ended.message or f"the wrapper ended the worker: {ended.ended_by}"


def _by_slurm(evidence: Evidence) -> Judgement | None:
    state = evidence.state
    kind = state.state.failure_kind
    if kind is None:
        return None
    if kind is FailureKind.WALL_LIMIT and _has_used_its_time(evidence):
        return FailureKind.TIME_LIMIT, f"Slurm ended the job ({state.state}) after the trial had used its own time up"
    reason = f": {state.reason}" if state.reason else ""
    return kind, f"the job ended as {state.state}{reason}"


def _has_used_its_time(evidence: Evidence) -> bool:
    return evidence.time_limit_s is not None and (evidence.train_s or 0.0) >= evidence.time_limit_s


def _by_launch_log(evidence: Evidence) -> Judgement | None:
    found = last_line_with_kind(evidence.launch_log.splitlines(), TextSource.NODE_LOG)
    if found is None:
        return None
    kind, line = found
    is_own = kind is FailureKind.WALL_LIMIT and _has_used_its_time(evidence)
    return (FailureKind.TIME_LIMIT if is_own else kind), f"Slurm's node said: {line}"


def _checkpointed(evidence: Evidence) -> Judgement | None:
    if evidence.exit is None or evidence.exit.returncode != CHECKPOINT_EXIT_STATUS:
        return None
    reason = "the worker checkpointed as it was told to, and the job was not put back into the queue"
    return FailureKind.PREEMPTED, reason


def _by_log(evidence: Evidence) -> Judgement | None:
    """Read the log from its end; for a worker that ended by itself with status 0 it is not used."""
    if evidence.exit is not None and evidence.exit.returncode == 0:
        return None
    found = last_line_with_kind(evidence.log_tail.splitlines(), TextSource.WORKER_LOG)
    return None if found is None else (found[0], "the worker died without an outcome; its log says why")


def _never_claimed(evidence: Evidence) -> Judgement | None:
    if evidence.claims:
        return None
    state = evidence.state
    if state.state in (JobState.FAILED, JobState.COMPLETED) or evidence.launch_log:
        return FailureKind.LAUNCH_FAILURE, f"the job ended before it began the attempt: {state.reason or state.state}"
    return FailureKind.LOST, f"no source knows the job, and it never began the attempt ({state.state})"


def _by_exit_status(evidence: Evidence) -> Judgement | None:
    """Read the worker's exit status: a crash counts against the pipeline, being killed from outside does not."""
    code = None if evidence.exit is None else evidence.exit.returncode
    if code is None:
        return None
    number = -code if code < 0 else code - 128 if code > 128 else None
    if number == signal.SIGILL:
        return FailureKind.ENVIRONMENT, "the worker met an instruction that this processor does not know"
    if number in CRASHES:
        return FailureKind.ERROR, f"the worker crashed with {signal.Signals(number).name}"
    if number in (signal.SIGKILL, signal.SIGTERM):
        return FailureKind.LOST, f"the worker was ended from outside by {signal.Signals(number).name}"
    if code == 0:
        return FailureKind.LOST, "the worker ended with status 0 but wrote no outcome"
    return FailureKind.ERROR, f"the worker ended with status {code} and wrote no outcome"


RULES: tuple[Callable[[Evidence], Judgement | None], ...] = (
    _damaged_outcome,
    _given_up,
    _by_wrapper,
    _by_slurm,
    _by_launch_log,
    _checkpointed,
    _by_log,
    _never_claimed,
    _by_exit_status,
)


def _node(evidence: Evidence) -> str | None:
    """Return the node that the end speaks of: none where a job waited in vain, wherever it had run before."""
    if evidence.given_up is not None:
        return None
    return evidence.claims[-1].node if evidence.claims else evidence.state.node


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _ended_at(evidence: Evidence, now: float) -> float:
    if evidence.exit is not None:
        return evidence.exit.ended_at
    if evidence.state.ended_at is not None:
        return evidence.state.ended_at
    return evidence.heartbeats[-1].at if evidence.heartbeats else now
