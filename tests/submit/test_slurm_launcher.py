"""The Slurm launcher against commands that behave like Slurm's; the scripts whole."""

import pickle
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.submit.fake_slurm import FakeSlurm
from tests.submit.slurm_launching import ENVIRONMENT, attempts, launcher_on, states_of
from xautolm_hpc.durable import create_json, read_json
from xautolm_hpc.errors import BusyError, LaunchError, QueueFullError
from xautolm_hpc.jobdir import MEMBERS, OUTCOME, claim_path
from xautolm_hpc.launcher import Resources, Submission
from xautolm_hpc.records import to_json
from xautolm_hpc.submit.arrays import CALL, SlurmOptions, asked_gres
from xautolm_hpc.submit.slurm_launcher import SlurmLauncher
from xautolm_hpc.submit.wrapper import describe_claim, run_member

RECORDED = Path(__file__).with_name("recorded")
DEMO = Submission(
    name="demo-g000-s0",
    folder=Path("/runs/demo/gen-000/submission-0"),
    attempt_dirs=tuple(Path(f"/runs/demo/gen-000/trial-{k:03d}/attempt-0") for k in range(20)),
    resources=Resources(n_cpus=4, n_gpus=1, memory_bytes=16 * 2**30 + 1, time_limit_s=4201.0),
)
EVERYTHING = SlurmOptions(
    account="proj-42",
    partition="gpu",
    qos="high",
    gres="gpu:a100:2",
    constraint="ib&nvme",
    exclude="n[7-9]",
    reservation="course",
    wckey="nlp",
    options={"mail-type": "END", "nice": 100, "exclusive": True, "no-requeue": True, "oversubscribe": False},
    max_parallel=3,
)


@pytest.mark.parametrize(
    ("name", "options", "resources"),
    [
        ("plain.sh", SlurmOptions(), DEMO.resources),
        ("everything.sh", EVERYTHING, Resources(n_cpus=8, n_gpus=2, n_nodes=1, exclude=("bad1", "bad2"))),
    ],
)
def test_the_batch_script_is_as_recorded(name: str, options: SlurmOptions, resources: Resources) -> None:
    submission = Submission(name=DEMO.name, folder=DEMO.folder, attempt_dirs=DEMO.attempt_dirs, resources=resources)
    launcher = SlurmLauncher(options, since=0.0, python="/opt/my py/bin/python", environment=ENVIRONMENT)

    text = launcher.sbatch_text(submission)

    assert text == (RECORDED / name).read_text()


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ({"gpus-per-task": 1}, ["--gpus-per-task=1", "--mem=16385M"]),
        ({"gpus": "a100:1", "mem-per-gpu": "64G"}, ["--gpus=a100:1", "--mem-per-gpu=64G"]),
        ({"mem_per_cpu": "4G"}, ["--gpus-per-node=1", "--mem-per-cpu=4G"]),
        ({"gres": "gpu:1"}, ["--gres=gpu:1", "--mem=16385M"]),
        ({"mem": False}, ["--gpus-per-node=1"]),
        ({"tres-per-task": "gres/gpu:1"}, ["--mem=16385M"]),
    ],
)
def test_gpus_and_memory_are_asked_for_by_one_option_each(options: dict[str, Any], lines: list[str]) -> None:
    launcher = SlurmLauncher(SlurmOptions(options=options), since=0.0, python="python3", environment=ENVIRONMENT)

    words = [line.removeprefix("#SBATCH ") for line in launcher.sbatch_text(DEMO).splitlines()]

    assert [word for word in words if word.startswith(("--gpus", "--gres", "--mem"))] == lines


@pytest.mark.parametrize(
    ("options", "n_nodes", "gres"),
    [
        (SlurmOptions(), 1, "gpu:3"),
        (SlurmOptions(gres="gpu:a100:2,lscratch:9"), 1, "gpu:a100:2,lscratch:9"),
        (SlurmOptions(options={"gpus": 4}), 2, "gpu:2"),
        (SlurmOptions(options={"gpus": "a100:3"}), 2, "gpu:a100:2"),
        (SlurmOptions(options={"gpus_per_node": "a100:1,v100:1"}), 2, "gpu:a100:1,gpu:v100:1"),
        (SlurmOptions(options={"gpus-per-task": 2}), 2, "gpu:2"),
    ],
)
def test_gpus_of_a_node_are_known_whichever_option_asks(options: SlurmOptions, n_nodes: int, gres: str) -> None:
    assert asked_gres(options, n_gpus=3, n_nodes=n_nodes) == gres


