"""The wrapper around a worker: real processes, no launcher."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.submit.jobs import SLEEP, WRITE_PID, is_running, make_attempt, submission_of, wait_until
from xautolm_hpc import jobdir
from xautolm_hpc.durable import create_json, read_json, write_json
from xautolm_hpc.errors import InputError
from xautolm_hpc.jobdir import COMMAND, OUTCOME, VERDICT, Exit, claim_attempt, claim_path, exit_path
from xautolm_hpc.records import from_json, to_json
from xautolm_hpc.submit.wrapper import describe_claim, run_member, slurm_job_id

CALL = "import sys; from xautolm_hpc.submit.wrapper import run_member; run_member(sys.argv[1]{0})"
LOCAL = ", int(sys.argv[2]), job_id=sys.argv[3]"
PACKAGE_PARENT = str(Path(__file__).resolve().parents[2])

LISTEN = """
import os, signal, sys, time
attempt_dir = sys.argv[-1]
def checkpoint(number, frame):
    open(attempt_dir + "/heard", "a").write("x")
    os._exit(85)
signal.signal(signal.SIGUSR1, checkpoint)
open(attempt_dir + "/ready", "w").close()
while True: time.sleep(0.02)
"""


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def start_wrapper(
    folder: Path, attempt_dir: Path, *, job_id: str = "job-1", slurm: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Start a wrapper as the local launcher would, or as Slurm would where its variables are given."""
    members_path = str(submission_of(folder / "submission", attempt_dir).folder / "members.json")
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": PACKAGE_PARENT, **(slurm or {})}
    arguments = [members_path] if slurm else [members_path, "0", job_id]
    call = CALL.format("" if slurm else LOCAL)
    return subprocess.Popen([sys.executable, "-c", call, *arguments], env=environ, stderr=subprocess.PIPE)


def run_wrapper(
    folder: Path, attempt_dir: Path, *, job_id: str = "job-1", slurm: Mapping[str, str] | None = None
) -> None:
    process = start_wrapper(folder, attempt_dir, job_id=job_id, slurm=slurm)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()


def exit_of(attempt_dir: Path, restart: int = 0) -> Exit:
    return from_json(Exit, read_json(exit_path(attempt_dir, restart)), where="exit")


def pid_in(attempt_dir: Path, name: str = "pid") -> int:
    path = attempt_dir / name
    wait_until(lambda: path.exists() and path.read_text() != "", what=f"the worker writes {name}")
    return int(path.read_text())


def test_a_worker_runs_with_its_own_environment_alone(tmp_path: Path) -> None:
    worker = "import os\nfor name in sorted(os.environ): print(name)\nprint(open('/proc/self/status').read())"
    environment = {"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"}
    attempt_dir = make_attempt(tmp_path / "a", worker, environment=environment)

    run_wrapper(tmp_path, attempt_dir)

    printed = (attempt_dir / "stdout").read_text()
    names = [line for line in printed.splitlines() if ":" not in line and line]
    assert set(names) - {"LC_CTYPE"} == {"PATH", "HF_HUB_OFFLINE"}
    assert "Umask:\t0077" in printed
    assert stat.S_IMODE((attempt_dir / "stdout").stat().st_mode) == 0o600
    assert exit_of(attempt_dir).returncode == 0
    assert (exit_of(attempt_dir).peak_rss_bytes or 0) > 2**20


@pytest.mark.parametrize("put", [os.mkfifo, lambda path: path.symlink_to(path.with_name("of-the-user"))])
def test_a_worker_writes_through_no_link_or_pipe_in_the_place_of_its_log(
    tmp_path: Path, put: Callable[[Path], object]
) -> None:
    attempt_dir = make_attempt(tmp_path / "a", "print('written')")
    (attempt_dir / "of-the-user").write_text("kept")
    put(attempt_dir / "stdout")

    run_wrapper(tmp_path, attempt_dir)

    ended = exit_of(attempt_dir)
    assert (ended.returncode, ended.ended_by) == (None, "launch_failure")
    assert (attempt_dir / "of-the-user").read_text() == "kept"


