"""Several trials in one worker: the end of one does not reach the others, and no two jobs run the same one."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.nouns import claim
from tests.train.attempts import command
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.jobdir import (
    CHECKPOINT_EXIT_STATUS,
    COMMAND,
    OUTCOME,
    VERDICT,
    Claim,
    Command,
    Exit,
    claim_attempt,
    claim_path,
    exit_path,
    restarts,
    write_members,
)
from xautolm_hpc.node import PR_SET_CHILD_SUBREAPER, process_started, set_process_option
from xautolm_hpc.records import from_json, to_json
from xautolm_hpc.train.series import run_series
from xautolm_hpc.train.series.card_memory import CardMemory, CardReading
from xautolm_hpc.train.stop import StopFlag

LIMITS = command(time_limit_s=60.0, wall_limit_s=60.0, n_threads=1)
JOB = claim(job_id="7_0", claimed_at=1.0)
NO_CARDS = CardMemory(list)


@pytest.fixture(autouse=True)
def keeps_orphans_to_themselves() -> Iterator[None]:
    """Undo that a worker, here the tests' own process, becomes the parent of orphans."""
    yield
    set_process_option(PR_SET_CHILD_SUBREAPER, 0)


def make_trials(folder: Path, n: int, limits: Command = LIMITS) -> list[Path]:
    """Write attempts that wait for a job."""
    dirs = [folder / f"trial-{i}" for i in range(n)]
    for path in dirs:
        path.mkdir(parents=True)
        write_json(path / COMMAND, to_json(limits))
    return dirs


def run_job(
    folder: Path,
    dirs: Sequence[Path],
    run_one: Callable[[Path], int],
    *,
    job: Claim = JOB,
    stop: StopFlag | None = None,
    cards: CardMemory = NO_CARDS,
) -> int:
    """Run trials in a job that its wrapper has claimed."""
    if not restarts_of(folder):
        write_members(folder, dirs)
    write_json(claim_path(folder, job.restart), to_json(job))
    return run_series(folder, run_one, stop=stop or StopFlag(), cards=cards, prepare=lambda: None)


def restarts_of(folder: Path) -> list[int]:
    """List the restarts of a job that may not be there yet."""
    return restarts(folder) if folder.is_dir() else []


def read_exit(path: Path, restart: int = 0) -> Exit:
    """Read how a trial's process ended."""
    return from_json(Exit, read_json(exit_path(path, restart)), where=str(path))


def read_claim(path: Path, restart: int = 0) -> Claim:
    """Read who runs a trial."""
    return from_json(Claim, read_json(claim_path(path, restart)), where=str(path))


def succeed(attempt_dir: Path) -> int:
    """End a trial well, and leave a trace of each time that it runs."""
    with (attempt_dir / "runs").open("a") as file:
        file.write("x")
    (attempt_dir / OUTCOME).touch()
    return 0


def n_runs(path: Path) -> int:
    """Count how often a trial ran."""
    return len((path / "runs").read_text()) if (path / "runs").exists() else 0


def test_a_trial_that_crashes_ends_no_other(tmp_path: Path) -> None:
    dirs = make_trials(tmp_path, 4)

    def run_one(attempt_dir: Path) -> int:
        os.write(1, f"from {attempt_dir.name}\n".encode())
        if attempt_dir.name == "trial-1":
            os.kill(os.getpid(), signal.SIGKILL)
        if attempt_dir.name == "trial-2":
            raise ValueError("broken")
        (attempt_dir / OUTCOME).write_text(str(os.getpid()))
        return 0

    status = run_job(tmp_path / "job", dirs, run_one)

    assert status == 0
    assert [read_exit(path).returncode for path in dirs] == [0, -signal.SIGKILL, 1, 0]
    assert "ValueError: broken" in (dirs[2] / "stderr").read_text()
    assert (dirs[3] / "stdout").read_text() == "from trial-3\n"
    pids = {(path / OUTCOME).read_text() for path in (dirs[0], dirs[3])}
    assert len(pids) == 2
    assert str(os.getpid()) not in pids


def test_a_trial_is_claimed_for_its_job_before_its_process_is_forked(tmp_path: Path) -> None:
    dirs = make_trials(tmp_path, 2)

    def run_one(attempt_dir: Path) -> int:
        return 0 if claim_path(attempt_dir, 0).exists() else 9

    run_job(tmp_path / "job", dirs, run_one)

    claims = [read_claim(path) for path in dirs]
    assert [read_exit(path).returncode for path in dirs] == [0, 0]
    assert {made.job_id for made in claims} == {JOB.job_id}
    assert {made.pid for made in claims} == {JOB.pid}  # of the wrapper, by a number that holds outside an image, too
    assert {made.job_started_at for made in claims} == {JOB.claimed_at}
    assert JOB.claimed_at < claims[0].claimed_at <= claims[1].claimed_at


