"""Attempts: what is written for the node before one, whether another follows, and the experience it leaves."""

import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from xautolm_hpc.durable import write_json
from xautolm_hpc.failures import INFRASTRUCTURE_KINDS, FailureKind, failure_kind
from xautolm_hpc.jobdir import (
    COMMAND,
    MEMBERS,
    PIPELINE,
    READY,
    TASK,
    WEIGHTS,
    Command,
    TrialInput,
    exit_path,
    restarts,
    to_wire,
)
from xautolm_hpc.launcher import GROUPS, Resources
from xautolm_hpc.node import utc_text
from xautolm_hpc.records import Experience, Outcome, Provenance, System, Task
from xautolm_hpc.run.folder import attempt_dirs_in, submission_dirs_in
from xautolm_hpc.run.history import Attempt, Trial

LARGEST_MEMORY_FACTOR = 8
BAD_NODE_FAILURES = 2
"""Infrastructure failures on one node, of whatever trials, after which the run uses it no more."""

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
        largest_memory_bytes: Memory that no attempt may exceed, or ``None``; a first attempt gets what it asks for.
        trials_per_job: Attempts that one job may run, one after the other.
        model_paths: Id of a model -> its folder; a project that was moved has others than its plans.
        hf_home: Offline cache of hub models, or ``None``.
    """

    command: Command
    resources: Resources
    trial_input: TrialInput
    max_attempts: int
    largest_memory_bytes: int | None = None
    trials_per_job: int = 1
    model_paths: Mapping[str, str | None] = field(default_factory=dict)
    hf_home: str | None = None

    def resources_of(self, trial: Trial, *, bad_nodes: Iterable[str] = ()) -> Resources:
        """Size the next attempt: memory doubles with every host_oom, nodes that failed are left out.

        Args:
            trial: The trial.
            bad_nodes: Nodes that failed other trials, too.
        """
        return replace(
            self.resources,
            memory_bytes=self._memory_bytes(_n_host_oom(trial)),
            exclude=tuple(sorted({*self.resources.exclude, *bad_nodes, *failed_nodes([trial])})),
        )

    def is_due_again(self, trial: Trial) -> bool:
        """Check whether a trial whose last attempt ended gets another; not where no more memory can be asked for."""
        if not needs_attempt(trial, self.max_attempts):
            return False
        n_host_oom, end = _n_host_oom(trial), trial.last.end
        ran_out = end is not None and end.outcome.kind == FailureKind.HOST_OOM
        return not ran_out or self._memory_bytes(n_host_oom) > self._memory_bytes(n_host_oom - 1)

    def asks_for_least(self, trial: Trial) -> bool:
        """Check whether the present attempt of a trial asks for no more than a first attempt of any trial."""
        return self._memory_bytes(_n_host_oom(trial)) == self.resources.memory_bytes

    def _memory_bytes(self, n_host_oom: int) -> int:
        first = self.resources.memory_bytes
        wanted: int = first * min(2**n_host_oom, LARGEST_MEMORY_FACTOR)
        return wanted if self.largest_memory_bytes is None else max(first, min(wanted, self.largest_memory_bytes))

    def write(self, trial: Trial) -> None:
        """Write the files of a trial's present attempt for the node; writing them again changes nothing.

        They are not flushed to disk one by one: the ledger holds what is needed to write them again.
        """
        path = trial.last.path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = replace(self.command, memory_bytes=self.resources_of(trial).memory_bytes)
        write_json(path / TASK, to_wire(self.trial_input), flush=False)
        write_json(path / COMMAND, to_wire(command), flush=False)
        self.write_plan(trial)

    def write_plan(self, trial: Trial) -> None:
        """Write what a trial's present attempt trains; its model is looked for where it lies now."""
        plan, model = trial.plan, trial.plan.model
        model = replace(model, path=self.model_paths.get(model.id, model.path))
        found = replace(plan, model=model, hf_home=self.hf_home)
        write_json(trial.last.path / PIPELINE, to_wire(found), flush=False)


def failed_nodes(trials: Iterable[Trial]) -> Counter[str]:
    """Count the infrastructure failures that speak of their node, by node."""
    ends = [attempt.end for trial in trials for attempt in trial.attempts if attempt.end is not None]
    return Counter(
        end.node
        for end in ends
        if end.node and not end.is_model_unfit
        if end.outcome.kind is not None and not failure_kind(end.outcome.kind).traits.spares_node
    )