def test_a_slurm_job_passes_its_variables_and_gpus_on_but_no_credential(tmp_path: Path) -> None:
    worker = "import os\nfor name, value in os.environ.items(): print(name, value)"
    attempt_dir = make_attempt(tmp_path / "a", worker, enforce_limits=False)
    slurm = {
        "SLURM_JOB_ID": "77",
        "SLURM_ARRAY_JOB_ID": "70",
        "SLURM_ARRAY_TASK_ID": "0",
        "SLURM_JWT": "planted",
        "CUDA_VISIBLE_DEVICES": "GPU-1",
    }

    run_wrapper(tmp_path, attempt_dir, slurm=slurm)

    printed = (attempt_dir / "stdout").read_text()
    assert "SLURM_JOB_ID 77" in printed
    assert "CUDA_VISIBLE_DEVICES GPU-1" in printed
    assert "planted" not in printed
    assert read_json(claim_path(attempt_dir, 0))["job_id"] == "70_0"


def test_an_attempt_of_another_job_is_left_alone(tmp_path: Path) -> None:
    attempt_dir = make_attempt(tmp_path / "a")
    assert claim_attempt(attempt_dir, describe_claim("first", 0))
    before = sorted(attempt_dir.iterdir())

    run_wrapper(tmp_path, attempt_dir, job_id="second")

    assert sorted(attempt_dir.iterdir()) == before


def test_another_node_of_a_job_whose_attempt_is_another_jobs_runs_nothing(tmp_path: Path) -> None:
    attempt_dir = make_attempt(tmp_path / "a", WRITE_PID)
    assert claim_attempt(attempt_dir, describe_claim("first", 0))
    before = sorted(attempt_dir.iterdir())

    run_wrapper(tmp_path, attempt_dir, slurm={"SLURM_JOB_ID": "2", "SLURM_NODEID": "1"})

    assert sorted(attempt_dir.iterdir()) == before


def test_the_same_job_id_runs_once_and_again_only_after_a_requeue(tmp_path: Path) -> None:
    attempt_dir = make_attempt(tmp_path / "a")

    claims = [claim_attempt(attempt_dir, describe_claim("7_0", restart)) for restart in (0, 0, 1, 1)]
    other = claim_attempt(attempt_dir, describe_claim("8_0", 2))

    assert claims == [True, False, True, False]
    assert not other
    assert not claim_path(attempt_dir, 2).exists()


def test_of_two_jobs_that_claim_at_the_same_moment_with_different_restarts_none_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt_dir = make_attempt(tmp_path / "a")

    def create_after_the_other(path: Path, content: Any) -> bool:
        create_json(claim_path(attempt_dir, 1), to_json(describe_claim("8_0", 1)))
        return create_json(path, content)

    monkeypatch.setattr(jobdir, "create_json", create_after_the_other)

    assert not claim_attempt(attempt_dir, describe_claim("7_0", 0))
    assert not claim_attempt(attempt_dir, describe_claim("8_0", 1))


@pytest.mark.parametrize("name", [OUTCOME, VERDICT])
def test_an_attempt_that_ended_is_not_run_again(tmp_path: Path, name: str) -> None:
    attempt_dir = make_attempt(tmp_path / "a", WRITE_PID)
    (attempt_dir / name).write_text("{}")

    run_wrapper(tmp_path, attempt_dir)

    assert not (attempt_dir / "pid").exists()
    assert not claim_path(attempt_dir, 0).exists()


def test_of_20_claims_at_once_one_wins(tmp_path: Path) -> None:
    attempt_dir = make_attempt(tmp_path / "a")
    read_end, write_end = os.pipe()

    children = []
    for number in range(20):
        child = os.fork()
        if child == 0:
            os.close(write_end)
            os.read(read_end, 1)  # until the parent lets all go at once
            os._exit(0 if claim_attempt(attempt_dir, describe_claim(f"job-{number}", 0)) else 1)
        children.append(child)
    os.close(write_end)
    won = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 for child in children]
    os.close(read_end)

    assert sum(won) == 1
    assert read_json(claim_path(attempt_dir, 0))["job_id"] == f"job-{won.index(True)}"


