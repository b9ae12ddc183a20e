"""Fakes for the launcher and for time: they behave and remember."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.nouns import GIB, claim, end, failed, succeeded, system
from xautolm_hpc import __version__
from xautolm_hpc.durable import create_json, read_json, write_json
from xautolm_hpc.errors import LaunchError
from xautolm_hpc.jobdir import OUTCOME, PIPELINE, End, claim_path
from xautolm_hpc.launcher import JobSource, JobState, JobStatus, QueueLimits, Submission
from xautolm_hpc.node import Clock
from xautolm_hpc.records import Outcome, to_json

JOB = "fake-job.json"
SYSTEM = system(site="fake", cluster="fake", n_cpu_cores=4, ram_bytes=16 * GIB, n_gpus=0)


class FakeClock:
    """A clock that stands still but for sleeping.

    Args:
        now: Where it stands, in seconds since the epoch.
        tick_s: Seconds by which every reading moves it on.

    Attributes:
        seconds: Where it stands.
        slept_s: What it was asked to sleep, in order.
    """

    def __init__(self, now: float = 1_000_000.0, *, tick_s: float = 0.0) -> None:
        self.seconds = now
        self.slept_s: list[float] = []
        self._tick_s = tick_s

    def now(self) -> float:
        self.seconds += self._tick_s
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.seconds += seconds


def stub_end(attempt_dir: Path, *, one_oom_in: int = 5) -> End:
    """End an attempt as a pure function of its pipeline: a made-up F1, or gpu_oom for one pipeline in five.

    How steps are computed is no part of the pipeline.
    """
    plan = {name: value for name, value in read_json(attempt_dir / PIPELINE).items() if name != "step"}
    digest = hashlib.sha256((json.dumps(plan, indent=1) + "\n").encode()).digest()
    share = int.from_bytes(digest[:8]) / 2**64
    if digest[8] % one_oom_in == 0:
        return failed_end("gpu_oom", message="CUDA out of memory")
    train_s, eval_s = 10.0 + 100.0 * share, 1.0
    return end_with(
        succeeded(
            metrics={"f1": round(share, 6), "accuracy": round(share, 6)},
            load_s=2.0,
            train_s=train_s,
            eval_s=eval_s,
            evaluation_time_s=train_s + eval_s,
            peak_rss_bytes=2**30,
            n_steps=100,
            n_samples=1600,
        )
    )


def failed_end(kind: str, *, message: str = "scripted") -> End:
    """End with a failure of some kind."""
    return end_with(failed(kind, message, train_s=5.0, evaluation_time_s=5.0))


def end_with(outcome: Outcome) -> End:
    """Wrap an outcome as a worker on the fake node would."""
    return end(
        outcome,
        system=SYSTEM,
        started_at=1_000_000.0,
        ended_at=1_000_000.0 + (outcome.evaluation_time_s or 0.0),
        node="fake-1",
        package_version=__version__,
    )


class FakeLauncher:
    """A launcher whose jobs run by themselves: their state lies in the attempt folders, so they outlive a driver.

    Args:
        outcome_of: Attempt folder -> how it ends; ``None`` leaves no outcome, and the job in ``state``.
        clock: Time; with it jobs wait and run for some seconds, without it they end at the first poll.
        state: State of a job that left no outcome.
        pending_s: Seconds a job waits before it starts.
        duration_s: Seconds a job runs.
        refuse: Words with which the next submissions are refused; ``None`` accepts them.

    Attributes:
        submissions: What was submitted through this object, in order.
        cancelled: Attempts cancelled through this object, in order.
        n_polls: Polls of this object.
        is_silent: Whether no source answers; set it to make every job ``UNKNOWN``.
        queue_limits: What :meth:`limits` says.
    """

    def __init__(
        self,
        outcome_of: Callable[[Path], End | None] = stub_end,
        *,
        clock: Clock | None = None,
        state: str = "FAILED",
        pending_s: float = 0.0,
        duration_s: float = 0.0,
        refuse: str | None = None,
    ) -> None:
        self.outcome_of = outcome_of
        self.clock = clock
        self.state = state
        self.pending_s = pending_s
        self.duration_s = duration_s
        self.refuse = refuse
        self.is_silent = False
        self.queue_limits = QueueLimits()
        self.submissions: list[Submission] = []
        self.cancelled: list[Path] = []
        self.n_polls = 0

    def limits(self) -> QueueLimits:
        return self.queue_limits

    def submit(self, submission: Submission) -> Mapping[Path, str]:
        if self.refuse is not None:
            raise LaunchError(f"{submission.name}: {self.refuse}")
        self.submissions.append(submission)
        for index, path in enumerate(submission.attempt_dirs):
            job = {"job_id": f"{submission.name}_{index}", "submitted_at": self._now(), "state": "PENDING"}
            write_json(path / JOB, job)
        return self.adopt(submission, {})

    def adopt(self, submission: Submission, known: Mapping[Path, str]) -> Mapping[Path, str]:
        del known  # the jobs themselves know better
        paths = [path for path in submission.attempt_dirs if (path / JOB).exists()]
        return {path: str(read_json(path / JOB)["job_id"]) for path in paths}

    def poll(self, attempt_dirs: Sequence[Path]) -> Mapping[Path, JobStatus]:
        self.n_polls += 1
        return {path: self._advance(path) for path in attempt_dirs}

    def cancel(self, attempt_dirs: Sequence[Path]) -> None:
        for path in attempt_dirs:
            if (path / JOB).exists() and self._advance(path).is_alive:
                self.cancelled.append(path)
                self._put(path, "CANCELLED")

    def _advance(self, path: Path) -> JobStatus:
        """Let a job go on to where it is by now."""
        if self.is_silent or not (path / JOB).exists():
            return JobStatus(state=JobState.UNKNOWN)
        job = read_json(path / JOB)
        if job["state"] in ("PENDING", "RUNNING"):
            job["state"] = self._run(path, age_s=self._now() - job["submitted_at"])
            self._put(path, job["state"])
        return JobStatus(state=JobState(job["state"]), node="fake-1", source=JobSource.POOL)

    def _run(self, path: Path, *, age_s: float) -> str:
        if age_s < self.pending_s:
            return "PENDING"
        job_id = str(read_json(path / JOB)["job_id"])
        made = claim(job_id=job_id, node="fake-1", boot_id="fake", claimed_at=self._now())
        create_json(claim_path(path, 0), to_json(made))
        if age_s < self.pending_s + self.duration_s:
            return "RUNNING"
        ended = self.outcome_of(path)
        if ended is None:
            return self.state
        create_json(path / OUTCOME, to_json(ended))
        return "COMPLETED"

    def _put(self, path: Path, state: str) -> None:
        write_json(path / JOB, {**read_json(path / JOB), "state": state})

    def _now(self) -> float:
        return 0.0 if self.clock is None else self.clock.now()
