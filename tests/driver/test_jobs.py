"""Jobs under a cluster that is busy, full, or says no after it said yes: every attempt is submitted once."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from tests.driving import SEARCH, Notes, end_attempt, ledger_of, make_setup, projection, search_in
from tests.fakes import FakeLauncher
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.errors import BusyError, InterruptedSearchError, LaunchError, QueueFullError
from xautolm_hpc.launcher import JobState, JobStatus, QueueLimits, Submission
from xautolm_hpc.node import Clock
from xautolm_hpc.store import ExperienceStore

TEXT = SEARCH.replace("generations = 3", "generations = 1").replace("population = 4", "population = 6")


class BusyLauncher(FakeLauncher):
    """Answers some submissions with an error, having accepted them or not.

    Args:
        accepts: For each submission in turn whether it is accepted although an error is the answer.
    """

    def __init__(self, *accepts: bool) -> None:
        super().__init__(end_attempt)
        self.accepts = list(accepts)

    def submit(self, submission: Submission) -> Mapping[Path, str]:
        if not self.accepts:
            return super().submit(submission)
        if self.accepts.pop(0):
            super().submit(submission)
        raise BusyError(f"{submission.name}: Socket timed out")


class SmallQueue(FakeLauncher):
    """Has room for so many jobs; which of them have ended it sees at a poll."""

    def __init__(self, n_places: int) -> None:
        super().__init__(end_attempt)
        self.n_places = n_places
        self.n_refused = 0
        self.inside: set[Path] = set()

    def submit(self, submission: Submission) -> Mapping[Path, str]:
        if len(self.inside) + len(submission.attempt_dirs) > self.n_places:
            self.n_refused += 1
            raise QueueFullError(f"{submission.name}: sbatch refused: QOSMaxSubmitJobPerUserLimit")
        self.inside |= set(submission.attempt_dirs)
        return super().submit(submission)

    def poll(self, attempt_dirs: Sequence[Path]) -> Mapping[Path, JobStatus]:
        states = super().poll(attempt_dirs)
        self.inside -= {path for path, state in states.items() if not state.is_alive}
        return states


class OneByOne(FakeLauncher):
    """Lets one job end at each look, and remembers when it was looked.

    Args:
        clock: Time.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(end_attempt, clock=clock)
        self.looked_at: list[float] = []

    def poll(self, attempt_dirs: Sequence[Path]) -> Mapping[Path, JobStatus]:
        self.looked_at.append(self._now())
        later = {path: JobStatus(state=JobState.RUNNING) for path in attempt_dirs[1:]}
        return {**super().poll(attempt_dirs[:1]), **later}


class ForgottenJobs(FakeLauncher):
    """Forgets the first job of the search, as a controller does that lost its state."""

    def poll(self, attempt_dirs: Sequence[Path]) -> Mapping[Path, JobStatus]:
        known = [path for path in attempt_dirs if path.parts[-2:] != ("trial-000", "attempt-0")]
        reason = "neither squeue nor sacct knows the job"
        forgotten = {path: JobStatus(state=JobState.UNKNOWN, reason=reason) for path in set(attempt_dirs) - set(known)}
        return {**super().poll(known), **forgotten}


class SilentCancel(FakeLauncher):
    """Its jobs run on, and the first time that they are cancelled nobody answers.

    Args:
        cancel_path: Written once all trials run, as the command `cancel` does.
        clock: Time.
    """

    def __init__(self, cancel_path: Path, clock: Clock) -> None:
        super().__init__(end_attempt, clock=clock)
        self.cancel_path = cancel_path
        self.asked: list[tuple[float, int]] = []

    def poll(self, attempt_dirs: Sequence[Path]) -> Mapping[Path, JobStatus]:
        if any(path.parent.name.startswith("trial-") for path in attempt_dirs):
            self.duration_s = math.inf
            self.cancel_path.touch()
        return super().poll(attempt_dirs)

    def cancel(self, attempt_dirs: Sequence[Path]) -> None:
        if attempt_dirs:
            self.asked.append((self._now(), len(attempt_dirs)))
        if len(self.asked) > 1:
            super().cancel(attempt_dirs)


def submitted_attempts(launcher: FakeLauncher) -> Counter[Path]:
    return Counter(path for submission in launcher.submissions for path in submission.attempt_dirs)


def test_a_submission_taken_although_the_answer_was_an_error_is_not_made_again(tmp_path: Path) -> None:
    launcher = BusyLauncher(True, False, False, True)

    search_in(tmp_path, text=TEXT, launcher=launcher)

    assert set(submitted_attempts(launcher).values()) == {1}
    assert len(projection(tmp_path)) == 6