def test_a_worker_over_its_wall_time_is_ended_with_its_children(tmp_path: Path) -> None:
    worker = WRITE_PID + "import subprocess\nchild = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
    worker += "open(sys.argv[-1] + '/child', 'w').write(str(child.pid))\n" + SLEEP
    attempt_dir = make_attempt(tmp_path / "a", worker, wall_limit_s=1.5)

    run_wrapper(tmp_path, attempt_dir)

    ended = exit_of(attempt_dir)
    assert (ended.ended_by, ended.returncode) == ("time_limit", -signal.SIGTERM)
    assert ended.message is not None
    assert "its limit was 1.5 s" in ended.message
    assert not is_running(pid_in(attempt_dir))
    assert not is_running(pid_in(attempt_dir, "child"))


def test_a_worker_over_its_memory_is_killed(tmp_path: Path) -> None:
    attempt_dir = make_attempt(tmp_path / "a", "held = b'x' * 200_000_000\n" + SLEEP, memory_bytes=100_000_000)

    run_wrapper(tmp_path, attempt_dir)

    ended = exit_of(attempt_dir)
    assert (ended.ended_by, ended.returncode) == ("host_oom", -signal.SIGKILL)
    assert (ended.peak_rss_bytes or 0) > 200_000_000


def test_a_child_that_outlives_its_worker_is_killed(tmp_path: Path) -> None:
    worker = "import subprocess, sys\nchild = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
    worker += "open(sys.argv[-1] + '/pid', 'w').write(str(child.pid))\n"
    attempt_dir = make_attempt(tmp_path / "a", worker)

    run_wrapper(tmp_path, attempt_dir)

    assert exit_of(attempt_dir).returncode == 0
    assert not is_running(pid_in(attempt_dir))


@pytest.mark.parametrize(
    ("argv", "words"),
    [(("/no/such/python", "-m", "x"), "No such file or directory"), (("/etc/passwd",), "Permission denied")],
)
def test_a_worker_that_cannot_be_started_is_a_launch_failure(tmp_path: Path, argv: tuple[str, ...], words: str) -> None:
    attempt_dir = make_attempt(tmp_path / "a", argv=argv)

    run_wrapper(tmp_path, attempt_dir)

    ended = exit_of(attempt_dir)
    assert (ended.ended_by, ended.returncode) == ("launch_failure", None)
    assert words in (ended.message or "")


def test_a_damaged_command_is_a_launch_failure(tmp_path: Path) -> None:
    attempt_dir = make_attempt(tmp_path / "a")
    write_json(attempt_dir / COMMAND, {"argv": 3})

    run_wrapper(tmp_path, attempt_dir)

    assert exit_of(attempt_dir).ended_by == "launch_failure"
    assert "command.json" in (exit_of(attempt_dir).message or "")


def test_a_signal_is_held_until_the_worker_listens(tmp_path: Path, started: list["subprocess.Popen[bytes]"]) -> None:
    late = "import time\nwhile not os.path.exists(sys.argv[-1] + '/go'): time.sleep(0.02)\ntime.sleep(0.3)\n"
    attempt_dir = make_attempt(tmp_path / "a", WRITE_PID + late + LISTEN)
    (attempt_dir / "ready").touch()  # left by the run before a requeue; must not count
    wrapper = start_wrapper(tmp_path, attempt_dir)
    started.append(wrapper)
    pid_in(attempt_dir)

    wrapper.send_signal(signal.SIGUSR2)
    (attempt_dir / "go").touch()
    wrapper.wait(30)

    assert (attempt_dir / "heard").read_text() == "x"
    assert (exit_of(attempt_dir).returncode, exit_of(attempt_dir).ended_by) == (85, None)


def test_a_local_job_told_to_end_is_cancelled_and_its_deaf_worker_killed(
    tmp_path: Path, started: list["subprocess.Popen[bytes]"]
) -> None:
    worker = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WRITE_PID + SLEEP
    attempt_dir = make_attempt(tmp_path / "a", worker)
    wrapper = start_wrapper(tmp_path, attempt_dir)
    started.append(wrapper)
    pid = pid_in(attempt_dir)

    wrapper.send_signal(signal.SIGTERM)
    wrapper.wait(10)

    assert (exit_of(attempt_dir).ended_by, exit_of(attempt_dir).returncode) == ("cancelled", -signal.SIGKILL)
    assert not is_running(pid)


