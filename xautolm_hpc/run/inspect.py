"""Read the state of a run from its folder and from Slurm, without its driver, which may be dead; change nothing."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from xautolm_hpc.jobdir import Claim, claim_path, read_whole, restarts
from xautolm_hpc.launcher import WAITS_IN_JOB, JobSource, JobState, JobStatus, groups_of
from xautolm_hpc.node import boot_id, node_name, process_started
from xautolm_hpc.run.attempt_end import read_end
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.history import Attempt, History
from xautolm_hpc.run.lease import Holder, live_holder
from xautolm_hpc.run.ledger import read_ledger
from xautolm_hpc.run.run_file import began_at
from xautolm_hpc.slurm import JobRow, Slurm


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSnapshot:
    """A run at one moment.

    Attributes:
        history: What its ledger holds, and ends that lie on disk but are not in the ledger yet.
        states: Attempt folder -> its job's state, of all attempts that were submitted and have not ended.
        holder: Its driver, or ``None`` if none is at work.
        lease_number: Lease of the ledger's last line; 0 without one.
    """

    history: History
    states: dict[Path, JobStatus]
    holder: Holder | None
    lease_number: int

    @property
    def is_over(self) -> bool:
        """Whether nobody works on the run any more: neither a driver nor a job; a driver's pool goes with it."""
        jobs = (state for state in self.states.values() if state.source is not JobSource.POOL)
        return self.holder is None and not any(state.is_alive for state in jobs)


def inspect_run(run_dir: RunDir, *, slurm: Slurm | None, stale_s: float) -> RunSnapshot:
    """Read a run's history, driver and the states of its jobs.

    Args:
        run_dir: The run folder.
        slurm: Slurm's commands, asked once; ``None`` where jobs are processes of this machine.
        stale_s: Seconds of silence after which a driver on another node counts as dead.
    """
    history = History(run_dir)
    lines = read_ledger(run_dir.ledger_path)
    for line in lines:
        history.apply(line)
    for trial in history.trials.values():
        if trial.last.submission and trial.last.end is None:
            trial.last.end = read_end(trial.last.path)
    submitted = _submitted(history)
    return RunSnapshot(
        history=history,
        states=_local_states(submitted) if slurm is None else _slurm_states(history, submitted, slurm=slurm),
        holder=live_holder(run_dir.path, stale_s=stale_s),
        lease_number=lines[-1]["lease"] if lines else 0,
    )


def open_submissions(history: History) -> dict[str, dict[Path, str | None]]:
    """List submissions with jobs that have not ended, oldest first: submission -> attempt folder -> job id if known.

    Args:
        history: What happened in the run.
    """
    found: dict[str, dict[Path, str | None]] = {}
    for attempt in _submitted(history):
        found.setdefault(attempt.submission or "", {})[attempt.path] = attempt.job_id
    return {name: found[name] for name in history.submissions if name in found}


def _submitted(history: History) -> list[Attempt]:
    """List the attempts that were submitted and have not ended; those of profile and final jobs too."""
    trials = [attempt for trial in history.trials.values() for attempt in trial.attempts]
    singles = [
        Attempt(0, history.submission(name).attempt_dirs[0], submission=name)
        for name, line in history.submissions.items()
        if line["generation"] < 0
    ]
    return [a for a in (*singles, *trials) if a.submission and a.end is None and read_end(a.path) is None]


def _local_states(attempts: Iterable[Attempt]) -> dict[Path, JobStatus]:
    """Find by their claims which local jobs are alive; one that nobody claimed waits for a slot of the pool."""
    return {attempt.path: _process_state(attempt.path) for attempt in attempts}


def _process_state(path: Path) -> JobStatus:
    """Check whether the process that claimed an attempt is alive; one of another machine is taken to be."""
    claimed = restarts(path) if path.is_dir() else []
    if not claimed:
        return JobStatus(state=JobState.PENDING, reason="waits for a slot", source=JobSource.POOL)
    claim = read_whole(Claim, claim_path(path, claimed[-1]))
    if claim is None:  # it is being written
        return JobStatus(state=JobState.RUNNING)
    is_here = claim.node == node_name()
    if is_here and (claim.boot_id != boot_id() or process_started(claim.pid) != claim.pid_started):
        return JobStatus(state=JobState.UNKNOWN, reason="its process is gone", node=claim.node)
    return JobStatus(state=JobState.RUNNING, node=claim.node, source=JobSource.PROCESS)


def _slurm_states(history: History, attempts: list[Attempt], *, slurm: Slurm) -> dict[Path, JobStatus]:
    """Ask squeue once for the jobs of all attempts, and sacct once for those it has forgotten."""
    names = sorted({attempt.submission for attempt in attempts if attempt.submission})
    if not names:
        return {}
    rows = slurm.squeue(names)
    found = _matched(history, attempts, rows=rows or [])
    if len(found) < len(attempts):
        accounts = slurm.sacct(names, since=began_at(history.run_dir))
        found = {**_matched(history, attempts, rows=accounts or []), **found}
    silent = "; ".join(slurm.why_silent()) if rows is None else "squeue does not know it"
    states = {a.path: found.get(a.path, JobStatus(state=JobState.UNKNOWN, reason=silent)) for a in attempts}
    shared = {path for name in names for paths in _groups(history, name) if len(paths) > 1 for path in paths}
    return {path: _in_its_job(path, state) if path in shared else state for path, state in states.items()}


def _in_its_job(path: Path, state: JobStatus) -> JobStatus:
    """Return how an attempt stands whose job runs others, too: it waits until the job has begun it."""
    if state.state is not JobState.RUNNING or (path.is_dir() and restarts(path)):
        return state
    return replace(state, state=JobState.PENDING, reason=WAITS_IN_JOB)


def _groups(history: History, name: str) -> list[list[Path]]:
    """List the attempts of a submission by job, in array order."""
    submission = history.submission(name)
    return list(groups_of(submission).values()) or [[path] for path in submission.attempt_dirs]


def _matched(history: History, attempts: Iterable[Attempt], *, rows: Iterable[JobRow]) -> dict[Path, JobStatus]:
    """Match rows to attempts by job id, or by job name and place in the array where the ledger has no id yet."""
    by_id = {row.job_id: row for row in rows}
    found = {}
    for attempt in attempts:
        row = by_id.get(attempt.job_id or "") or _row_by_name(history, attempt, rows=rows)
        if row is not None:
            found[attempt.path] = JobStatus(
                state=row.state, reason=row.reason, node=row.node, ended_at=row.ended_at, source=row.source
            )
    return found


def _row_by_name(history: History, attempt: Attempt, *, rows: Iterable[JobRow]) -> JobRow | None:
    """Find an attempt whose job id is not in the ledger by its place in its array."""
    groups = _groups(history, attempt.submission or "")
    index = next((str(i) for i, members in enumerate(groups) if attempt.path in members), None)
    of_name = [row for row in rows if row.name == attempt.submission]
    return next((row for row in of_name if row.job_id.partition("_")[2] == index), None)
