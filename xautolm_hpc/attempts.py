"""Attempts: what is written for the node before one, whether another follows, and the experience it leaves."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xautolm_hpc.clock import utc_text
from xautolm_hpc.durable import write_json
from xautolm_hpc.history import Attempt, Trial
from xautolm_hpc.jobdir import COMMAND, MEMBERS, PIPELINE, READY, TASK, Command, TrialInput
from xautolm_hpc.launcher import Resources
from xautolm_hpc.records import INFRASTRUCTURE_KINDS, Experience, Outcome, Provenance, System, Task, to_json

LARGEST_MEMORY_FACTOR = 8
NOT_THE_NODE = ("cancelled", "preempted", "wall_limit")
"""Infrastructure failures that speak of no node; the next attempt may run on the same one."""

MAX_CANCELLED = 10
"""Attempts of one trial that may be cancelled; after that something means it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptTemplate:
    """What all attempts of a run have in common.

    Attributes:
        command: Command with the memory limit of a first attempt.
        resources: Resources of a first attempt.
        trial_input: Task and split.
        max_attempts: Attempts a trial may have.
    """

    command: Command
    resources: Resources
    trial_input: TrialInput
    max_attempts: int

    def resources_of(self, trial: Trial) -> Resources:
        """Size the next attempt: memory doubles with every host_oom, nodes that failed are left out."""
        ends = [attempt.end for attempt in trial.attempts if attempt.end is not None]
        n_host_oom = sum(end.outcome.kind == "host_oom" for end in ends)
        failed_nodes = {
            end.node
            for end in ends
            if end.node and end.outcome.origin == "infrastructure" and end.outcome.kind not in NOT_THE_NODE
        }
        factor = min(2**n_host_oom, LARGEST_MEMORY_FACTOR)
        return replace(
            self.resources,
            memory_bytes=self.resources.memory_bytes * factor,
            exclude=tuple(sorted({*self.resources.exclude, *failed_nodes})),
        )

    def write(self, trial: Trial) -> None:
        """Write the files of a trial's present attempt for the node; writing them again changes nothing.

        They are not flushed to disk one by one: the ledger holds what is needed to write them again.
        """
        path = trial.last.path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = replace(self.command, memory_bytes=self.resources_of(trial).memory_bytes)
        write_json(path / TASK, to_json(self.trial_input), flush=False)
        write_json(path / COMMAND, to_json(command), flush=False)
        write_json(path / PIPELINE, to_json(trial.plan), flush=False)


def needs_attempt(trial: Trial, max_attempts: int) -> bool:
    """Tell whether a trial whose present attempt ended gets another one.

    Infrastructure failures are retried on another node, ``host_oom`` with more memory. Cancelled attempts are
    retried too and do not count: somebody wished the job away, not the trial.
    """
    end = trial.last.end
    if end is None:
        return False
    kinds = [attempt.end.outcome.kind for attempt in trial.attempts if attempt.end is not None]
    n_cancelled = kinds.count("cancelled")
    if len(kinds) - n_cancelled >= max_attempts or n_cancelled >= MAX_CANCELLED:
        return False
    return kinds[-1] == "host_oom" or kinds[-1] in INFRASTRUCTURE_KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the experiences of a run come from.

    Attributes:
        run_id: UUID of the run.
        site: Site name.
        prior_kind: Kind of prior.
        task: The task.
        system: Node of the profile job, for attempts that never got far enough to say.
    """

    run_id: str
    site: str
    prior_kind: str
    task: Task
    system: System

    def experience(self, trial: Trial, attempt: Attempt, *, is_suspect: bool) -> Experience:
        """Turn an ended attempt into an experience.

        Raises:
            ValueError: The attempt has not ended.
        """
        end = attempt.end
        if end is None:
            raise ValueError(f"attempt {attempt.path} has not ended")
        return Experience(
            task=self.task,
            system=end.system or self.system,
            pipeline=trial.plan.pipeline,
            outcome=_with_queue_time(end.outcome, attempt, started_at=end.started_at),
            provenance=Provenance(
                run_id=self.run_id,
                trial=trial.number,
                attempt=attempt.number,
                restart=end.restart,
                generation=trial.generation,
                seed=trial.plan.seed,
                site=self.site,
                started_at=None if end.started_at is None else utc_text(end.started_at),
                ended_at=utc_text(end.ended_at),
                prior_kind=self.prior_kind,
                package_version=end.package_version,
                image_digest=end.image_digest,
                lock_hash=end.lock_hash,
                node=end.node,
                suspect=is_suspect,
            ),
        )


def _with_queue_time(outcome: Outcome, attempt: Attempt, *, started_at: float | None) -> Outcome:
    if outcome.queue_s is not None or started_at is None or attempt.submitted_at is None:
        return outcome
    return replace(outcome, queue_s=max(0.0, started_at - attempt.submitted_at))


def objectives_of(trial: Trial, names: Sequence[str]) -> dict[str, float] | None:
    """Read a trial's objectives; ``None`` where it failed, lacks one or has not ended."""
    end = trial.last.end
    if end is None or end.outcome.status != "succeeded":
        return None
    values = {name: end.outcome.objective(name) for name in names}
    known = {name: value for name, value in values.items() if value is not None}
    return known if len(known) == len(values) else None


def tidy(generation_dir: Path) -> None:
    """Remove what nobody needs once a generation is committed: the launcher's files, checkpoints, empty logs.

    A job's last file can come a moment after its outcome, so a run is tidied once more when it ends.
    """
    for path in generation_dir.glob("submission-*/*"):
        if path.name != MEMBERS:
            _remove(path)
    for attempt_dir in generation_dir.glob("trial-*/attempt-*"):
        shutil.rmtree(attempt_dir / "checkpoint", ignore_errors=True)
        for path in attempt_dir.iterdir():
            if path.name in (TASK, READY) or path.name.startswith(("heartbeat-", f"{READY}-")) or _is_empty(path):
                path.unlink(missing_ok=True)


def _is_empty(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size == 0
    except FileNotFoundError:  # removed by its job, or by another driver, at this moment
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
