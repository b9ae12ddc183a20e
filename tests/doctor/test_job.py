"""The job check: what a job tells, and what is told where it can tell nothing."""

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.doctor.sites import make_site
from tests.sif import write_sif
from tests.submit.fake_slurm import FakeSlurm
from xautolm_hpc.doctor import check_job, job_check_key, recall_start_s
from xautolm_hpc.node import node_name
from xautolm_hpc.view import Finding

SAYS_IT_IS_FINE = """#!/bin/sh
for folder; do :; done
echo '{"at": 0.0, "findings": [{"check": "training step", "level": "ok", "found": "x", "remedy": ""}]}' \\
  > "$folder/check.json"
"""
QUICK: dict[str, Any] = {"local": {"poll_s": 0.1}, "slurm": {"poll_s": 1.0}, "patience": {"outcome_grace_s": 0.0}}


def write_worker(folder: Path, text: str) -> str:
    worker = folder / "worker"
    worker.write_text(text)
    worker.chmod(0o700)
    return str(worker)


def check(folder: Path, **profile: Any) -> tuple[list[Finding], list[str]]:
    """Check a job with runs in a folder of their own, which is empty again afterwards."""
    said: list[str] = []
    runs_dir = folder / "runs"
    runs_dir.mkdir()
    findings = check_job(make_site(runs_dir, **{**QUICK, **profile}), log=said.append)
    assert list(runs_dir.iterdir()) == []
    return findings, said


def test_what_the_job_found_is_passed_on_with_node_and_clock(tmp_path: Path) -> None:
    findings, said = check(tmp_path, launcher="local", worker_python=write_worker(tmp_path, SAYS_IT_IS_FINE))

    assert [(f.check, f.level) for f in findings] == [
        ("job check", "ok"),
        ("clock of the node", "warning"),  # the made-up node lives in 1970
        ("training step", "ok"),
    ]
    assert f"ran on node {node_name()}," in findings[0].found
    assert said[0].endswith(" submitted")


def test_a_worker_that_breaks_is_told_with_its_last_words(tmp_path: Path) -> None:
    worker = write_worker(tmp_path, "#!/bin/sh\necho 'ImportError: libcudart.so.12' >&2\nexit 3\n")

    (finding,), _ = check(tmp_path, launcher="local", worker_python=worker)

    assert (finding.check, finding.level) == ("worker", "failure")
    assert finding.found.endswith("ended with status 3: ImportError: libcudart.so.12")
    assert "pip install 'xautolm-hpc[worker]'" in finding.remedy


@pytest.mark.parametrize(
    ("status", "row", "found"),
    [
        (81, "run folder", "is not there on node n3"),
        (82, "run folder", "cannot be written on node n3"),
        (83, "driver_python", "cannot be run on node n3"),
        (84, "worker_python", "`python3` cannot be run on node n3"),
        (85, "hf_home", "`/models` is not there on node n3"),
        (1, "job check", "the job ended as FAILED NonZeroExitCode: its log is empty"),
    ],
)
def test_what_the_script_missed_on_the_node_is_told_by_its_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, status: int, row: str, found: str
) -> None:
    slurm = FakeSlurm(tmp_path)
    slurm.answer("squeue", stdout="")
    slurm.answer("scontrol", stdout=f"JobId=101 JobState=FAILED ExitCode={status}:0")
    monkeypatch.setenv("PATH", f"{slurm.bin_dir}:/usr/bin:/bin")
    site_dir = tmp_path / "runs"
    site_dir.mkdir()
    site = make_site(site_dir, hf_home="/models", **QUICK)
    object.__setattr__(site, "slurm", slurm.client())

    def fail_at_once(line: str) -> None:
        if line.endswith("submitted"):
            name = slurm.calls("sbatch")[-1][-1]
            assert Path(name).exists()
            text = f"101_0|{job_name(Path(name))}|FAILED|n3|9|NonZeroExitCode"
            slurm.answer("squeue", stdout=text)

    (finding,) = check_job(site, log=fail_at_once)

    assert (finding.check, finding.level) == (row, "failure")
    assert found in finding.found


def test_a_job_that_can_never_start_is_given_up_and_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = FakeSlurm(tmp_path)
    monkeypatch.setenv("PATH", f"{slurm.bin_dir}:/usr/bin:/bin")
    monkeypatch.setattr("xautolm_hpc.doctor.job.STUCK_S", 0.0)
    (tmp_path / "runs").mkdir()

    def never_start(line: str) -> None:
        if line.endswith("submitted"):
            slurm.set_job("101_0", state="PENDING", reason="PartitionTimeLimit")

    (finding,) = check_job(make_site(tmp_path / "runs", **QUICK), log=never_start)

    assert finding.found == "the job waits for 'PartitionTimeLimit'"
    assert "lower trial.time_limit_min" in finding.remedy
    assert slurm.calls("scancel")[-1][-1] == "101_0"


def job_name(script_path: Path) -> str:
    """Read a batch script's job name."""
    lines = script_path.read_text().splitlines()
    return next(line for line in lines if "--job-name=" in line).partition("--job-name=")[2]


def test_how_long_the_worker_starts_is_measured_and_remembered_for_plan(tmp_path: Path) -> None:
    site = make_site(tmp_path, **{**QUICK, "launcher": "local", "worker_python": sys.executable})

    findings = check_job(site, log=lambda line: None)

    (start,) = [finding for finding in findings if finding.check == "start-up of a trial"]
    start_s = recall_start_s(tmp_path, job_check_key(site.profile))
    assert start_s is not None
    assert start_s > 0
    assert start.found.startswith(f"imports {start_s:.1f} s; forked from a worker that has them ")


def test_a_job_whose_container_cannot_be_started_is_not_sent_and_says_why(tmp_path: Path) -> None:
    image = write_sif(tmp_path / "worker.sif", labels={"xautolm.torch": "cpu"})
    missing = tmp_path / "models"

    (finding,), said = check(
        tmp_path, launcher="local", worker_python=None, hf_home=str(missing), container={"image": str(image)}
    )

    assert (finding.check, finding.level) == ("job check", "failure")
    assert finding.found.startswith(f"not sent: the cache of models `{missing}` does not exist;")
    assert said == []