def test_a_driver_of_an_earlier_version_reads_the_claims(tmp_path: Path) -> None:
    dirs = make_trials(tmp_path, 1)
    write_members(tmp_path / "job", dirs)
    write_json(claim_path(tmp_path / "job", 0), to_json(JOB))

    run_series(tmp_path / "job", succeed, stop=StopFlag(), cards=NO_CARDS, prepare=lambda: None, reader=2)

    assert "job_started_at" not in read_json(claim_path(dirs[0], 0))


@pytest.mark.parametrize(
    ("limits", "ended_by"),
    [
        ({"wall_limit_s": 0.5}, "time_limit"),
        ({"wall_limit_s": 0.5, "enforce_limits": False}, "wall_limit"),
        ({"memory_bytes": 2**20}, "host_oom"),
    ],
)
def test_the_limits_of_a_trial_are_enforced(tmp_path: Path, limits: Mapping[str, Any], ended_by: str) -> None:
    dirs = make_trials(tmp_path, 2, replace(LIMITS, **limits))

    def run_one(attempt_dir: Path) -> int:
        if attempt_dir.name == "trial-0":
            signal.pause()
        return 0

    run_job(tmp_path / "job", dirs, run_one)

    first = read_exit(dirs[0])
    assert (first.returncode, first.ended_by) == (-signal.SIGKILL, ended_by)
    assert "limit was" in str(first.message)
    assert read_exit(dirs[1]).ended_by in (None, "host_oom")


@pytest.mark.parametrize("leaves_group", [False, True])
def test_what_a_trial_leaves_behind_is_dead_before_the_next_begins(tmp_path: Path, leaves_group: bool) -> None:
    dirs = make_trials(tmp_path, 2)

    def run_one(attempt_dir: Path) -> int:
        if attempt_dir.name == "trial-0":
            left = os.fork()
            if left == 0:
                if leaves_group:
                    os.setsid()
                signal.pause()
            while leaves_group and os.getsid(left) != left:
                time.sleep(0.01)
            (tmp_path / "left").write_text(str(left))
            return 0
        return 0 if process_started(int((tmp_path / "left").read_text())) is None else 9

    run_job(tmp_path / "job", dirs, run_one)

    assert [read_exit(path).returncode for path in dirs] == [0, 0]


def test_a_trial_dies_with_the_worker_that_forked_it(tmp_path: Path) -> None:
    dirs = make_trials(tmp_path, 1)
    read_end, write_end = os.pipe()

    def run_one(attempt_dir: Path) -> int:
        (attempt_dir / "begun").touch()
        signal.pause()
        return 0

    worker = os.fork()
    if worker == 0:
        run_job(tmp_path / "job", dirs, run_one)
        os._exit(0)
    os.close(write_end)
    while not (dirs[0] / "begun").exists():
        os.sched_yield()
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)

    assert os.read(read_end, 1) == b""  # both have closed their ends: neither lives
    assert not exit_path(dirs[0], 0).exists()


@pytest.mark.parametrize("ended", [OUTCOME, VERDICT])
def test_what_has_ended_is_left_alone(tmp_path: Path, ended: str) -> None:
    dirs = make_trials(tmp_path, 3)
    (dirs[0] / ended).write_text("ended")

    run_job(tmp_path / "job", dirs, succeed)

    assert [n_runs(path) for path in dirs] == [0, 1, 1]
    assert (dirs[0] / ended).read_text() == "ended"


def test_a_folder_that_is_gone_is_passed_over(tmp_path: Path) -> None:
    dirs = make_trials(tmp_path, 3)
    (dirs[1] / COMMAND).unlink()
    dirs[1].rmdir()

    status = run_job(tmp_path / "job", dirs, succeed)

    assert status == 0
    assert [n_runs(path) for path in (dirs[0], dirs[2])] == [1, 1]


