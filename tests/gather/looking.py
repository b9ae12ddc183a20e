"""Looks at one attempt whose job is in a state that a test scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tests import nouns
from tests.fakes import FakeClock, FakeLauncher
from xautolm_hpc.durable import create_json
from xautolm_hpc.gather import AttemptResult, JobTracker, gather_ends
from xautolm_hpc.jobdir import claim_path
from xautolm_hpc.launcher import JobState, JobStatus
from xautolm_hpc.records import to_json

GRACE_S = 60.0
DAY_S = 24 * 3600.0


class ScriptedLauncher(FakeLauncher):
    """A launcher that says of every attempt what a test scripts."""

    def __init__(self, state: str, reason: str = "") -> None:
        super().__init__(state=state)
        self.says = JobStatus(state=JobState(state), reason=reason, node="n1")
        self.log_paths: tuple[Path, ...] = ()

    def log_says(self, folder: Path, text: str) -> None:
        (folder / "job.err").write_text(text)
        self.log_paths = (folder / "job.err",)

    def poll(self, attempt_dirs: Sequence[Path]) -> Mapping[Path, JobStatus]:
        return dict.fromkeys(attempt_dirs, replace(self.says, log_paths=self.log_paths))

    def cancel(self, attempt_dirs: Sequence[Path]) -> None:
        self.cancelled += attempt_dirs
        self.says = JobStatus(state=JobState.CANCELLED)


def claim(path: Path, restart: int = 0, claimed_at: float = 1_000_000.0) -> None:
    """Claim an attempt, as its job does when it begins it."""
    record = nouns.claim(restart=restart, claimed_at=claimed_at)
    create_json(claim_path(path, restart), to_json(record))


def look(launcher: FakeLauncher, tracker: JobTracker, path: Path, clock: FakeClock) -> AttemptResult | None:
    """Look once at one attempt."""
    ends = gather_ends(launcher, tracker, attempt_dirs=[path], clock=clock)
    return ends[0] if ends else None
