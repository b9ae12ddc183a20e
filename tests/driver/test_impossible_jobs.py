"""Jobs that Slurm never starts: the search stops where every job is one, and goes on where only some are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.driving import SEARCH, end_attempt, make_setup, search_in
from tests.fakes import FakeLauncher, failed_end
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.errors import LaunchError
from xautolm_hpc.jobdir import End
from xautolm_hpc.launcher import JobSource, JobState, JobStatus
from xautolm_hpc.store import ExperienceStore

TEXT = SEARCH.replace("generations = 3", "generations = 1")
N_TRIALS = 4


class Stuck(FakeLauncher):
    """Never starts some jobs, and says why.

    Args:
        reason: Slurm's reason.
        is_stuck: Tells of which attempts.
        outcome_of: How the others end.
    """

    def __init__(
        self, reason: str, is_stuck: Callable[[Path], bool], outcome_of: Callable[[Path], End | None] = end_attempt
    ) -> None:
        super().__init__(outcome_of)
        self.reason = reason
        self.is_stuck = is_stuck

    def poll(self, attempt_dirs: Sequence[Path]) -> Mapping[Path, JobStatus]:
        waits = JobStatus(state=JobState.PENDING, reason=self.reason, source=JobSource.SQUEUE)
        gone = JobStatus(state=JobState.CANCELLED, source=JobSource.SQUEUE)
        stuck = [path for path in attempt_dirs if self.is_stuck(path)]
        states = {path: gone if path in self.cancelled else waits for path in stuck}
        return {**super().poll([path for path in attempt_dirs if path not in states]), **states}

    def cancel(self, attempt_dirs: Sequence[Path]) -> None:
        self.cancelled += attempt_dirs


def of_trial(path: Path) -> bool:
    return path.parent.name.startswith("trial-")


def kinds_by_attempt(folder: Path) -> dict[int, list[str | None]]:
    """List the failure kinds of the first attempts, the second ones and so on."""
    found: dict[int, list[str | None]] = {}
    for experience in ExperienceStore(folder / "store").read():
        found.setdefault(experience.provenance.attempt, []).append(experience.outcome.kind)
    return found


def with_little_patience(folder: Path, launcher: FakeLauncher) -> Setup:
    setup = make_setup(folder, text=TEXT, launcher=launcher)
    patience = setup.profile.patience.model_copy(update={"pending_patience_h": 0.01})
    return replace(setup, profile=setup.profile.model_copy(update={"patience": patience}))


@pytest.mark.parametrize("is_stuck", [of_trial, lambda path: True], ids=["the trials", "the profile job"])
def test_a_limit_that_every_job_exceeds_stops_the_search_with_the_remedy(
    is_stuck: Callable[[Path], bool], tmp_path: Path
) -> None:
    launcher = Stuck("AssocMaxCpuPerJobLimit", is_stuck)

    with pytest.raises(
        LaunchError,
        match=r"Slurm starts no job of this search: it waited 0\.01 h for 'AssocMaxCpuPerJobLimit'; the account allows "
        r"no job that large: lower job\.n_cpus, or name another .* Then run the same command again",
    ):
        run_search(with_little_patience(tmp_path, launcher))

    assert launcher.cancelled == [path for one in launcher.submissions for path in one.attempt_dirs if is_stuck(path)]


def test_once_the_limit_is_mended_the_same_command_goes_on(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="PartitionTimeLimit"):
        run_search(with_little_patience(tmp_path, Stuck("PartitionTimeLimit", of_trial)))

    search_in(tmp_path, text=TEXT)

    kinds = kinds_by_attempt(tmp_path)
    assert kinds[0] == ["launch_failure"] * N_TRIALS
    assert len(kinds[1]) == N_TRIALS
    assert "launch_failure" not in kinds[1]


def test_a_held_job_is_tried_again(tmp_path: Path) -> None:
    launcher = Stuck("job requeued in held state", lambda path: of_trial(path) and path.name == "attempt-0")

    run_search(with_little_patience(tmp_path, launcher))

    kinds = kinds_by_attempt(tmp_path)
    assert kinds[0] == ["launch_failure"] * N_TRIALS
    assert len(kinds[1]) == N_TRIALS
    assert "launch_failure" not in kinds[1]


def test_a_limit_that_only_more_memory_exceeds_does_not_stop_the_others(tmp_path: Path) -> None:
    def end(path: Path) -> End | None:
        return failed_end("host_oom") if path.parent.name.endswith("0") and of_trial(path) else end_attempt(path)

    launcher = Stuck("QOSMaxMemoryPerJob", lambda path: of_trial(path) and path.name != "attempt-0", end)

    run_search(with_little_patience(tmp_path, launcher))

    kinds = kinds_by_attempt(tmp_path)
    assert (kinds[1], kinds[2]) == (["launch_failure"], ["launch_failure"])
