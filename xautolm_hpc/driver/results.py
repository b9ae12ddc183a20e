"""From ended attempts to experiences in the store."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from xautolm_hpc import gather, priors
from xautolm_hpc.driver.attempts import Origin, job_positions
from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.jobdir import TEST, End, ProfileResult
from xautolm_hpc.node import check_moment
from xautolm_hpc.predictions import Predictions, read_predictions
from xautolm_hpc.records import Experience, to_json
from xautolm_hpc.run.attempt_end import read_scores
from xautolm_hpc.run.history import Attempt, Trial
from xautolm_hpc.run.journal import Journal
from xautolm_hpc.store import CheckLimits, ExperienceStore, as_format_1, check_ended, storable
from xautolm_hpc.task_kinds import COLUMNS


class Results:
    """The experiences of a run, and the store they are committed to.

    Args:
        setup: What the search is run with.
        journal: What happened so far; it holds the lease.
        profile: The task, and the node of the profile job.
    """

    def __init__(self, setup: Setup, journal: Journal, *, profile: ProfileResult) -> None:
        store = setup.search.store
        self.store = ExperienceStore(
            Path(store.path), limits=CheckLimits.of(store.check), group=store.group, log=setup.watcher.log
        )
        self.watcher = setup.watcher
        self.run_dir = setup.run_dir
        self.journal = journal
        self.history = journal.history
        self.origin = Origin(
            run_id=setup.run_id,
            site=setup.profile.site,
            prior_kind=setup.search.prior.kind,
            task=profile.task,
            system=profile.system,
        )

    def experiences(self, trials: Sequence[Trial]) -> list[Experience]:
        """Build an experience of every ended attempt of some trials, as the store can hold it."""
        positions = job_positions(self.history.trials.values())
        return [
            storable(
                self.origin.experience(
                    trial,
                    attempt,
                    is_suspect=trial.number in self.history.suspects,
                    job_position=positions.get(attempt.path),
                )
            )
            for trial in trials
            for attempt in trial.attempts
            if attempt.end is not None
        ]

    def answers(self, experience: Experience, split: str) -> Predictions | None:
        """Read what an attempt of the run answered on each row of a split; ``None`` where that is unknown."""
        of = experience.provenance
        return read_predictions(self.run_dir.attempt_dir(of.generation, of.trial, attempt=of.attempt), split)

    def commit(self, generation: int) -> int:
        """Append a generation's experiences to the store and record it.

        Returns:
            How many experiences it has.
        """
        experiences = self.experiences(self.history.generation(generation))
        self.journal.lease.check()
        self.store.append(self._without_stored_as_lost(experiences))
        self._mark_committed_suspects()
        self.journal.record("commit", generation=generation, n=len(experiences))
        return len(experiences)

    def _without_stored_as_lost(self, experiences: Sequence[Experience]) -> list[Experience]:
        """Leave out what an earlier version stored as ``lost``, because format 1 has no word for its failure kind."""
        renamed = [(e, old) for e in experiences if (old := as_format_1(e)).outcome.kind != e.outcome.kind]
        earlier = {e.id: old.id for e, old in renamed}
        known = self.store.own_ids() if earlier else frozenset()
        return [e for e in experiences if earlier.get(e.id) not in known]

    def _mark_committed_suspects(self) -> None:
        """Mark trials suspect that were committed before the search stopped itself."""
        early = [t for t in self.history.trials.values() if t.generation in self.history.committed]
        self.store.amend(self.experiences([t for t in early if t.number in self.history.suspects]))

    def restore_ends(self) -> None:
        """Find in the store the ends that an earlier version left in folders and that cannot be read there any more."""
        unread = self.history.unread
        if not unread:
            return
        stored = {(e.provenance.trial, e.provenance.attempt): e for e in self._own_experiences()}
        for (trial, number), reason in unread.items():
            experience = stored.get((trial, number))
            if experience is None:
                self.watcher.log(f"trial {trial}, attempt {number}: {reason}. The store does not have it: it is lost")
            else:
                attempt = self.history.attempt(trial, number)
                attempt.end = _end_of(experience)

    def _own_experiences(self) -> Iterator[Experience]:
        """Iterate over the experiences of this run that the store has."""
        return (e for e in self.store.read() if e.provenance.run_id == self.origin.run_id)

    def take_late_outcomes(self) -> None:
        """Replace a committed ``lost`` by the outcome that arrived after all."""
        for trial in self.history.trials.values():
            if trial.generation not in self.history.committed:
                continue
            for attempt in trial.attempts:
                late = gather.late_outcome(attempt.path, check_end) if attempt.source == "verdict" else None
                if late is not None:
                    self._take_late(trial, attempt, late=late)

    def _take_late(self, trial: Trial, attempt: Attempt, *, late: End) -> None:
        is_suspect = trial.number in self.history.suspects
        lost = self.origin.experience(trial, attempt, is_suspect=is_suspect)
        found = self.origin.experience(trial, replace(attempt, end=late), is_suspect=is_suspect)
        self.journal.lease.check()
        stored = lost if self._without_stored_as_lost([lost]) else as_format_1(lost)
        self.store.forget([stored.id], site=self.origin.site)
        self.store.append([storable(found)])
        self.journal.record("late", trial=trial.number, attempt=attempt.number, source="outcome", end=to_json(late))
        self.watcher.log(f"trial {trial.number}: its outcome arrived late and was taken in")


def _end_of(experience: Experience) -> End:
    """Return the end that an experience was made of."""
    provenance = experience.provenance
    moments = [
        None if text is None else datetime.fromisoformat(text).timestamp()
        for text in (provenance.started_at, provenance.ended_at)
    ]
    return End(
        outcome=experience.outcome,
        system=experience.system,
        restart=provenance.restart,
        started_at=moments[0],
        ended_at=moments[1] or 0.0,
        node=provenance.node,
        lock_hash=provenance.lock_hash,
        image_digest=provenance.image_digest,
        package_version=provenance.package_version,
    )


def check_end(end: End) -> None:
    """Check that the store can hold how an attempt ended, before the ledger says so.

    Raises:
        InputError: A field is outside its range.
    """
    check_moment(end.started_at, where="started_at")
    check_moment(end.ended_at, where="ended_at")
    known = {name: getattr(end, name) for name in ("restart", "node", "lock_hash", "image_digest", "package_version")}
    check_ended(end.outcome, system=end.system, provenance=known, where="how it ended")


def test_metrics(trials: Sequence[Trial]) -> dict[int, Mapping[str, float]]:
    """Read what trials scored on ``test``: trial number -> metric -> value."""
    found = {trial.number: trial.last.path / TEST for trial in trials}
    scores = {number: read_scores(path) for number, path in found.items()}
    return {number: metrics for number, metrics in scores.items() if metrics is not None}


def find_importance(experiences: Sequence[Experience]) -> dict[str, Any] | None:
    """Find which hyperparameters mattered among the trials of a run that succeeded."""
    return priors.hyperparameter_importance([e for e in experiences if e.outcome.succeeded])


def named_settings(setup: Setup) -> dict[str, Any]:
    """Return the settings that the report names: dotted key -> value."""
    search, profile = setup.search, setup.profile
    slots = {"local.n_slots": profile.local.n_slots} if profile.launcher == "local" else {}
    return {
        **{f"data.{name}": getattr(search.data, name) for name in COLUMNS[search.task.kind]},
        "trial.time_limit_min": search.trial.time_limit_min,
        "job.memory_gb": profile.job.memory_gb,
        **slots,
    }
