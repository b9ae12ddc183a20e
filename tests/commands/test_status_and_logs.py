"""``status``, ``logs`` and ``cancel`` of a run whose driver is gone, on this machine."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands.left_run import leave_run
from tests.driving import SEARCH, Notes, end_attempt, make_setup, search_in
from tests.fakes import FakeLauncher, end_with, failed_end, stub_end
from tests.nouns import claim, succeeded
from xautolm_hpc import cli
from xautolm_hpc.commands import logs
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.durable import create_json, write_json
from xautolm_hpc.errors import InterruptedSearchError
from xautolm_hpc.jobdir import OUTCOME, PROFILE, VERDICT, End, Exit, claim_path, exit_path, write_members
from xautolm_hpc.node import boot_id, node_name
from xautolm_hpc.records import to_json
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.lease import Lease

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


def test_attempts_that_cancel_ended_are_cancelled_and_not_failed(command: Command, run_dir: RunDir) -> None:
    for trial in (0, 1):
        create_json(attempt_dir(run_dir, trial) / OUTCOME, to_json(failed_end("cancelled")))
    run_dir.cancel_path.touch()

    view = json.loads(command("status", "--json")[1])
    status, _, error = command("logs", "0")

    assert (view["n_succeeded"], view["n_failed"]) == (0, 0)
    assert [trial["state"] for trial in view["trials"]] == ["CANCELLED"] * 4
    assert status == 0
    assert "ended: cancelled" in error
    assert "failed" not in error


def test_status_of_a_cancelled_run_calls_its_trials_so_and_no_time_runs(command: Command, run_dir: RunDir) -> None:
    begun = claim(node=node_name(), boot_id=boot_id(), claimed_at=1000.0)
    ended = Exit(returncode=-15, ended_by="cancelled", started_at=1000.0, ended_at=1060.0)
    for trial in (0, 1):
        write_json(claim_path(attempt_dir(run_dir, trial), 0), to_json(begun))
    write_json(exit_path(attempt_dir(run_dir, 0), 0), to_json(ended))
    run_dir.cancel_path.touch()

    view = json.loads(command("status", "--json")[1])

    assert [trial["state"] for trial in view["trials"]] == ["CANCELLED"] * 4
    assert {trial["reason"] for trial in view["trials"]} == {"the run was cancelled"}
    assert [trial["elapsed_s"] for trial in view["trials"]] == [60.0, None, None, None]


def _end_alike(attempt_dir: Path) -> End | None:
    """End every trial with the same F1, the later ones sooner."""
    if (attempt_dir / PROFILE).exists():
        return end_attempt(attempt_dir)
    seconds = 100.0 - int(attempt_dir.parent.name.removeprefix("trial-"))
    return end_with(succeeded(0.5, evaluation_time_s=seconds))


@pytest.mark.parametrize(("objectives", "best"), [('["f1"]', 0), ('["f1", "evaluation_time_s"]', 11)])
def test_a_tie_has_one_best_trial_in_report_status_and_live_view(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], objectives: str, best: int
) -> None:
    setup = make_setup(
        tmp_path,
        launcher=FakeLauncher(_end_alike),
        text=SEARCH.replace('objectives = ["f1"]', f"objectives = {objectives}"),
    )
    run_search(setup)
    runs = ["fake", "--runs-dir", str(tmp_path / "runs")]

    shown = []
    for verb in ("report", "status"):
        cli.main([verb, *runs, "--json"])
        shown.append(json.loads(capsys.readouterr().out))

    assert isinstance(setup.watcher, Notes)
    live = setup.watcher.views[-1].best
    assert [view["best"]["trial"] for view in shown] == [best, best]
    assert live is not None
    assert live.trial == best
    assert shown[0]["front"][0]["trial"] == best


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


def test_a_report_says_whether_a_driver_is_running_and_how_many_trials_are_not_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher = FakeLauncher(end_attempt)
    setup = make_setup(tmp_path, launcher=launcher, n_interrupts=lambda: 2 * (len(launcher.submissions) > 2))
    with pytest.raises(InterruptedSearchError, match="detached"):
        run_search(setup)
    page = setup.run_dir.report_dir / "report.html"
    as_written = page.read_text()

    said = []
    for is_driven in (False, True):
        if is_driven:
            Lease.acquire(setup.run_dir.path, stale_s=60.0)
        assert cli.main(["report", str(setup.run_dir.path), "--page"]) == 0
        said.append((" ".join(capsys.readouterr().out.split()), page.read_text()))

    left = (
        "not finished: no driver is running; the same `xautolm-hpc run` command goes on. This is as of generation 0; "
        "4 later trials are not in it"
    )
    driven = f"the search goes on; driver: pid {os.getpid()} on {node_name()}. This is as of generation 0; 4 later"
    assert "not finished when this was written, as of generation 0" in as_written
    for words, (printed, written) in zip((left, driven), said, strict=True):
        assert f"State {words}" in printed
        assert "Ended because" not in printed
        assert words in written


def test_logs_print_both_files_and_why_the_attempt_ended(command: Command, run_dir: RunDir) -> None:
    (attempt_dir(run_dir, 2) / "stdout").write_text("to stdout\n")
    (attempt_dir(run_dir, 2) / "stderr").write_text("to stderr \x1b[2J\n")
    end = failed_end("gpu_oom", message="Traceback\n  in step\nRuntimeError: CUDA out of memory")
    create_json(attempt_dir(run_dir, 2) / OUTCOME, to_json(end))

    status, printed, complaint = command("logs", "2", "--follow")

    assert (status, printed) == (0, "to stdout\nto stderr \\x1b[2J\n")
    assert complaint == "logs: ended: failed, gpu_oom (pipeline): RuntimeError: CUDA out of memory\n"


def test_logs_of_an_attempt_judged_by_its_traces_say_the_verdict_and_its_evidence(
    command: Command, run_dir: RunDir
) -> None:
    message = "the worker was ended from outside by SIGKILL\nloading weights\nstep 7"
    create_json(attempt_dir(run_dir, 1) / VERDICT, to_json(failed_end("lost", message=message)))
    log_path = run_dir.submission_dir(0, 0) / "7_1_0_log.err"
    log_path.write_text("slurmstepd: error: node fails\n")
    (run_dir.submission_dir(0, 0) / "7_3_0_log.err").write_text("of another attempt\n")

    status, printed, complaint = command("logs", "1")

    assert status == 0
    assert "ended: failed, lost (infrastructure): the worker was ended from outside by SIGKILL" in complaint
    assert printed == "slurmstepd: error: node fails\nloading weights\nstep 7\n"


def test_logs_of_an_attempt_without_a_verdict_say_how_its_worker_ended(command: Command, run_dir: RunDir) -> None:
    begun = claim(claimed_at=1000.0)
    write_json(claim_path(attempt_dir(run_dir, 1), 0), to_json(begun))
    ended = Exit(returncode=-9, ended_by="host_oom", started_at=1.0, ended_at=2.0, message="held 900 MiB of memory")
    write_json(exit_path(attempt_dir(run_dir, 1), 0), to_json(ended))

    assert "logs: its worker ended: host_oom: held 900 MiB of memory; no verdict yet\n" in command("logs", "1")[2]


def test_logs_of_a_worker_without_output_show_the_launchers(command: Command, run_dir: RunDir) -> None:
    log_path = run_dir.submission_dir(0, 0) / "7_3_0_log.err"
    log_path.write_text("slurmstepd: error: execve(): No such file or directory\n")

    status, printed, complaint = command("logs", "3")

    assert status == 0
    assert "no output yet" in complaint
    assert printed == "slurmstepd: error: execve(): No such file or directory\n"


def test_logs_of_a_trial_that_shares_a_job_show_those_of_the_job(command: Command, run_dir: RunDir) -> None:
    groups_dir = run_dir.submission_dir(0, 0) / "groups"
    groups = [groups_dir / f"group-{i}" for i in range(2)]
    write_members(groups_dir, groups)
    for i, group in enumerate(groups):
        write_members(group, [attempt_dir(run_dir, 2 * i), attempt_dir(run_dir, 2 * i + 1)])
        (groups_dir / f"7_{i}_0_log.err").write_text(f"slurmstepd: job {i}\n")
        (group / "stderr").write_text(f"worker of job {i}\n")

    assert command("logs", "3")[1] == "slurmstepd: job 1\nworker of job 1\n"


def test_logs_follow_no_link_and_wait_for_no_pipe(command: Command, run_dir: RunDir, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of somebody else\n")
    (attempt_dir(run_dir, 2) / "stdout").symlink_to(tmp_path / "secret")
    os.mkfifo(attempt_dir(run_dir, 2) / "stderr")
    (run_dir.submission_dir(0, 0) / "7_2_0_log.err").symlink_to(tmp_path / "secret")
    create_json(attempt_dir(run_dir, 2) / VERDICT, to_json(failed_end("lost", message="the node is gone")))

    status, printed, complaint = command("logs", "2", "--follow")

    assert (status, printed) == (0, "")
    assert [line for line in complaint.splitlines() if "left out" in line] == [
        f"logs: `{attempt_dir(run_dir, 2)}/stdout` is a link, which is not followed: left out",
        f"logs: `{attempt_dir(run_dir, 2)}/stderr` is no regular file: left out",
        f"logs: `{run_dir.submission_dir(0, 0)}/7_2_0_log.err` is a link, which is not followed: left out",
    ]


def test_of_a_huge_log_its_end_is_printed(command: Command, run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LARGEST_BYTES", 8)
    path = attempt_dir(run_dir, 2) / "stdout"
    with path.open("wb") as file:
        file.truncate(2**40)
        file.seek(0, os.SEEK_END)
        file.write(b"the end\n")

    status, printed, complaint = command("logs", "2")

    assert (status, printed) == (0, "the end\n")
    assert f"logs: `{path}`: {2**40:,} bytes are left out before this\n" in complaint


def test_damaged_groups_of_jobs_are_no_error_of_logs(command: Command, run_dir: RunDir) -> None:
    groups_dir = run_dir.submission_dir(0, 0) / "groups"
    groups_dir.mkdir()
    (groups_dir / "members.json").write_text("{")
    (run_dir.submission_dir(0, 0) / "7_3_0_log.err").write_text("slurmstepd: error\n")

    assert command("logs", "3")[:2] == (0, "slurmstepd: error\n")


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