@pytest.mark.parametrize("options", [{"mem-per-gpu": "64G"}, {"mem_per_cpu": "4G"}, {"mem": False}])
def test_no_more_memory_is_asked_for_where_an_option_says_how_much(cluster: FakeSlurm, options: dict[str, Any]) -> None:
    chosen = SlurmOptions(options=options)

    launcher = SlurmLauncher(chosen, since=0.0, python="python3", environment=ENVIRONMENT, slurm=cluster.client())

    assert launcher.limits().memory_bytes == 0
    assert launcher_on(cluster).limits().memory_bytes is None


def test_an_array_is_submitted_with_its_one_pickled_call_in_place(cluster: FakeSlurm, tmp_path: Path) -> None:
    submission = attempts(tmp_path)
    launcher = launcher_on(cluster)

    ids = launcher.submit(submission)

    assert list(ids.values()) == ["101_0", "101_1", "101_2"]
    call = pickle.loads((submission.folder / CALL).read_bytes())  # noqa: S301
    assert (call.function, call.args, call.kwargs) == (run_member, (str(submission.folder / MEMBERS),), {})
    assert states_of(launcher, submission) == ["PENDING"] * 3
    assert cluster.environ_of("sbatch")["PYTHONPATH"] == "/opt/xautolm"


def test_a_single_attempt_is_an_array_too(cluster: FakeSlurm, tmp_path: Path) -> None:
    ids = launcher_on(cluster).submit(attempts(tmp_path, 1))

    assert list(ids.values()) == ["101_0"]


def test_a_refusal_leaves_nothing_behind_and_repeats_sbatchs_words(cluster: FakeSlurm, tmp_path: Path) -> None:
    submission = attempts(tmp_path)
    cluster.answer("sbatch", status=1, stderr="sbatch: error: Invalid account or account/partition combination")

    with pytest.raises(LaunchError, match="test-g000-s0: sbatch refused: sbatch: error: Invalid account"):
        launcher_on(cluster).submit(submission)

    assert [path.name for path in submission.folder.iterdir()] == [MEMBERS]


@pytest.mark.parametrize("words", ["Socket timed out on send/recv operation", "something a site's own sbatch says"])
def test_a_submission_that_was_accepted_but_answered_with_an_error_is_found_by_its_name(
    cluster: FakeSlurm, tmp_path: Path, words: str
) -> None:
    submission = attempts(tmp_path)
    launcher = launcher_on(cluster)
    cluster.answer("sbatch", status=1, stderr=f"sbatch: error: {words}", then_do=True)

    try:
        ids = launcher.submit(submission)
    except BusyError:
        ids = launcher.adopt(submission, {})

    assert list(ids.values()) == ["101_0", "101_1", "101_2"]
    assert (submission.folder / CALL).exists()


def test_whether_an_unclear_answer_meant_yes_is_left_open(cluster: FakeSlurm, tmp_path: Path) -> None:
    cluster.answer("sbatch", status=1, stderr="sbatch: error: Socket timed out on send/recv operation")

    with pytest.raises(BusyError, match=r"test-g000-s0: sbatch refused: .*Socket timed out"):
        launcher_on(cluster).submit(attempts(tmp_path))


def test_a_limit_on_jobs_in_the_queue_is_told_from_other_refusals(cluster: FakeSlurm, tmp_path: Path) -> None:
    submission = attempts(tmp_path)
    cluster.answer("sbatch", status=1, stderr="sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job ...")

    with pytest.raises(QueueFullError, match="AssocMaxSubmitJobLimit"):
        launcher_on(cluster).submit(submission)

    assert [path.name for path in submission.folder.iterdir()] == [MEMBERS]


def test_another_limit_of_the_account_is_no_full_queue(cluster: FakeSlurm, tmp_path: Path) -> None:
    words = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
    cluster.answer("sbatch", status=1, stderr=f"sbatch: error: QOSMaxWallDurationPerJobLimit\nsbatch: error: {words}")

    with pytest.raises(LaunchError, match="QOSMaxWallDurationPerJobLimit") as caught:
        launcher_on(cluster).submit(attempts(tmp_path))

    assert not isinstance(caught.value, QueueFullError | BusyError)


def test_a_driver_killed_after_sbatch_is_followed_by_one_that_finds_the_array(
    cluster: FakeSlurm, tmp_path: Path
) -> None:
    submission = attempts(tmp_path)
    launcher_on(cluster).submit(submission)
    launcher = launcher_on(cluster)

    ids = launcher.adopt(submission, {})

    assert list(ids.values()) == ["101_0", "101_1", "101_2"]
    assert states_of(launcher, submission) == ["PENDING"] * 3
    assert len(cluster.calls("sbatch")) == 1


