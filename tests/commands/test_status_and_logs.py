"""``status``, ``logs`` and ``cancel`` of a run whose driver is gone, on this machine."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands.left_run import leave_run
from tests.driving import search_in
from tests.fakes import failed_end, stub_end
from xautolm_hpc import cli
from xautolm_hpc.durable import create_json
from xautolm_hpc.jobdir import OUTCOME
from xautolm_hpc.records import to_json
from xautolm_hpc.run.folder import RunDir

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    """Return a run of 4 trials whose driver left while all of them waited."""
    return leave_run(tmp_path)


@pytest.fixture
def command(run_dir: RunDir, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs a command on that run: exit status, stdout, stderr."""

    def call(verb: str, *arguments: str) -> tuple[int, str, str]:
        status = cli.main([verb, str(run_dir.path), *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def attempt_dir(run_dir: RunDir, trial: int) -> Path:
    return run_dir.attempt_dir(0, trial, attempt=0)


def test_status_says_that_no_driver_is_running_and_what_waits(command: Command) -> None:
    status, printed, _ = command("status")

    assert status == 0
    assert "no driver is running; `run` resumes it" in " ".join(printed.split())
    assert printed.count("PENDING") == 4


def test_status_counts_what_no_driver_has_gathered(command: Command, run_dir: RunDir) -> None:
    ends = [failed_end("gpu_oom"), stub_end(attempt_dir(run_dir, 1), one_oom_in=10**9)]
    for trial, end in enumerate(ends):
        create_json(attempt_dir(run_dir, trial) / OUTCOME, to_json(end))

    view = json.loads(command("status", "--json")[1])

    assert (view["n_succeeded"], view["n_failed"]) == (1, 1)
    assert view["best"]["trial"] == 1
    assert [trial["state"] for trial in view["trials"]] == ["FAILED", "SUCCEEDED", "PENDING", "PENDING"]


def test_watching_a_run_that_ends_ends(command: Command, run_dir: RunDir) -> None:
    for trial in range(4):
        create_json(attempt_dir(run_dir, trial) / OUTCOME, to_json(failed_end("diverged")))

    status, printed, _ = command("status", "--watch")

    assert status == 0
    assert printed.count("FAILED") == 4


def test_status_of_a_search_that_ended_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search_in(tmp_path)

    assert cli.main(["status", "fake", "--runs-dir", str(tmp_path / "runs"), "--json"]) == 0

    view = json.loads(capsys.readouterr().out)
    assert (view["phase"], view["note"]) == ("done", "budget used: generations 3 of 3")


def test_logs_print_both_files_and_how_the_attempt_ended(command: Command, run_dir: RunDir) -> None:
    (attempt_dir(run_dir, 2) / "stdout").write_text("to stdout\n")
    (attempt_dir(run_dir, 2) / "stderr").write_text("to stderr \x1b[2J\n")
    create_json(attempt_dir(run_dir, 2) / OUTCOME, to_json(failed_end("gpu_oom")))

    status, printed, complaint = command("logs", "2", "--follow")

    assert (status, printed) == (0, "to stdout\nto stderr \\x1b[2J\n")
    assert complaint == "logs: ended: failed, gpu_oom (pipeline)\n"


def test_logs_of_a_worker_without_output_show_the_launchers(command: Command, run_dir: RunDir) -> None:
    log_path = run_dir.submission_dir(0, 0) / "7_3_0_log.err"
    log_path.write_text("slurmstepd: error: execve(): No such file or directory\n")

    status, printed, complaint = command("logs", "3")

    assert status == 0
    assert "no output yet" in complaint
    assert printed == "slurmstepd: error: execve(): No such file or directory\n"


def test_logs_of_the_runs_first_job(command: Command, run_dir: RunDir) -> None:
    (run_dir.profile_attempt_dir(0) / "stderr").write_text("profile: read 481 rows\n")

    assert command("logs", "profile")[1] == "profile: read 481 rows\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["9"], "has no trial 9; trials: 0 to 3"),
        (["nine"], "trial 'nine': expected a trial number, or profile for the profile job"),
        (["0", "--attempt", "1"], "trial 0 has no attempt 1; attempts: 0 to 0"),
    ],
)
def test_logs_of_what_is_not_there_name_what_is(command: Command, *, arguments: list[str], message: str) -> None:
    status, _, complaint = command("logs", *arguments)

    assert status == 2
    assert message in complaint
