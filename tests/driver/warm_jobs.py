"""A launcher of which a test scripts what its jobs of several attempts do with each of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum, auto
from pathlib import Path

from tests.driving import end_attempt
from tests.fakes import JOB, FakeLauncher
from tests.nouns import claim
from xautolm_hpc.durable import create_json, read_json
from xautolm_hpc.jobdir import MEMBERS, OUTCOME, Exit, claim_attempt, claim_path, exit_path, read_members
from xautolm_hpc.launcher import JobStatus
from xautolm_hpc.records import to_json

MOST_POLLS = 1000
"""Polls after which a search has no end."""

STARTED_AT = 999_990.0
"""When the fake jobs began: 10 s before their trials did."""


class Way(StrEnum):
    """What a job does with one of its attempts."""

    END = auto()
    CRASH = auto()
    CUT_SHORT = auto()
    NOT_BEGIN = auto()


class WarmLauncher(FakeLauncher):
    """Its jobs do at once what a test scripts, and are then in some state.

    Args:
        script: Number of the job of several attempts, from 0, and its attempts -> what it does with each, in order,
            and the state in which that leaves it; no ways at all is a job that never began.

    Attributes:
        groups: The attempts of each job that ran, by their trials' numbers.
    """

    def __init__(self, script: Callable[[int, int], tuple[Sequence[Way], str]]) -> None:
        super().__init__(end_attempt)
        self.script = script
        self.groups: list[list[int]] = []
        self.n_runs: dict[Path, int] = {}

    def poll(self, attempt_dirs: Sequence[Path]) -> Mapping[Path, JobStatus]:
        if self.n_polls > MOST_POLLS:
            raise AssertionError(f"the search hangs: {[*attempt_dirs]}")
        return super().poll(attempt_dirs)

    def _run(self, path: Path, *, age_s: float) -> str:
        if not (path / MEMBERS).exists():
            return super()._run(path, age_s=age_s)
        members = read_members(path / MEMBERS)
        ways, state = self.script(len(self.groups), len(members))
        self.groups.append([trial_of(member) for member in members])
        job = claim(job_id=str(read_json(path / JOB)["job_id"]), node="fake-1", boot_id="fake", claimed_at=STARTED_AT)
        if ways:
            create_json(claim_path(path, 0), to_json(job))
        for member, way in zip(members, ways, strict=False):
            if way is not Way.NOT_BEGIN:
                self._begin(member, way, job_id=job.job_id)
        return state

    def _begin(self, member: Path, way: Way, *, job_id: str) -> None:
        begins = claim(job_id=job_id, node="fake-1", boot_id="fake", claimed_at=1_000_000.0, job_started_at=STARTED_AT)
        if not claim_attempt(member, begins):
            return
        self.n_runs[member] = self.n_runs.get(member, 0) + 1
        if way is Way.CUT_SHORT:
            return
        ended = Exit(
            returncode=0 if way is Way.END else -11, ended_by=None, started_at=1_000_000.0, ended_at=1_000_020.0
        )
        end = end_attempt(member)
        if way is Way.END and end is not None:
            create_json(member / OUTCOME, to_json(replace(end, job_started_at=STARTED_AT)))
        create_json(exit_path(member, 0), to_json(ended))


def trial_of(attempt_dir: Path) -> int:
    """Return the number of the trial that an attempt is of."""
    return int(attempt_dir.parent.name.rpartition("-")[2])