def test_of_an_array_that_was_taken_twice_the_one_that_waits_is_cancelled(cluster: FakeSlurm, tmp_path: Path) -> None:
    submission = attempts(tmp_path, 2)
    launcher = launcher_on(cluster)
    launcher.submit(submission)
    for job_id, state in {"105_0": "PENDING", "105_1": "RUNNING"}.items():
        cluster.set_job(job_id, name=submission.name, state=state)

    launcher.poll(submission.attempt_dirs)

    assert cluster.calls("scancel") == [["scancel", "--quiet", "--state=PENDING", "105_0"]]


def test_the_job_that_claimed_an_attempt_is_the_one_to_watch(cluster: FakeSlurm, tmp_path: Path) -> None:
    submission = attempts(tmp_path, 1)
    launcher = launcher_on(cluster)
    launcher.submit(submission)
    create_json(claim_path(submission.attempt_dirs[0], 0), to_json(describe_claim("105_0", 0)))
    cluster.set_job("105_0", name=submission.name, state="RUNNING")
    cluster.set_job("101_0", state="COMPLETED")

    assert states_of(launcher, submission) == ["RUNNING"]
    assert states_of(launcher, submission) == ["RUNNING"]


def test_attempts_that_no_source_knows_were_never_submitted(cluster: FakeSlurm, tmp_path: Path) -> None:
    submission = attempts(tmp_path)
    create_json(claim_path(submission.attempt_dirs[1], 0), to_json(describe_claim("55_1", 0)))

    ids = launcher_on(cluster).adopt(submission, {submission.attempt_dirs[2]: "55_2"})

    assert dict(ids) == {submission.attempt_dirs[1]: "55_1", submission.attempt_dirs[2]: "55_2"}


def test_of_two_arrays_of_one_name_the_older_counts(cluster: FakeSlurm, tmp_path: Path) -> None:
    submission = attempts(tmp_path, 1)
    for job_id in ("205_0", "99_0"):
        cluster.set_job(job_id, name=submission.name)

    assert list(launcher_on(cluster).adopt(submission, {}).values()) == ["99_0"]


def test_a_job_that_only_the_accounts_remember_is_adopted_too(cluster: FakeSlurm, tmp_path: Path) -> None:
    submission = attempts(tmp_path, 1)
    cluster.set_job("99_0", name=submission.name, **{"in": ["sacct"]})

    assert list(launcher_on(cluster).adopt(submission, {}).values()) == ["99_0"]


def test_nothing_is_adopted_from_a_controller_that_does_not_answer(cluster: FakeSlurm, tmp_path: Path) -> None:
    cluster.answer("squeue", status=1)

    with pytest.raises(BusyError, match=r"Slurm does not answer: .*Its jobs cannot be found"):
        launcher_on(cluster).adopt(attempts(tmp_path), {})


def test_a_poll_is_one_squeue_and_no_sacct_while_all_jobs_are_alive(cluster: FakeSlurm, tmp_path: Path) -> None:
    submission = attempts(tmp_path)
    launcher = launcher_on(cluster)
    launcher.submit(submission)
    cluster.set_job("101_0", state="RUNNING", node="n1")
    cluster.set_job("101_1", state="REQUEUE_HOLD", reason="launch failed requeued held")
    cluster.set_job("101_2", state="STOPPED")

    states = launcher.poll(submission.attempt_dirs)

    seen = [(state.state, state.reason, state.node) for state in states.values()]
    assert seen == [("RUNNING", "", "n1"), ("PENDING", "launch failed requeued held", None), ("SUSPENDED", "", None)]
    assert [call[0] for call in cluster.calls()] == ["sbatch", "squeue"]
    assert not any(state.is_stale for state in states.values())


def test_how_a_job_ended_is_asked_of_the_accounts_in_one_call(cluster: FakeSlurm, tmp_path: Path) -> None:
    submission = attempts(tmp_path)
    launcher = launcher_on(cluster)
    launcher.submit(submission)
    step = "101_0.0|python|OUT_OF_MEMORY|0:125|n1|1700000000|"
    cluster.set_job("101_0", state="COMPLETED", accounts={"steps": [step]})
    cluster.set_job("101_1", **{"in": ["sacct"]}, state="TIMEOUT")
    cluster.set_job("101_2", state="COMPLETED", accounts={"state": "RUNNING"})  # the accounts lag behind

    states = launcher.poll(submission.attempt_dirs)

    seen = [(state.state, state.source) for state in states.values()]
    assert seen == [("OUT_OF_MEMORY", "sacct"), ("TIMEOUT", "sacct"), ("COMPLETED", "squeue")]
    assert [call[0] for call in cluster.calls()] == ["sbatch", "squeue", "sacct"]


