"""``plan`` shows what ``run`` would do, and leaves nothing behind."""

import json
import re
import sys
from pathlib import Path

import pytest

from tests.stub_search import LOCAL, write_stub_search
from xautolm_hpc import cli
from xautolm_hpc.durable import read_json
from xautolm_hpc.jobdir import PIPELINE

GPU_NODE = """
[job]
n_gpus = 1
[system]
n_cpu_cores = 8
ram_gb = 64
n_gpus = 4
gpu_name = "A100"
gpu_memory_gb = 40
gpu_capability = 8.0
[cost]
co2_g_per_kwh = 250
price_per_gpu_h = 2.0
currency = "CHF"
"""


def test_a_run_draws_the_pipelines_its_plan_showed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = str(write_stub_search(tmp_path))
    runs = ["--runs-dir", str(tmp_path / "runs")]

    status = cli.main(["plan", search, *runs, "--json"])
    plan = json.loads(capsys.readouterr().out)
    there = {path.name for path in tmp_path.iterdir()}
    assert cli.main(["run", search, *runs, "--quiet"]) == 0

    drawn = {
        int(path.parent.parent.name.removeprefix("trial-")): read_json(path)
        for path in (tmp_path / "runs" / "stub" / "gen-000").glob(f"trial-*/attempt-0/{PIPELINE}")
    }
    assert status == 0
    assert there == {"rows.jsonl", "worker", "series.py", "site.toml", "search.toml", "go"}
    assert {trial.pop("trial"): trial for trial in plan["trials"]} == drawn
    assert len(drawn) == 4


def test_a_plan_is_made_for_the_node_the_profile_describes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = str(write_stub_search(tmp_path, profile=LOCAL + GPU_NODE))

    status = cli.main(["plan", search, "--runs-dir", str(tmp_path / "runs")])

    printed = capsys.readouterr().out
    assert status == 0
    assert "8 cores, 64 GiB, 1 x A100" in printed
    assert "Pipelines of generation 0" in printed
    assert "What is foreseen of them" in printed
    assert "GiB" in printed
    assert "Peak" in printed
    assert "a trial that uses its whole time (1 GPU-hours) costs at most 2.00 CHF" in printed


def test_a_plan_shows_trials_before_the_experiences_that_moved_the_prior(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = str(write_stub_search(tmp_path))
    past = ["--set", "prior.kind=evidence", "--set", 'store.also_read=["package:seed"]']

    assert cli.main(["plan", search, "--runs-dir", str(tmp_path / "runs"), *past]) == 0

    lines = capsys.readouterr().out.splitlines()
    with_ids = [number for number, line in enumerate(lines) if re.search(r"\b[0-9a-f]{32}\b", line)]
    assert with_ids
    assert lines.index("Pipelines of generation 0") < lines.index("Disk") < min(with_ids)
    assert all(re.search(r"\S.*\b[0-9a-f]{32}$", lines[number]) for number in with_ids)


def test_the_start_up_is_compared_with_the_time_that_the_plan_foresees(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = str(write_stub_search(tmp_path, profile=LOCAL + GPU_NODE))

    cli.main(["plan", search, "--runs-dir", str(tmp_path / "runs"), "--json"])

    plan = json.loads(capsys.readouterr().out)
    foreseen = [min(3600.0, trial["seconds"]) for trial in plan["foreseen"]]
    assert all(foreseen)
    assert plan["start_up"]["trial_s"] == pytest.approx(sum(foreseen) / len(foreseen))


def test_data_that_cannot_be_learnt_from_is_reported_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = str(write_stub_search(tmp_path))
    (tmp_path / "rows.jsonl").write_text('{"text": "one", "label": "yes"}\n')

    status = cli.main(["plan", search, "--runs-dir", str(tmp_path / "runs")])

    assert status == 2
    assert "holds one class only, 'yes'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_worker_that_lacks_packages_is_named_with_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = str(write_stub_search(tmp_path))
    (tmp_path / "worker").write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')

    status = cli.main(["plan", search, "--runs-dir", str(tmp_path / "runs")])

    error = capsys.readouterr().err
    assert status == 2
    assert f"`{tmp_path}/worker` lacks " in error
    assert "pip install 'xautolm-hpc[worker]'" in error


def test_a_store_to_be_read_that_does_not_exist_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stub_run_dir: Path
) -> None:
    search = str(write_stub_search(tmp_path, earlier_dir=stub_run_dir))
    setting = f"store.also_read=['{tmp_path}/nope']"

    cli.main(["plan", search, "--runs-dir", str(tmp_path / "runs"), "--json", "--set", setting])
    notes = json.loads(capsys.readouterr().out)["notes"]
    cli.main(["run", search, "--runs-dir", str(tmp_path / "runs"), "--set", setting])

    line = f"store.also_read: `{tmp_path}/nope` does not exist, so the prior learns nothing from it"
    assert any(note.startswith(line) for note in notes)
    assert line in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("store.also_read=['package:sed']", "`package:sed` does not come with this program; valid: package:seed"),
        ("store.path=package:sed", "`package:sed` does not come with this program; valid: package:seed"),
        ("store.path=package:seed", "comes with this program and is only read"),
    ],
)
def test_a_packaged_store_that_is_none_or_would_be_written_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stub_run_dir: Path, setting: str, message: str
) -> None:
    search = str(write_stub_search(tmp_path, earlier_dir=stub_run_dir))

    status = cli.main(["plan", search, "--runs-dir", str(tmp_path / "runs"), "--set", setting])

    assert status == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