def test_a_worker_dies_with_its_wrapper(tmp_path: Path, started: list["subprocess.Popen[bytes]"]) -> None:
    attempt_dir = make_attempt(tmp_path / "a", WRITE_PID + SLEEP)
    wrapper = start_wrapper(tmp_path, attempt_dir)
    started.append(wrapper)
    pid = pid_in(attempt_dir)

    wrapper.kill()

    wait_until(lambda: not is_running(pid), what="the worker dies")


@pytest.fixture
def scontrol_log(tmp_path: Path) -> Path:
    """Put a scontrol on PATH that writes down what it is asked."""
    program, log = tmp_path / "bin" / "scontrol", tmp_path / "scontrol.log"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
    program.chmod(0o700)
    return log


def slurm_variables(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"SLURM_JOB_ID": "9", "PATH": f"{tmp_path}/bin:/usr/bin:/bin", **more}


def test_the_end_of_a_slurm_jobs_time_is_seen_and_a_checkpointed_job_requeued(
    tmp_path: Path, scontrol_log: Path
) -> None:
    attempt_dir = make_attempt(tmp_path / "a", LISTEN, enforce_limits=False)

    run_wrapper(tmp_path, attempt_dir, slurm=slurm_variables(tmp_path, SLURM_JOB_END_TIME="1"))

    assert exit_of(attempt_dir).returncode == 85
    assert scontrol_log.read_text() == "requeue 9\n"


@pytest.mark.parametrize(("worker", "n_asked"), [("", 0), ("import time; time.sleep(9)", 1)])
def test_an_older_slurm_is_asked_once_when_time_ends_and_never_by_a_worker_that_ends_at_once(
    tmp_path: Path, scontrol_log: Path, worker: str, n_asked: int
) -> None:
    log = tmp_path / "squeue.log"
    squeue = scontrol_log.parent / "bin" / "squeue"
    squeue.write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
    squeue.chmod(0o700)
    attempt_dir = make_attempt(tmp_path / "a", worker, enforce_limits=False)

    run_wrapper(tmp_path, attempt_dir, slurm=slurm_variables(tmp_path))

    assert exit_of(attempt_dir).returncode == 0
    assert len(log.read_text().splitlines() if log.exists() else []) == n_asked


def test_a_job_that_was_restarted_often_is_not_requeued_again(tmp_path: Path, scontrol_log: Path) -> None:
    attempt_dir = make_attempt(tmp_path / "a", LISTEN, enforce_limits=False)
    slurm = slurm_variables(tmp_path, SLURM_JOB_END_TIME="1", SLURM_RESTART_COUNT="4")

    run_wrapper(tmp_path, attempt_dir, slurm=slurm)

    assert exit_of(attempt_dir, 4).returncode == 85
    assert not scontrol_log.exists()


def test_a_preempted_slurm_job_checkpoints_and_leaves_the_requeue_to_slurm(
    tmp_path: Path, scontrol_log: Path, started: list["subprocess.Popen[bytes]"]
) -> None:
    attempt_dir = make_attempt(tmp_path / "a", LISTEN, enforce_limits=False)
    wrapper = start_wrapper(tmp_path, attempt_dir, slurm=slurm_variables(tmp_path))
    started.append(wrapper)
    wait_until(lambda: (attempt_dir / "ready").exists(), what="the worker listens")

    wrapper.send_signal(signal.SIGTERM)
    wrapper.wait(30)

    assert (exit_of(attempt_dir).returncode, exit_of(attempt_dir).ended_by) == (85, None)
    assert not scontrol_log.exists()


def test_a_place_that_is_not_in_the_submission_is_refused(tmp_path: Path) -> None:
    attempt_dir = make_attempt(tmp_path / "a")
    submission = submission_of(tmp_path / "submission", attempt_dir)
    call = CALL.format(LOCAL)

    completed = subprocess.run(
        [sys.executable, "-c", call, str(submission.folder / "members.json"), "3", "job-1"],
        env={"PYTHONPATH": PACKAGE_PARENT},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "has 1 places, no place 3" in completed.stderr


def test_a_wrapper_outside_any_job_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(InputError, match="no job id: neither given nor SLURM_JOB_ID set"):
        slurm_job_id()


def test_the_pickled_call_is_named_by_its_module() -> None:
    assert f"{run_member.__module__}.{run_member.__qualname__}" == "xautolm_hpc.submit.wrapper.run_member"