def test_a_job_the_controller_forgot_is_unknown_whatever_stale_accounts_say(cluster: FakeSlurm, tmp_path: Path) -> None:
    submission = attempts(tmp_path, 2)
    launcher = launcher_on(cluster)
    launcher.submit(submission)
    cluster.set_job("101_0", **{"in": ["sacct"]}, state="RUNNING")
    cluster.set_job("101_1", **{"in": []})

    states = states_of(launcher, submission)

    assert states == ["UNKNOWN", "UNKNOWN"]


def test_a_cluster_without_accounts_still_tells_that_a_job_is_gone(cluster: FakeSlurm, tmp_path: Path) -> None:
    submission = attempts(tmp_path, 1)
    launcher = launcher_on(cluster)
    launcher.submit(submission)
    cluster.set_job("101_0", **{"in": []})
    cluster.answer("sacct", status=1, stderr="Slurm accounting storage is disabled")

    assert states_of(launcher, submission) == ["UNKNOWN"]


def test_while_nothing_answers_the_last_state_known_stays(cluster: FakeSlurm, tmp_path: Path) -> None:
    submission = attempts(tmp_path, 1)
    launcher = launcher_on(cluster)
    launcher.submit(submission)
    cluster.set_job("101_0", state="RUNNING")
    before = states_of(launcher, submission)
    for command in ("squeue", "sacct"):
        cluster.answer(command, status=1)

    assert before == states_of(launcher, submission) == ["RUNNING"]
    assert all(state.is_stale for state in launcher.poll(submission.attempt_dirs).values())


def test_a_job_that_failed_with_its_node_and_is_requeued_is_alive_again(cluster: FakeSlurm, tmp_path: Path) -> None:
    submission = attempts(tmp_path, 1)
    launcher = launcher_on(cluster)
    launcher.submit(submission)
    cluster.set_job("101_0", state="NODE_FAIL")
    failed = states_of(launcher, submission)
    cluster.set_job("101_0", state="PENDING", reason="BeginTime")

    assert (failed, states_of(launcher, submission)) == (["NODE_FAIL"], ["PENDING"])


def test_nodes_to_leave_out_are_forgotten_where_none_would_be_left(cluster: FakeSlurm, tmp_path: Path) -> None:
    submission = replace(attempts(tmp_path), resources=Resources(exclude=("n1", "n2")))
    cluster.answer("sbatch", status=1, stderr="sbatch: error: Requested node configuration is not available")

    with pytest.raises(LaunchError, match="not available"):
        launcher_on(cluster).submit(submission)

    assert len(cluster.calls("sbatch")) == 2


def test_no_value_of_a_variable_stands_in_the_script() -> None:
    environment = {**ENVIRONMENT, "HOME": "/home/somebody"}
    launcher = SlurmLauncher(SlurmOptions(), since=0.0, python="python3", environment=environment)

    text = launcher.sbatch_text(DEMO)

    assert "HOME,PATH,PYTHONPATH" in text
    assert "/home/somebody" not in text


def test_the_script_runs_on_a_node_each_element_its_own_attempt(cluster: FakeSlurm, tmp_path: Path) -> None:
    submission = attempts(tmp_path, 2)
    environment = {"PATH": f"{tmp_path}/node:/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    launcher = SlurmLauncher(SlurmOptions(), since=0.0, slurm=cluster.client(), environment=environment)
    srun = tmp_path / "node" / "srun"
    srun.parent.mkdir()
    srun.write_text('#!/bin/sh\nwhile [ "$1" != --kill-on-bad-exit=1 ]; do shift; done\nshift\nexec "$@"\n')
    srun.chmod(0o700)
    launcher.submit(submission)
    variables = {"SLURM_JOB_ID": "103", "SLURM_ARRAY_JOB_ID": "101", "SLURM_ARRAY_TASK_ID": "1"}

    subprocess.run(
        ["bash", submission.folder / "submission.sh"],
        env={**environment, **variables},
        check=True,
        stdout=subprocess.DEVNULL,
    )

    first, second = submission.attempt_dirs
    assert (second / OUTCOME).exists()
    assert read_json(claim_path(second, 0))["job_id"] == "101_1"
    assert not claim_path(first, 0).exists()