def test_a_controller_that_stays_busy_ends_the_search_after_ten_minutes_and_the_next_driver_goes_on(
    tmp_path: Path,
) -> None:
    setup = make_setup(tmp_path, text=TEXT, launcher=BusyLauncher(*[False] * 99))
    began = setup.clock.now()

    with pytest.raises(BusyError, match="Socket timed out"):
        run_search(setup)

    assert 600 <= setup.clock.now() - began < 660
    assert isinstance(setup.watcher, Notes)
    warnings = [line for line in setup.watcher.lines if line.startswith("warning: ")]
    assert len(warnings) == 7
    assert "Socket timed out. The next try is in 5 s, the last after 615 s" in warnings[0]
    search_in(tmp_path, text=TEXT)
    assert len(projection(tmp_path)) == 6


def test_a_wait_for_jobs_that_slurm_does_not_know_any_more_is_told_once(tmp_path: Path) -> None:
    launcher = ForgottenJobs(end_attempt)
    setup = make_setup(tmp_path, text=TEXT, launcher=launcher)
    setup = replace(setup, profile=setup.profile.model_copy(update={"launcher": "slurm"}))

    run_search(setup)

    assert isinstance(setup.watcher, Notes)
    (warning,) = [line for line in setup.watcher.lines if line.startswith("warning: ")]
    assert warning == (
        "warning: 1 job that should be there: neither squeue nor sacct knows the job. The outcome is waited for, 60 s "
        "or while a heartbeat moves; without one the attempt is lost and tried again. Slurm's controller may have "
        "lost its state"
    )
    kinds = [e.outcome.kind for e in ExperienceStore(tmp_path / "store").read()]
    assert kinds.count("lost") == 1


def test_what_was_cancelled_in_vain_is_cancelled_again_after_a_minute(tmp_path: Path) -> None:
    setup = make_setup(tmp_path, text=TEXT)
    launcher = SilentCancel(setup.run_dir.cancel_path, setup.clock)

    with pytest.raises(InterruptedSearchError, match=r"with trials still to run|between two generations"):
        run_search(replace(setup, launcher=launcher, n_interrupts=lambda: int(launcher.cancel_path.exists())))

    (first_at, n_first), (second_at, n_second) = launcher.asked
    assert n_first == n_second == 6
    assert 60 <= second_at - first_at <= 60 + 2 * setup.profile.poll_s
    assert len(launcher.cancelled) == 6


def test_a_queue_that_is_full_takes_the_rest_later(tmp_path: Path) -> None:
    launcher = SmallQueue(2)

    search_in(tmp_path, text=TEXT, launcher=launcher)

    assert set(submitted_attempts(launcher).values()) == {1}
    assert len(projection(tmp_path)) == 6
    assert launcher.n_refused > 0


def test_a_queue_that_others_fill_for_too_long_ends_the_search_with_slurms_words(tmp_path: Path) -> None:
    setup = make_setup(tmp_path, text=TEXT, launcher=SmallQueue(0))
    patience = setup.profile.patience.model_copy(update={"pending_patience_h": 0.5})
    setup = replace(setup, profile=setup.profile.model_copy(update={"patience": patience}))

    with pytest.raises(QueueFullError, match="QOSMaxSubmitJobPerUserLimit") as caught:
        run_search(setup)

    assert any("full for 0.5 h" in note for note in caught.value.__notes__)


def test_arrays_are_cut_at_the_launchers_limits_and_share_what_may_run(tmp_path: Path) -> None:
    launcher = FakeLauncher(end_attempt)
    launcher.queue_limits = QueueLimits(batch=4, parallel=5)

    search_in(tmp_path, text=TEXT, launcher=launcher)

    sizes = [(len(one.attempt_dirs), one.max_parallel) for one in launcher.submissions]
    assert sizes == [(1, None), (4, 3), (2, 2)]
    intents = [line for line in ledger_of(tmp_path) if line["event"] == "intent"]
    assert [line["max_parallel"] for line in intents] == [None, 3, 2]


def test_no_more_jobs_are_queued_than_the_profile_allows(tmp_path: Path) -> None:
    launcher = SmallQueue(3)
    launcher.queue_limits = replace(launcher.queue_limits, queued=3)

    search_in(tmp_path, text=TEXT, launcher=launcher)

    assert launcher.n_refused == 0
    assert len(projection(tmp_path)) == 6


def test_jobs_are_not_looked_at_sooner_because_one_of_them_has_ended(tmp_path: Path) -> None:
    setup = make_setup(tmp_path, text=TEXT)
    launcher = OneByOne(setup.clock)

    run_search(replace(setup, launcher=launcher))

    pauses = [later - earlier for earlier, later in pairwise(launcher.looked_at)]
    assert len(pauses) >= 6
    assert min(pauses) >= setup.profile.poll_s


def test_a_refusal_is_no_reason_to_try_again(tmp_path: Path) -> None:
    setup = make_setup(tmp_path, text=TEXT, launcher=FakeLauncher(end_attempt, refuse="Invalid account"))
    began = setup.clock.now()

    with pytest.raises(LaunchError, match="Invalid account"):
        run_search(setup)

    assert setup.clock.now() == began
