"""The command on the node: what it leaves in the attempt folder, whatever the data is like."""

import json
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import xautolm_hpc
from tests.fakes import FakeClock
from tests.profile.profile_samples import make_request, sample_rows, write_jsonl
from xautolm_hpc.jobdir import Command, End, ProfileRequest, ProfileResult
from xautolm_hpc.profile.__main__ import main
from xautolm_hpc.records import from_json, to_json

COMMAND = Command(
    argv=("python", "-m", "xautolm_hpc.profile"),
    time_limit_s=600.0,
    wall_limit_s=900.0,
    memory_bytes=4 * 1024**3,
    n_threads=2,
    heartbeat_s=30.0,
    deterministic=False,
    enforce_limits=False,
    environment={},
    site="site-a",
    cluster="alpha",
)


@pytest.fixture
def attempt_dir(tmp_path: Path) -> Path:
    """An attempt folder with a request for 100 rows."""
    request = make_request(write_jsonl(tmp_path / "rows.jsonl", sample_rows(100)), tmp_path)
    folder = tmp_path / "profile" / "attempt-0"
    folder.mkdir(parents=True)
    write_request(folder, request)
    (folder / "command.json").write_text(json.dumps(to_json(COMMAND)))
    return folder


def write_request(folder: Path, request: ProfileRequest) -> None:
    (folder / "profile.json").write_text(json.dumps(to_json(request)))


def read_request(folder: Path) -> ProfileRequest:
    return from_json(ProfileRequest, json.loads((folder / "profile.json").read_text()), where="profile.json")


def read_end(folder: Path) -> End:
    return from_json(End, json.loads((folder / "outcome.json").read_text()), where="outcome.json")


def read_result(folder: Path) -> ProfileResult:
    return from_json(ProfileResult, json.loads((folder / "profile-result.json").read_text()), where="result")


def test_the_command_writes_split_result_and_outcome_and_keeps_standard_output_clean(attempt_dir: Path) -> None:
    command = [sys.executable, "-m", "xautolm_hpc.profile", str(attempt_dir)]

    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    end = read_end(attempt_dir)
    assert (run.returncode, run.stdout) == (0, "")
    assert "profile: divided into 52 rows of train, 12 rows of dev, 16 rows of validation" in run.stderr
    assert read_result(attempt_dir).task.n_train == 52
    assert read_result(attempt_dir).system == end.system
    assert (Path(read_request(attempt_dir).data_dir) / "train.jsonl.gz").is_file()
    assert (end.outcome.status, end.outcome.train_s, end.outcome.evaluation_time_s) == ("succeeded", 0.0, 0.0)
    assert end.outcome.peak_rss_bytes is not None
    assert end.system is not None
    assert (end.system.site, end.system.cluster) == ("site-a", "alpha")
    assert (end.node, end.package_version) == (platform.node(), xautolm_hpc.__version__)


def test_times_restart_and_image_are_those_of_the_job(attempt_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    monkeypatch.setenv("XAUTOLM_IMAGE_DIGEST", "sha256:12")

    status = main([str(attempt_dir)], clock=FakeClock(tick_s=1.0))

    end = read_end(attempt_dir)
    assert status == 0
    assert (end.started_at, end.ended_at, end.outcome.load_s) == (1_000_001.0, 1_000_002.0, 1.0)
    assert (end.restart, end.image_digest) == (2, "sha256:12")


def test_a_file_the_node_does_not_see_is_no_fault_of_the_data(attempt_dir: Path) -> None:
    request = read_request(attempt_dir)
    Path(request.data_path).unlink()

    status = main([str(attempt_dir)], clock=FakeClock(tick_s=1.0))

    outcome = read_end(attempt_dir).outcome
    assert status == 2
    assert (outcome.status, outcome.kind, outcome.origin) == ("failed", "data_unavailable", "infrastructure")
    assert outcome.message == (
        f"`{request.data_path}` cannot be read on node {platform.node()}: No such file or directory. Check "
        "data.path, and that the compute nodes see it"
    )


def test_faulty_data_is_a_failure_with_the_exact_message(attempt_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = replace(read_request(attempt_dir), text_column="txt")
    write_request(attempt_dir, request)

    status = main([str(attempt_dir)], clock=FakeClock(tick_s=1.0))

    outcome = read_end(attempt_dir).outcome
    message = f"`{request.data_path}`: column 'txt' does not exist; columns: text, label. Set data.text"
    assert status == 2
    assert (outcome.status, outcome.kind, outcome.origin) == ("failed", "error", "pipeline")
    assert outcome.message == message
    assert capsys.readouterr().err == f"profile: {message}\n"
    assert not (attempt_dir / "profile-result.json").exists()


def test_a_request_of_another_version_is_a_failure_that_names_the_key(attempt_dir: Path) -> None:
    (attempt_dir / "profile.json").write_text('{"task_title": "x"}')

    status = main([str(attempt_dir)], clock=FakeClock(tick_s=1.0))

    end = read_end(attempt_dir)
    assert status == 2
    assert end.system is None
    assert str(end.outcome.message).startswith("profile.json: unknown key 'task_title'")


def test_an_outcome_that_is_there_already_stays(attempt_dir: Path) -> None:
    (attempt_dir / "outcome.json").write_text("the first one")

    status = main([str(attempt_dir)], clock=FakeClock(tick_s=1.0))

    assert status == 0
    assert (attempt_dir / "outcome.json").read_text() == "the first one"


def test_without_a_folder_the_usage_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    status = main([], clock=FakeClock(tick_s=1.0))

    assert status == 2
    assert capsys.readouterr().err == "profile: usage: python -m xautolm_hpc.profile ATTEMPT_DIR\n"
