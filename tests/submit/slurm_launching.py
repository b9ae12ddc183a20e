"""Launchers and submissions of the tests of the Slurm launcher."""

from pathlib import Path

from tests.submit.fake_slurm import FakeSlurm
from tests.submit.jobs import make_attempt, submission_of
from xautolm_hpc.launcher import Launcher, Submission
from xautolm_hpc.submit.arrays import SlurmOptions
from xautolm_hpc.submit.slurm_launcher import SlurmLauncher

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/home/me", "PYTHONPATH": "/opt/xautolm"}


def launcher_on(cluster: FakeSlurm) -> SlurmLauncher:
    return SlurmLauncher(
        SlurmOptions(),
        since=1_000_000.0,
        python="/opt/py/bin/python",
        slurm=cluster.client(),
        environment=ENVIRONMENT,
    )


def attempts(tmp_path: Path, n: int = 3) -> Submission:
    return submission_of(tmp_path / "submission", *(make_attempt(tmp_path / f"a{k}") for k in range(n)))


def states_of(launcher: Launcher, submission: Submission) -> list[str]:
    return [state.state for state in launcher.poll(submission.attempt_dirs).values()]
