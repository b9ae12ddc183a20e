"""A run seen by others than its driver: what lies on disk and what Slurm says, asked once."""

import json
import os
from pathlib import Path

import pytest

from tests import nouns
from tests.commands.left_run import leave_run
from tests.driving import end_attempt, make_setup
from tests.fakes import JOB, FakeLauncher, end_with, failed_end, stub_end
from tests.submit.fake_slurm import FakeSlurm
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.durable import create_json, write_json
from xautolm_hpc.errors import InterruptedSearchError
from xautolm_hpc.jobdir import MEMBERS, OUTCOME, WEIGHTS, End, claim_path, write_members
from xautolm_hpc.node import boot_id, node_name, process_started
from xautolm_hpc.records import to_json
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.inspect import inspect_run, open_submissions


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    """Return a run of 4 trials whose driver left while all of them waited."""
    return leave_run(tmp_path)


def attempt_dir(run_dir: RunDir, trial: int) -> Path:
    return run_dir.attempt_dir(0, trial, attempt=0)


def claim(path: Path, *, pid: int, pid_started: int) -> None:
    write_json(
        claim_path(path, 0),
        to_json(nouns.claim(job_id="1", node=node_name(), pid=pid, pid_started=pid_started, boot_id=boot_id())),
    )


def test_a_process_that_lives_runs_and_one_that_is_gone_is_not_believed(run_dir: RunDir) -> None:
    claim(attempt_dir(run_dir, 0), pid=os.getpid(), pid_started=process_started(os.getpid()) or 0)
    claim(attempt_dir(run_dir, 1), pid=os.getpid(), pid_started=1)

    snapshot = inspect_run(run_dir, slurm=None, stale_s=1.0)

    found = [snapshot.states[attempt_dir(run_dir, n)] for n in range(3)]
    states = [(state.state, state.reason) for state in found]
    assert states == [("RUNNING", ""), ("UNKNOWN", "its process is gone"), ("PENDING", "waits for a slot")]
    assert not snapshot.is_over


def test_an_end_that_no_driver_has_seen_counts(run_dir: RunDir) -> None:
    create_json(attempt_dir(run_dir, 2) / OUTCOME, to_json(stub_end(attempt_dir(run_dir, 2))))

    snapshot = inspect_run(run_dir, slurm=None, stale_s=1.0)

    assert snapshot.history.trials[2].last.end is not None
    assert attempt_dir(run_dir, 2) not in snapshot.states
    assert len(snapshot.states) == 3


def test_slurm_is_asked_once_by_name_and_its_reasons_are_passed_on(run_dir: RunDir, tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path)
    (name,) = open_submissions(inspect_run(run_dir, slurm=None, stale_s=1.0).history)
    slurm.set_job("7_0", name=name, state="RUNNING", node="n3")
    slurm.set_job("7_1", name=name, state="PENDING", reason="Priority")
    slurm.set_job("7_2", name=name, state="FAILED", **{"in": ["sacct"]})

    snapshot = inspect_run(run_dir, slurm=slurm.client(), stale_s=1.0)

    seen = [snapshot.states[attempt_dir(run_dir, n)] for n in range(4)]
    assert [(s.state, s.reason, s.source) for s in seen] == [
        ("RUNNING", "", "squeue"),
        ("PENDING", "Priority", "squeue"),
        ("FAILED", "", "sacct"),
        ("UNKNOWN", "squeue does not know it", "none"),
    ]
    assert seen[0].node == "n3"
    assert [call[0] for call in slurm.calls()] == ["squeue", "sacct"]


def test_trials_that_share_a_job_are_found_by_it_and_wait_for_their_turn(run_dir: RunDir, tmp_path: Path) -> None:
    slurm, groups_dir = FakeSlurm(tmp_path), run_dir.submission_dir(0, 0) / "groups"
    (name,) = open_submissions(inspect_run(run_dir, slurm=None, stale_s=1.0).history)
    groups = [groups_dir / f"group-{i}" for i in range(2)]
    write_members(groups_dir, groups)
    for i, group in enumerate(groups):
        write_members(group, [attempt_dir(run_dir, 2 * i), attempt_dir(run_dir, 2 * i + 1)])
    claim(attempt_dir(run_dir, 0), pid=1, pid_started=1)
    slurm.set_job("7_0", name=name, state="RUNNING", node="n3")
    slurm.set_job("7_1", name=name, state="PENDING", reason="Priority")

    snapshot = inspect_run(run_dir, slurm=slurm.client(), stale_s=1.0)

    seen = [snapshot.states[attempt_dir(run_dir, n)] for n in range(4)]
    assert [(s.state, s.reason) for s in seen] == [
        ("RUNNING", ""),
        ("PENDING", "waits for the trials before it in its job"),
        ("PENDING", "Priority"),
        ("PENDING", "Priority"),
    ]


