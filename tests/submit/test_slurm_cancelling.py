"""Which jobs the Slurm launcher cancels, and who waits for it."""

from pathlib import Path

import pytest

from slurm.dev.daemons import wait_until
from tests.submit.fake_slurm import FakeSlurm
from tests.submit.slurm_launching import attempts, launcher_on, states_of


def test_cancelling_names_the_elements(cluster: FakeSlurm, tmp_path: Path) -> None:
    submission = attempts(tmp_path)
    launcher = launcher_on(cluster)
    launcher.submit(submission)

    launcher.cancel(submission.attempt_dirs[:2])

    assert cluster.calls("scancel") == [["scancel", "--quiet", "101_0", "101_1"]]
    assert states_of(launcher, submission) == ["CANCELLED", "CANCELLED", "PENDING"]


def test_where_slurm_takes_its_time_nobody_waits_until_it_has_cancelled(
    cluster: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submission, go_on = attempts(tmp_path), tmp_path / "go-on"
    launcher = launcher_on(cluster)
    launcher.submit(submission)
    real, command = cluster.bin_dir / "real" / "scancel", cluster.bin_dir / "scancel"
    real.parent.mkdir()
    command.rename(real)
    command.write_text(f'#!/bin/sh\nwhile [ ! -e {go_on} ]; do sleep 0.05; done\nexec {real} "$@"\n')
    command.chmod(0o700)

    monkeypatch.setattr("xautolm_hpc.submit.slurm_launcher.SLOW_S", -1.0)
    launcher.poll(submission.attempt_dirs)
    launcher.cancel(submission.attempt_dirs[:1])
    launcher.cancel(submission.attempt_dirs[:1])
    before = states_of(launcher, submission)
    go_on.touch()

    assert before == ["PENDING"] * 3
    assert wait_until(lambda: states_of(launcher, submission) == ["CANCELLED", "PENDING", "PENDING"], timeout_s=60)
    assert cluster.calls("scancel") == [["scancel", "--quiet", "101_0"]]


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_number_that_the_controller_gave_again_to_another_job_is_not_cancelled(
    cluster: FakeSlurm, tmp_path: Path, is_silent: bool
) -> None:
    submission = attempts(tmp_path)
    launcher = launcher_on(cluster)
    launcher.adopt(submission, {path: f"101_{i}" for i, path in enumerate(submission.attempt_dirs)})
    cluster.set_job("101_0", name="of-a-stranger", state="RUNNING")
    cluster.set_job("101_1", name=submission.name, state="RUNNING")
    if is_silent:
        cluster.answer("squeue", status=1)

    launcher.cancel(submission.attempt_dirs)

    if is_silent:
        of_name = ["scancel", "--quiet", f"--name={submission.name}", "101_0", "101_1", "101_2"]
        assert cluster.calls("scancel") == [of_name]
    else:
        assert cluster.calls("scancel") == [["scancel", "--quiet", "101_1"]]
