"""Run folders and attempt folders: where things lie, and which folders are refused."""

import dataclasses
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.nouns import end, failed, plan, succeeded
from tests.profile.profile_samples import make_request
from xautolm_hpc.durable import write_json
from xautolm_hpc.errors import InputError, RunFolderError
from xautolm_hpc.jobdir import (
    MEMBERS,
    OUTCOME,
    VERDICT,
    TrialPlan,
    claim_path,
    exit_path,
    heartbeat_path,
    heartbeat_paths,
    read_members,
    restarts,
    to_wire,
    write_members,
)
from xautolm_hpc.records import from_json, to_json
from xautolm_hpc.run.attempt_end import find_end
from xautolm_hpc.run.folder import RunDir, find_run


def test_everything_of_a_run_has_its_place() -> None:
    run_dir = RunDir(Path("/runs/one"))
    attempt = run_dir.attempt_dir(2, 41, attempt=1)

    assert attempt == Path("/runs/one/gen-002/trial-041/attempt-1")
    assert run_dir.submission_dir(2, 3) == Path("/runs/one/gen-002/submission-3")
    assert run_dir.profile_attempt_dir(0) == Path("/runs/one/profile/attempt-0")
    assert [path.name for path in (run_dir.data_dir, run_dir.report_dir, run_dir.ledger_path)] == [
        "data",
        "report",
        "ledger.jsonl",
    ]
    assert [path.name for path in (run_dir.prior_path, run_dir.run_path, run_dir.cancel_path)] == [
        "priors.json",
        "run.json",
        "cancel",
    ]
    assert [f(attempt, 3).name for f in (claim_path, exit_path, heartbeat_path)] == [
        "claim-3.json",
        "exit-3.json",
        "heartbeat-3.json",
    ]


def test_restarts_are_those_that_were_claimed_ascending(tmp_path: Path) -> None:
    counts = [10, 2, 0, 7, 31, 5, 12, 100, 1]
    for name in (*(f"claim-{count}.json" for count in counts), "claim-x.json", "exit-8.json", ".claim-9.json.ab.tmp"):
        (tmp_path / name).write_text("{}")

    assert restarts(tmp_path) == sorted(counts)


def test_an_attempt_no_job_started_has_no_restarts(tmp_path: Path) -> None:
    assert restarts(tmp_path) == []


def test_heartbeats_are_found_by_restart_and_node(tmp_path: Path) -> None:
    paths = [heartbeat_path(tmp_path, 0), heartbeat_path(tmp_path, 0, node=1), heartbeat_path(tmp_path, 1)]
    for path in (*paths, claim_path(tmp_path, 0)):
        write_json(path, {})

    assert heartbeat_paths(tmp_path, 0) == paths[:2]


def test_the_outcome_counts_before_the_verdict(tmp_path: Path) -> None:
    assert find_end(tmp_path) is None

    write_json(tmp_path / VERDICT, to_json(end(failed("lost"))))
    assert find_end(tmp_path) == end(failed("lost"))

    write_json(tmp_path / OUTCOME, to_json(end(succeeded())))
    assert find_end(tmp_path) == end(succeeded())


def test_a_damaged_outcome_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / OUTCOME).write_text('{"outcome": 3}')

    with pytest.raises(
        InputError, match=re.escape(f"{tmp_path / OUTCOME}: outcome: expected a Outcome object, found 3")
    ):
        find_end(tmp_path)


def test_members_come_back_in_array_order(tmp_path: Path) -> None:
    folder = tmp_path / "gen-000" / "submission-0"
    members = [Path("/runs/b"), Path("/runs/a")]

    write_members(folder, members)

    assert read_members(folder / MEMBERS) == members
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_run_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "runs" / "one")

    run_dir.create()
    run_dir.create()

    assert run_dir.path.stat().st_mode & 0o777 == 0o700
    assert list(run_dir.path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702])
def test_a_run_folder_others_can_write_is_refused_with_the_command_that_helps(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)

    with pytest.raises(
        RunFolderError,
        match=rf"^run folder `{tmp_path}` can be written by others \(mode {mode:04o}\); jobs run what lies there\. "
        rf"Close it with: chmod 0700 '{tmp_path}'$",
    ):
        RunDir(tmp_path).create()


def test_a_run_folder_others_can_only_read_is_taken(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    RunDir(tmp_path).create()

    assert list(tmp_path.iterdir()) == []


def test_a_run_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)

    with pytest.raises(RunFolderError, match=rf"is owned by uid {owner}, not by you \(uid {owner + 1}\); use another$"):
        RunDir(tmp_path).create()


def test_a_run_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "runs" / "one"

    with pytest.raises(
        RunFolderError, match=f"^run folder `{path}` cannot be written: Not a directory. Give another with --runs-dir$"
    ):
        RunDir(path).create()


def test_a_file_where_the_run_folder_belongs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("")

    with pytest.raises(RunFolderError, match=r"cannot be written: File exists\."):
        RunDir(tmp_path / "one").create()


def test_a_run_is_found_by_name_and_by_folder(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "one"
    path.mkdir(parents=True)
    (path / "run.json").write_text("{}")

    found = [find_run("one", str(tmp_path / "runs")), find_run(str(path), "elsewhere")]

    assert found == [RunDir(path), RunDir(path)]


def test_a_run_that_is_not_there_is_refused_with_those_there_are(tmp_path: Path) -> None:
    for name in ("two", "one", "no-run"):
        (tmp_path / name).mkdir()
    for name in ("two", "one"):
        (tmp_path / name / "run.json").write_text("{}")

    with pytest.raises(
        RunFolderError,
        match=f"^no run 'three' below `{tmp_path}`; there are: one, two. Give its name or its folder$",
    ):
        find_run("three", str(tmp_path))


def test_without_any_run_the_message_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="there are: none"):
        find_run("one", str(tmp_path / "runs"))


def test_a_profile_request_names_a_delimiter_only_if_one_is_set_so_that_older_workers_read_it(tmp_path: Path) -> None:
    request = make_request(tmp_path / "rows.csv", tmp_path)

    assert to_wire(request) == {k: v for k, v in to_json(request).items() if k != "delimiter"}

    assert to_wire(dataclasses.replace(request, delimiter=";")) == to_json(request) | {"delimiter": ";"}


def test_a_plan_names_the_least_steps_of_early_stopping_only_where_there_are_some() -> None:
    old, new = plan(), replace(plan(), early_stopping_min_steps=100)

    assert set(to_wire(old)) == {"pipeline", "model", "seed", "execution", "hf_home"}
    assert to_wire(new) == {**to_wire(old), "early_stopping_min_steps": 100}
    assert [from_json(TrialPlan, to_wire(each), where="plan") for each in (old, new)] == [old, new]


def test_eager_steps_stay_out_of_the_file_which_an_older_worker_reads() -> None:
    eager, captured = plan(), replace(plan(), step="graph")

    assert "step" not in to_wire(eager)
    assert to_wire(captured) == {**to_wire(eager), "step": "graph"}
