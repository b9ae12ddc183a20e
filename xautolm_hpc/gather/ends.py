"""Finds the attempts that have ended. The outcome file comes first; a job's state is only a hint."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from xautolm_hpc.durable import create_json, read_json
from xautolm_hpc.errors import InputError
from xautolm_hpc.gather.pending import Obstacle, is_silent, obstacle
from xautolm_hpc.gather.traces import Evidence, last_exit, last_heartbeat, read_evidence, read_outcome
from xautolm_hpc.gather.verdict import verdict
from xautolm_hpc.jobdir import CHECKPOINT_EXIT_STATUS, VERDICT, End, Heartbeat, restarts
from xautolm_hpc.launcher import JobState, JobStatus, Launcher
from xautolm_hpc.node import Clock
from xautolm_hpc.records import from_json, to_json

SLOW_S = 5.0
"""Seconds of asking for states after which outcomes are looked for once more."""


class AttemptResult(NamedTuple):
    """An attempt that ended, as gathering found it.

    Attributes:
        attempt_dir: Its folder.
        end: How it ended.
        source: File that holds it: ``outcome`` or ``verdict``.
    """

    attempt_dir: Path
    end: End
    source: str


@dataclass(frozen=True, slots=True)
class _GivenUp:
    """A job that was cancelled because it waited in vain: why, and how often its attempt had begun by then."""

    why: str
    obstacle: Obstacle
    n_begun: int


@dataclass(slots=True)
class _Seen:
    """What was seen of one attempt at earlier polls."""

    ended_at: float | None = None
    stuck_since: float | None = None
    obstacle: Obstacle | None = None
    given_up: _GivenUp | None = None
    heartbeat: Heartbeat | None = None

    def clear(self, state: JobStatus) -> None:
        """Forget that the job was stuck, now that nothing is seen in its way.

        Not where Slurm has just not looked at it again, and gives no reason or, for what stays true, another limit or
        that jobs before it wait, too.
        """
        if not is_silent(state, before=self.obstacle):
            self.stuck_since = self.obstacle = None
        if state.is_alive:
            self.given_up = None


class JobTracker:
    """Remembers what was seen of each job between two polls; a driver that restarts begins with an empty one.

    Args:
        outcome_grace_s: Seconds a missing outcome is waited for after its job ended.
        pending_timeout_s: Seconds a job may be held, or wait for what cannot come, before it is cancelled.
        redact: Takes secrets out of a text; log tails pass it before they are written.
        check: Raises an error for an end that cannot be stored; such an outcome counts as damaged.

    Attributes:
        states: State of each job at the last poll.
        given_back: Attempts whose jobs, at the last poll, were over without having begun them, but others.
        impossible: Attempts that ended at the last poll because Slurm starts no job that asks for as much -> its reason
            and the remedy.
    """

    def __init__(
        self,
        *,
        outcome_grace_s: float,
        pending_timeout_s: float,
        redact: Callable[[str], str],
        check: Callable[[End], None],
    ) -> None:
        self.outcome_grace_s = outcome_grace_s
        self.pending_timeout_s = pending_timeout_s
        self.redact = redact
        self.check = check
        self.states: Mapping[Path, JobStatus] = {}
        self.given_back: list[Path] = []
        self.impossible: dict[Path, str] = {}
        self._seen: dict[Path, _Seen] = {}

    def is_over(self, attempt_dir: Path, *, state: JobStatus, now: float) -> bool:
        """Check whether a job ended so long ago that its outcome is believed missing.

        A job no source knows is given longer while its heartbeat moves: then it is the sources that are wrong.

        Args:
            attempt_dir: The attempt's folder.
            state: State of its job now.
            now: Seconds since the epoch.
        """
        seen = self._seen.setdefault(attempt_dir, _Seen())
        if state.state is JobState.UNKNOWN:
            heartbeat = last_heartbeat(attempt_dir)
            if heartbeat != seen.heartbeat:
                seen.heartbeat, seen.ended_at = heartbeat, None
        if state.is_alive:
            seen.ended_at = None
            return False
        if seen.given_up is not None and _n_begun(attempt_dir) == seen.given_up.n_begun:
            return True  # it was cancelled while it waited, so nothing more can come
        if seen.ended_at is None:
            seen.ended_at = now
        return now - seen.ended_at >= self.outcome_grace_s

    def is_stuck(self, attempt_dir: Path, *, state: JobStatus, now: float) -> bool:
        """Check whether a job has waited too long for something that does not clear by waiting.

        Args:
            attempt_dir: The attempt's folder.
            state: State of its job now.
            now: Seconds since the epoch.
        """
        seen, found = self._seen.setdefault(attempt_dir, _Seen()), obstacle(state)
        if found is None:
            seen.clear(state)
            return False
        if seen.stuck_since is None:
            seen.stuck_since = now
        seen.obstacle = found
        if now - seen.stuck_since < self.pending_timeout_s:
            return False
        why = f"it waited {self.pending_timeout_s / 3600:g} h for {state.reason or 'held'!r}; {found.remedy}"
        seen.given_up = _GivenUp(why, found, _n_begun(attempt_dir))
        return True

    def why_given_up(self, attempt_dir: Path, state: JobStatus) -> str | None:
        """Return why the job of an attempt that is over was given up; ``None`` for one that ended otherwise.

        Args:
            attempt_dir: The attempt's folder.
            state: State of its job now.
        """
        given_up = self._seen.get(attempt_dir, _Seen()).given_up
        if given_up is None or state.state not in (JobState.CANCELLED, JobState.UNKNOWN):
            return None
        return given_up.why if _n_begun(attempt_dir) == given_up.n_begun else None

    def is_impossible(self, attempt_dir: Path) -> bool:
        """Check whether an attempt's job was given up for what every job of the search asks for.

        Args:
            attempt_dir: The attempt's folder.
        """
        given_up = self._seen.get(attempt_dir, _Seen()).given_up
        return given_up is not None and given_up.obstacle.is_of_request

    def forget(self, attempt_dir: Path) -> None:
        """Forget an attempt that ended."""
        self._seen.pop(attempt_dir, None)


def gather_ends(
    launcher: Launcher,
    tracker: JobTracker,
    *,
    attempt_dirs: Sequence[Path],
    clock: Clock,
) -> list[AttemptResult]:
    """Find the attempts that have ended, and write a verdict on those whose outcome will not come.

    Args:
        launcher: Knows the jobs.
        tracker: Remembers what earlier polls saw.
        attempt_dirs: Attempts that were submitted and have not ended.
        clock: Time.

    Returns:
        The attempts that ended, in the order of ``attempt_dirs``.
    """
    found = {path: end for path in attempt_dirs if (end := _recorded_end(path, tracker)) is not None}
    rest, now = [path for path in attempt_dirs if path not in found], clock.now()
    states = tracker.states = launcher.poll(rest)
    asked_at, now = now, clock.now()
    if now - asked_at > SLOW_S:  # much can have come while Slurm was being asked
        found |= {path: end for path in rest if (end := _recorded_end(path, tracker)) is not None}
    stuck: list[Path] = []
    tracker.given_back, tracker.impossible = [], {}
    for path in [path for path in rest if path not in found]:
        state = _trust_exit_file(path, states.get(path, JobStatus(state=JobState.UNKNOWN)))
        if tracker.is_stuck(path, state=state, now=now):
            stuck.append(path)
        elif tracker.is_over(path, state=state, now=now) and _is_given_back(path, state):
            tracker.given_back.append(path)
        elif tracker.is_over(path, state=state, now=now):
            found[path] = _recorded_end(path, tracker) or _write_verdict(path, tracker, state=state, now=now)
    if stuck:
        launcher.cancel(stuck)
    for path in (*found, *tracker.given_back):
        tracker.forget(path)
    return [found[path] for path in attempt_dirs if path in found]


def late_outcome(attempt_dir: Path, check: Callable[[End], None]) -> End | None:
    """Read the outcome of an attempt on which a verdict was given before it came; ``None`` if there is none.

    Args:
        attempt_dir: The attempt's folder.
        check: Raises an error for an end that cannot be stored; such an outcome never came.
    """
    return read_outcome(attempt_dir, check)[0] if (attempt_dir / VERDICT).exists() else None


def _recorded_end(attempt_dir: Path, tracker: JobTracker) -> AttemptResult | None:
    """Read the end of an attempt from its outcome, else from its verdict; ``None`` without one that can be stored."""
    end, _ = read_outcome(attempt_dir, tracker.check)
    if end is not None:
        return AttemptResult(attempt_dir, end, "outcome")
    path = attempt_dir / VERDICT
    try:  # of a driver that died before it wrote its ledger
        end = from_json(End, read_json(path), where=str(path))
        tracker.check(end)
    except (OSError, InputError):
        return None
    return AttemptResult(attempt_dir, end, "verdict")


def _is_given_back(attempt_dir: Path, state: JobStatus) -> bool:
    """Check whether a job that is over left an attempt as it was, the folder looked into now."""
    return state.gives_back and attempt_dir.is_dir() and not restarts(attempt_dir)


def _trust_exit_file(attempt_dir: Path, state: JobStatus) -> JobStatus:
    """Use a job's own exit file while no source answers, unless it ended to be put back into the queue."""
    if not (state.is_stale and state.is_alive):
        return state
    ended = last_exit(attempt_dir) or (last_exit(state.job_dir) if state.job_dir else None)
    is_over = ended is not None and ended.returncode != CHECKPOINT_EXIT_STATUS
    return replace(state, state=JobState.UNKNOWN) if is_over else state


def _write_verdict(attempt_dir: Path, tracker: JobTracker, *, state: JobStatus, now: float) -> AttemptResult:
    """Write how an attempt ended by what it left behind, or that its job was given up."""
    why = tracker.why_given_up(attempt_dir, state)
    if why is not None and tracker.is_impossible(attempt_dir):
        tracker.impossible[attempt_dir] = why
    evidence = read_evidence(attempt_dir, state, redact=tracker.redact, check=tracker.check)
    end = verdict(replace(evidence, given_up=why), now=now)
    try:
        tracker.check(end)
    except InputError as error:  # numbers of a damaged heartbeat or exit file
        end = verdict(Evidence(state=state, damaged=str(error)), now=now)
    if attempt_dir.is_dir():
        create_json(attempt_dir / VERDICT, to_json(end))
    return AttemptResult(attempt_dir, end, "verdict")


def _n_begun(attempt_dir: Path) -> int:
    """Count how often an attempt was begun, the folder looked into now."""
    return len(restarts(attempt_dir)) if attempt_dir.is_dir() else 0
