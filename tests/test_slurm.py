"""Slurm's commands: what is asked, and how the answers are read."""

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.submit.fake_slurm import FakeSlurm
from xautolm_hpc.errors import LaunchError
from xautolm_hpc.launcher import JobSource
from xautolm_hpc.slurm import JobRow, Partition, Slurm, clean_environment


@pytest.fixture
def cluster(tmp_path: Path) -> FakeSlurm:
    return FakeSlurm(tmp_path)


def test_squeue_rows_are_typed(cluster: FakeSlurm) -> None:
    cluster.set_job("101_0", name="a", state="PENDING", reason="ReqNodeNotAvail, UnavailableNodes:n[1-3]|x")
    cluster.set_job("101_1", name="a", state="RUNNING", node="n1")
    cluster.set_job("101_2", name="a", state="REQUEUE_HOLD", reason="job requeued in held state", priority="0")
    cluster.set_job("102", name="other")

    rows = cluster.client().squeue(["a"])

    common = {"name": "a", "exit_code": None, "ended_at": None, "source": JobSource.SQUEUE}
    reason = "ReqNodeNotAvail, UnavailableNodes:n[1-3]|x"
    assert rows == [
        JobRow(job_id="101_0", state="PENDING", reason=reason, node=None, **common),  # type: ignore[arg-type]
        JobRow(job_id="101_1", state="RUNNING", reason="", node="n1", **common),  # type: ignore[arg-type]
        JobRow(
            job_id="101_2",
            state="PENDING",  # type: ignore[arg-type]
            reason="job requeued in held state",
            node=None,
            is_held=True,
            **common,  # type: ignore[arg-type]
        ),
    ]


def test_sacct_tells_of_a_requeued_job_its_last_run_and_of_a_step_that_memory_ran_out(cluster: FakeSlurm) -> None:
    text = """\
7_0|a|NODE_FAIL|0:0|n1|1700000000|None
7_0.batch|a|CANCELLED|0:15|n1|1700000000|
7_0|a|CANCELLED by 1000|0:15|n2|1700000100|None
7_1|a|COMPLETED|0:0|n1|1700000050|None
7_1.batch|batch|COMPLETED|0:0|n1|1700000050|
7_1.0|python|OUT_OF_MEMORY|0:125|n1|1700000050|
7_2|a|FAILED|3:0|n1|1700000060|NonZeroExitCode
7_3|a|RUNNING|0:0|n1|Unknown|None
7_[4-9%2]|a|PENDING|0:0|None assigned|Unknown|Priority
"""
    cluster.answer("sacct", stdout=text)

    rows = cluster.client().sacct(["a"], since=1_700_000_000.0)

    found = {r.job_id: (r.state, r.reason, r.node, r.exit_code, r.ended_at) for r in rows or []}
    assert found == {
        "7_0": ("CANCELLED", "", "n2", 143, 1_700_000_100.0),
        "7_1": ("OUT_OF_MEMORY", "", "n1", 0, 1_700_000_050.0),
        "7_2": ("FAILED", "NonZeroExitCode", "n1", 3, 1_700_000_060.0),
        "7_3": ("RUNNING", "", "n1", 0, None),
        "7_[4-9%2]": ("PENDING", "Priority", None, 0, None),
    }


def test_sacct_looks_back_to_the_start_given_in_local_time(cluster: FakeSlurm) -> None:
    cluster.client().sacct(["a"], since=1_700_000_000.5)

    expected = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(1_700_000_000))
    assert f"--starttime={expected}" in cluster.calls("sacct")[0]
    assert "--duplicates" in cluster.calls("sacct")[0]


@pytest.mark.parametrize(("answer", "end"), [("1700000000\n", 1.7e9), ("N/A\n", None), ("", None)])
def test_the_end_of_a_jobs_time_is_read(cluster: FakeSlurm, answer: str, end: float | None) -> None:
    cluster.answer("squeue", stdout=answer)

    assert cluster.client().job_end("7_0") == end
    assert cluster.calls("squeue")[0][2:] == ["--jobs=7_0", "--format=%e"]


def test_no_answer_is_not_an_empty_answer(cluster: FakeSlurm) -> None:
    empty = cluster.client().squeue(["a"])
    cluster.answer("squeue", status=1, stderr="slurm_load_jobs error: Unable to contact slurm controller")
    cluster.answer("sacct", status=1, stderr="Slurm accounting storage is disabled")

    refused = cluster.client().squeue(["a"]), cluster.client().sacct(["a"], since=0.0)
    absent = Slurm({"PATH": "/nowhere"}).squeue(["a"])

    assert empty == []
    assert refused == (None, None)
    assert absent is None