def bad_nodes(trials: Iterable[Trial]) -> list[str]:
    """List the nodes that failed twice, whatever ran there."""
    return [node for node, n in failed_nodes(trials).items() if n >= BAD_NODE_FAILURES]


def _n_host_oom(trial: Trial) -> int:
    ends = [attempt.end for attempt in trial.attempts if attempt.end is not None]
    return sum(end.outcome.kind == FailureKind.HOST_OOM for end in ends)


def needs_attempt(trial: Trial, max_attempts: int) -> bool:
    """Check whether a trial whose last attempt ended gets another one.

    Infrastructure failures are retried on another node, ``host_oom`` with more memory. Cancelled attempts are
    retried too and do not count: somebody cancelled the job, not the trial. Files of a model that do not fit together
    are the same everywhere, so there is no other attempt.
    """
    end = trial.last.end
    if end is None or end.is_model_unfit:
        return False
    kinds = [attempt.end.outcome.kind for attempt in trial.attempts if attempt.end is not None]
    n_cancelled = kinds.count(FailureKind.CANCELLED)
    if len(kinds) - n_cancelled >= max_attempts or n_cancelled >= MAX_CANCELLED:
        return False
    return kinds[-1] == FailureKind.HOST_OOM or kinds[-1] in INFRASTRUCTURE_KINDS


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

    def experience(
        self, trial: Trial, attempt: Attempt, *, is_suspect: bool, job_position: int | None = None
    ) -> Experience:
        """Turn an ended attempt into an experience.

        Args:
            trial: The trial.
            attempt: One of its attempts.
            is_suspect: Whether it is no evidence until a person accepts it.
            job_position: Attempts that its job had begun before; ``None`` if unknown.

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
                job=attempt.job,
                job_position=job_position,
            ),
        )


def job_positions(trials: Iterable[Trial]) -> dict[Path, int]:
    """Count how many attempts each job had begun before each of its attempts; those that began at no known time lack.

    Returns:
        Folder of an attempt -> number of earlier attempts in its job.
    """
    of_job: dict[int, list[tuple[float, int, Path]]] = {}
    for trial in trials:
        for attempt in trial.attempts:
            if attempt.job is not None and attempt.end is not None and attempt.end.started_at is not None:
                of_job.setdefault(attempt.job, []).append((attempt.end.started_at, trial.number, attempt.path))
    return {path: i for begun in of_job.values() for i, (_, _, path) in enumerate(sorted(begun))}


def _with_queue_time(outcome: Outcome, attempt: Attempt, *, started_at: float | None) -> Outcome:
    if outcome.queue_s is not None or started_at is None or attempt.submitted_at is None:
        return outcome
    job_started_at = attempt.end.job_started_at if attempt.end else None
    waited_until = started_at if job_started_at is None else job_started_at
    return replace(outcome, queue_s=max(0.0, waited_until - attempt.submitted_at))


def objectives_of(outcome: Outcome | None, names: Sequence[str]) -> dict[str, float] | None:
    """Read a trial's objectives; ``None`` where it failed, lacks one or has no outcome yet."""
    if outcome is None or not outcome.succeeded:
        return None
    values = {name: outcome.objective(name) for name in names}
    known = {name: value for name, value in values.items() if value is not None}
    return known if len(known) == len(values) else None


def clean_up(generation_dir: Path, kept: Collection[Path] = ()) -> None:
    """Remove what nobody needs once a generation is committed: the launcher's files, checkpoints, empty logs.

    A job's last file can come a moment after its outcome, so a run is cleaned up once more when it ends.

    Args:
        generation_dir: Folder of the generation.
        kept: Attempt folders whose weights stay.
    """
    for path in (path for folder in submission_dirs_in(generation_dir) for path in folder.iterdir()):
        if path.name != MEMBERS and not (path.name == GROUPS and _is_in_use(path)):
            _remove(path)
    for attempt_dir in attempt_dirs_in(generation_dir):
        shutil.rmtree(attempt_dir / "checkpoint", ignore_errors=True)
        for path in attempt_dir.iterdir():
            is_spare = path.name in (TASK, READY) or (path.name == WEIGHTS and attempt_dir not in kept)
            if is_spare or path.name.startswith(("heartbeat-", f"{READY}-")) or _is_empty(path):
                _remove(path)


def _is_in_use(groups_dir: Path) -> bool:
    """Check whether a job of several attempts may still write how it ended, as it does after its last attempt."""
    claimed = [(folder, restarts(folder)) for folder in groups_dir.iterdir() if folder.is_dir()]
    return any(counts and not exit_path(folder, counts[-1]).exists() for folder, counts in claimed)


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