class WhenThere(StopFlag):
    """Is set once a file is there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def requested(self) -> bool:
        return self.path.exists()

    @requested.setter
    def requested(self, value: bool) -> None:
        del value


def test_a_job_that_is_asked_to_stop_passes_it_on_and_begins_no_further_trial(tmp_path: Path) -> None:
    dirs = make_trials(tmp_path, 2)

    def run_one(attempt_dir: Path) -> int:
        signal.signal(signal.SIGUSR1, lambda number, frame: os._exit(CHECKPOINT_EXIT_STATUS))
        (attempt_dir / "begun").touch()
        signal.pause()
        return 0

    status = run_job(tmp_path / "job", dirs, run_one, stop=WhenThere(dirs[0] / "begun"))

    assert status == CHECKPOINT_EXIT_STATUS
    assert restarts(dirs[1]) == []


def test_a_job_asked_to_stop_at_its_last_trial_has_nothing_to_go_on_with(tmp_path: Path) -> None:
    dirs = make_trials(tmp_path, 2)

    status = run_job(tmp_path / "job", dirs, succeed, stop=WhenThere(dirs[1] / OUTCOME))

    assert status == 0
    assert [n_runs(path) for path in dirs] == [1, 1]


def test_a_job_put_back_into_the_queue_goes_on_with_what_it_had_not_ended(tmp_path: Path) -> None:
    dirs = make_trials(tmp_path, 4)

    def crash_then_stop(attempt_dir: Path) -> int:
        if attempt_dir.name == "trial-1":
            return 3
        if attempt_dir.name == "trial-2":
            (tmp_path / "stop").touch()
            return CHECKPOINT_EXIT_STATUS
        return succeed(attempt_dir)

    first = run_job(tmp_path / "job", dirs, crash_then_stop, stop=WhenThere(tmp_path / "stop"))
    second = run_job(tmp_path / "job", dirs, succeed, job=replace(JOB, restart=1, claimed_at=50.0))

    assert (first, second) == (CHECKPOINT_EXIT_STATUS, 0)
    assert [n_runs(path) for path in dirs] == [1, 0, 1, 1]
    assert [restarts(path) for path in dirs] == [[0], [0], [0, 1], [1]]
    assert read_claim(dirs[2], 1).job_started_at == 50.0


def test_a_trial_killed_with_its_job_has_not_ended_and_runs_again_after_the_requeue(tmp_path: Path) -> None:
    dirs = make_trials(tmp_path, 2)

    def be_killed(attempt_dir: Path) -> int:
        (tmp_path / "stop").touch()
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    def wait(attempt_dir: Path) -> int:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        return be_killed(attempt_dir)

    first = run_job(tmp_path / "job", dirs, wait, stop=WhenThere(tmp_path / "stop"))
    left = exit_path(dirs[0], 0).exists()
    second = run_job(tmp_path / "job", dirs, succeed, job=replace(JOB, restart=1))

    assert (first, left, second) == (CHECKPOINT_EXIT_STATUS, False, 0)
    assert [n_runs(path) for path in dirs] == [1, 1]


def test_a_trial_cut_short_with_its_node_runs_again_after_the_requeue(tmp_path: Path) -> None:
    dirs = make_trials(tmp_path, 2)
    assert claim_attempt(dirs[0], JOB)

    run_job(tmp_path / "job", dirs, succeed, job=replace(JOB, restart=1))

    assert [n_runs(path) for path in dirs] == [1, 1]


def test_memory_of_a_gpu_that_is_not_given_back_ends_the_job_and_leaves_the_rest(tmp_path: Path) -> None:
    dirs = make_trials(tmp_path, 3)
    seconds = [0.0]

    def read() -> list[CardReading]:
        held = 90 if n_runs(dirs[1]) else 1
        return [CardReading(uuid="GPU-1", memory_bytes=100, used_bytes=held, pids=None)]

    def sleep(pause_s: float) -> None:
        seconds[0] += pause_s

    cards = CardMemory(read, now=lambda: seconds[0], sleep=sleep)

    status = run_job(tmp_path / "job", dirs, succeed, cards=cards)

    assert status == 0
    assert [n_runs(path) for path in dirs] == [1, 1, 0]
    assert restarts(dirs[2]) == []
    assert 30.0 <= seconds[0] <= 31.0


Marks = st.lists(st.sampled_from(["free", "ours", "theirs", "ended"]), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(marks=Marks, restart=st.integers(0, 3), theirs=st.integers(0, 3))
def test_a_job_runs_what_no_other_job_has_claimed_under_any_restart_count(
    marks: list[str], restart: int, theirs: int
) -> None:
    with TemporaryDirectory() as name:
        dirs = make_trials(Path(name), len(marks))
        for path, mark in zip(dirs, marks, strict=True):
            if mark == "theirs":
                assert claim_attempt(path, replace(JOB, job_id="8_0", restart=theirs))
            if mark == "ours" and restart:
                assert claim_attempt(path, replace(JOB, restart=restart - 1))
            if mark == "ended":
                (path / OUTCOME).touch()

        run_job(Path(name) / "job", dirs, succeed, job=replace(JOB, restart=restart))

        assert [n_runs(path) for path in dirs] == [int(mark in ("free", "ours")) for mark in marks]


@pytest.mark.parametrize("restart", [0, 1], ids=["of one restart count", "of two restart counts"])
def test_two_jobs_with_the_same_trials_run_none_of_them_twice(tmp_path: Path, restart: int) -> None:
    dirs = make_trials(tmp_path, 30)
    jobs = [JOB, replace(JOB, job_id="8_0", restart=restart)]
    go = tmp_path / "go"

    def run(job: Claim, members: Sequence[Path]) -> int:
        pid = os.fork()
        if pid == 0:
            while not go.exists():
                os.sched_yield()
            os._exit(run_job(tmp_path / f"job-{job.job_id}", members, succeed, job=job))
        return pid

    workers = [run(jobs[0], dirs), run(jobs[1], dirs[::-1])]
    go.touch()
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in workers]

    runs = [n_runs(path) for path in dirs]
    assert statuses == [0, 0]
    assert max(runs) == 1
    assert all(len(restarts(path)) == 2 for path, n in zip(dirs, runs, strict=True) if n == 0)  # neither dares to
    assert sum(runs) >= len(dirs) - 1