def test_a_command_that_hangs_is_given_up(cluster: FakeSlurm) -> None:
    cluster.answer("squeue", sleep_s=60)
    began = time.monotonic()

    rows = cluster.client(timeout_s=1.0).squeue(["a"])

    assert rows is None
    assert time.monotonic() - began < 10


def test_settings_of_the_person_and_of_a_surrounding_job_do_not_reach_slurm(cluster: FakeSlurm) -> None:
    settings: dict[str, Any] = {
        "SQUEUE_FORMAT": "%i",
        "SLURM_JOB_ID": "5",
        "SBATCH_ACCOUNT": "x",
        "SLURM_CONF": "/etc/s.conf",
    }

    cluster.client(LC_ALL="de_DE", HOME="/home/me", **settings).squeue(["a"])

    environ = cluster.environ_of("squeue")
    assert {name: value for name, value in environ.items() if name.startswith(("SLURM_", "SQ", "SB"))} == {
        "SLURM_CONF": "/etc/s.conf",
        "SLURM_TIME_FORMAT": "%s",
    }
    assert (environ["LC_ALL"], environ["HOME"]) == ("C", "/home/me")
    assert clean_environment({"SACCT_FORMAT": "x", "A": "b"}) == {"A": "b"}


def test_many_ids_are_cancelled_in_few_calls(cluster: FakeSlurm) -> None:
    answered = cluster.client().scancel([f"9_{k}" for k in range(1100)])

    assert answered
    assert [len(call) - 2 for call in cluster.calls("scancel")] == [500, 500, 100]


def test_a_requeue_says_whether_slurm_agreed(cluster: FakeSlurm) -> None:
    agreed = cluster.client().requeue("9_1")
    cluster.answer("scontrol", status=1, stderr="Requested operation is presently disabled")

    assert (agreed, cluster.client().requeue("9_1")) == (True, False)
    assert cluster.calls("scontrol")[0] == ["scontrol", "requeue", "9_1"]


def test_the_controllers_settings_are_read(cluster: FakeSlurm) -> None:
    cluster.answer(
        "scontrol", stdout="Configuration data as of now\nKillWait                = 30 sec\nMaxArraySize = 1001\n"
    )

    assert cluster.client().settings() == {"KillWait": "30 sec", "MaxArraySize": "1001"}


def test_partitions_are_typed(cluster: FakeSlurm) -> None:
    cluster.answer("sinfo", stdout="gpu*|up|1-00:00:00|4|64|257000+|gpu:a100:4\nold|down|infinite|2|16|64000|(null)\n")

    assert cluster.client().sinfo() == [
        Partition(
            name="gpu", is_default=True, is_up=True, time_limit="1-00:00:00", n_nodes=4, n_cpus=64, memory_mib=257000,
            gres="gpu:a100:4",
        ),
        Partition(
            name="old", is_default=False, is_up=False, time_limit="infinite", n_nodes=2, n_cpus=16, memory_mib=64000,
            gres="",
        ),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            {"status": 1, "stderr": "sbatch: error: invalid partition"},
            "sbatch refused: sbatch: error: invalid partition",
        ),
        ({"stdout": "welcome to the cluster"}, "sbatch answered 'welcome to the cluster.n', expected a job id"),
        ({"sleep_s": 60}, "sbatch did not answer within 1 s"),
    ],
)
def test_what_sbatch_says_is_passed_on(
    cluster: FakeSlurm, tmp_path: Path, answer: dict[str, object], words: str
) -> None:
    cluster.answer("sbatch", **answer)  # type: ignore[arg-type]

    with pytest.raises(LaunchError, match=words):
        cluster.client(timeout_s=1.0).sbatch(tmp_path / "job.sh", {})


def test_an_id_with_the_clusters_name_and_words_before_it_is_understood(cluster: FakeSlurm, tmp_path: Path) -> None:
    cluster.answer("sbatch", stdout="lua: your project has 5 h left\n4711;alpha")

    assert cluster.client().sbatch(tmp_path / "job.sh", {"PATH": str(cluster.bin_dir)}) == "4711"


def test_slurm_that_is_not_installed_says_so(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="sbatch could not be started: it is not on PATH; work on a login node"):
        Slurm({"PATH": "/nowhere"}).sbatch(tmp_path / "job.sh", {})


def test_the_fake_is_a_program_of_its_own(cluster: FakeSlurm) -> None:
    completed = subprocess.run([cluster.bin_dir / "srun", "true"], check=False)

    assert completed.returncode == 0