def test_a_held_job_seen_from_outside_is_not_over(run_dir: RunDir, tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path)
    (name,) = open_submissions(inspect_run(run_dir, slurm=None, stale_s=1.0).history)
    slurm.set_job("7_0", name=name, state="REQUEUE_HOLD", reason="launch failed requeued held")
    for n in range(1, 4):
        slurm.set_job(f"7_{n}", name=name, state="FAILED")

    snapshot = inspect_run(run_dir, slurm=slurm.client(), stale_s=1.0)

    assert (snapshot.states[attempt_dir(run_dir, 0)].state, snapshot.is_over) == ("PENDING", False)


def test_a_silent_controller_is_no_end(run_dir: RunDir, tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path)
    slurm.answer("squeue", status=1)
    slurm.answer("sacct", status=1)

    snapshot = inspect_run(run_dir, slurm=slurm.client(), stale_s=1.0)

    (reason,) = {state.reason for state in snapshot.states.values()}
    assert reason.startswith("Slurm does not answer: no reason given; try again later")


def _leave_while_testing(folder: Path, launcher: FakeLauncher) -> RunDir:
    """Run a search whose driver is detached while its final job runs."""

    def n_interrupts() -> int:
        return 2 * any(submission.name.endswith("final-0") for submission in launcher.submissions)

    setup = make_setup(folder, launcher=launcher, n_interrupts=n_interrupts)
    with pytest.raises(InterruptedSearchError, match="detached"):
        run_search(setup)
    return setup.run_dir


def _end_with_weights(attempt_dir: Path) -> End | None:
    if (attempt_dir / MEMBERS).exists():
        return None
    (attempt_dir / WEIGHTS).write_bytes(b"weights")
    return end_attempt(attempt_dir)


def _claim_here(path: Path) -> None:
    claim(path, pid=os.getpid(), pid_started=process_started(os.getpid()) or 0)


def _without_paths(ledger_path: Path) -> None:
    """Rewrite a ledger as versions wrote it that did not name the folders of an intent."""
    lines = [json.loads(line) for line in ledger_path.read_text().splitlines()]
    for line in lines:
        for key in ("folder", "attempt_dirs"):
            line.pop(key, None)
    ledger_path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("is_old", [False, True])
def test_a_final_job_that_runs_is_seen_in_its_own_folder(tmp_path: Path, is_old: bool) -> None:
    run_dir = _leave_while_testing(tmp_path, FakeLauncher(_end_with_weights))
    final_dir = run_dir.path / "final" / "attempt-0"
    _claim_here(final_dir)
    if is_old:
        _without_paths(run_dir.ledger_path)

    snapshot = inspect_run(run_dir, slurm=None, stale_s=1.0)
    (name,) = (name for name in snapshot.history.submissions if name.endswith("-final-0"))

    assert {path: state.state for path, state in snapshot.states.items()} == {final_dir: "RUNNING"}
    assert not snapshot.is_over
    assert open_submissions(snapshot.history) == {name: {final_dir: None}}


@pytest.mark.parametrize("is_old", [False, True])
def test_nothing_is_left_of_a_run_whose_second_final_job_ended(tmp_path: Path, is_old: bool) -> None:
    run_dir = _leave_while_testing(tmp_path, FakeLauncher(_end_with_weights))
    (run_dir.path / "final" / "attempt-0" / JOB).unlink()
    first = run_dir.path / "final" / "attempt-0"
    create_json(first / OUTCOME, to_json(failed_end("error")))
    run_search(make_setup(tmp_path, launcher=FakeLauncher(_end_final)))
    if is_old:
        _without_paths(run_dir.ledger_path)

    snapshot = inspect_run(run_dir, slurm=None, stale_s=1.0)

    assert (run_dir.path / "final" / "attempt-1" / OUTCOME).exists()
    assert snapshot.states == {}
    assert snapshot.is_over


def _end_final(attempt_dir: Path) -> End | None:
    return end_with(nouns.succeeded(None)) if (attempt_dir / MEMBERS).exists() else end_attempt(attempt_dir)


def test_a_pool_whose_driver_is_gone_starts_nothing_more(run_dir: RunDir) -> None:
    snapshot = inspect_run(run_dir, slurm=None, stale_s=1.0)

    assert {state.state for state in snapshot.states.values()} == {"PENDING"}
    assert snapshot.is_over
