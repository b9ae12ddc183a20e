"""A job that waits for a limit on many jobs, which it exceeds alone or not."""

import os
import pwd
from pathlib import Path

import pytest

from tests.submit.fake_slurm import FakeSlurm, write_command
from tests.submit.jobs import make_attempt, submission_of
from xautolm_hpc.gather.pending import obstacle
from xautolm_hpc.launcher import JobStatus, Resources
from xautolm_hpc.submit import job_limits, slurm_launcher
from xautolm_hpc.submit.arrays import SlurmOptions
from xautolm_hpc.submit.slurm_launcher import SlurmLauncher

USER = pwd.getpwuid(os.getuid()).pw_name
N_CPUS = Resources().n_cpus


def waiting_job(tmp_path: Path, reason: str, *, allowed: int) -> tuple[SlurmLauncher, Path]:
    """Let a job wait for a reason on a cluster whose account allows so many cores to all jobs together."""
    cluster = FakeSlurm(tmp_path)
    account = {"Account": "dev", "GrpTRES": f"cpu={allowed}"}
    columns = ("User", "Account", "Partition", "DefaultQOS", *job_limits.OF_ASSOCIATION)
    rows = "".join("|".join(row.get(name, "") for name in columns) + "\n" for row in (account, {"User": USER}))
    write_command(cluster.bin_dir, "sacctmgr", {"user": "dev\n", "association": rows, "qos": ""})
    launcher = SlurmLauncher(SlurmOptions(partition="gpu"), since=0.0, slurm=cluster.client(), environment={})
    attempt_dir = make_attempt(tmp_path / "attempt")
    launcher.submit(submission_of(tmp_path / "submission", attempt_dir))
    cluster.set_job("101_0", reason=reason)
    return launcher, attempt_dir


def status_with(tmp_path: Path, reason: str, *, allowed: int) -> JobStatus:
    """Poll such a job once."""
    launcher, attempt_dir = waiting_job(tmp_path, reason, allowed=allowed)
    return launcher.poll([attempt_dir])[attempt_dir]


@pytest.mark.parametrize("reason", ["AssocGrpCpuLimit", "QOSMaxCpuPerUserLimit", "MaxCpuPerAccount"])
def test_a_limit_on_many_jobs_that_one_exceeds_alone_is_an_obstacle_to_all(tmp_path: Path, reason: str) -> None:
    status = status_with(tmp_path, reason, allowed=N_CPUS - 1)

    found = obstacle(status)

    assert found is not None
    assert found.is_of_request
    assert f"account dev allows {N_CPUS - 1} for all jobs together (GrpTRES): lower job.n_cpus" in found.remedy


def test_a_limit_on_many_jobs_that_has_room_for_one_clears(tmp_path: Path) -> None:
    status = status_with(tmp_path, "AssocGrpCpuLimit", allowed=N_CPUS)

    assert (status.excess, obstacle(status)) == ("", None)


def test_accounts_are_not_asked_about_a_job_that_waits_its_turn(tmp_path: Path) -> None:
    status = status_with(tmp_path, "Priority", allowed=N_CPUS - 1)

    assert (status.excess, obstacle(status)) == ("", None)


def test_a_limit_on_many_jobs_stays_known_while_the_accounts_do_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_launcher, "ASK_AGAIN_S", 0.0)
    launcher, attempt_dir = waiting_job(tmp_path, "AssocGrpCpuLimit", allowed=N_CPUS - 1)
    before = launcher.poll([attempt_dir])[attempt_dir]
    write_command(tmp_path / "slurm-bin", "sacctmgr", {})

    after = launcher.poll([attempt_dir])[attempt_dir]

    assert "account dev allows" in before.excess
    assert after.excess == before.excess
