"""What a report ends with: commands that work as they are printed."""

from pathlib import Path
from typing import Any

import pytest

from tests.report.facts import facts, failure, success
from tests.report.whole_run import PRIOR, whole_run
from xautolm_hpc.commands.report import closing_lines
from xautolm_hpc.durable import write_json
from xautolm_hpc.report import summarise
from xautolm_hpc.run.folder import RunDir


def run_with(folder: Path, profile: str) -> RunDir:
    """Write what a run folder says of its cluster profile."""
    (folder / "site.toml").write_text(profile)
    search: dict[str, Any] = {"name": "tickets-1", "profile": str(folder / "site.toml"), "budget": {}}
    run_dir = RunDir(folder / "tickets-1")
    run_dir.path.mkdir()
    run = {
        "run_id": "r",
        "created_at": "2026-01-05T10:00:00+00:00",
        "search": search | {"search": {"objectives": ["f1"]}},
    }
    write_json(run_dir.run_path, run)
    return run_dir


@pytest.mark.parametrize(
    ("profile", "python"),
    [("[container]\nimage = 'worker.sif'\n", " --python PYTHON"), ('worker_python = "python"\n', ""), ("broken", "")],
)
def test_the_export_of_a_run_in_an_image_is_told_to_need_a_python(tmp_path: Path, profile: str, python: str) -> None:
    run_dir = run_with(tmp_path, profile)

    *_, following = closing_lines(summarise(whole_run()), run_dir, name="tickets-1", runs_dir="runs")

    assert following == f"next: xautolm-hpc export-model tickets-1 best --to tickets-1-model{python}"


@pytest.mark.parametrize(
    ("name", "runs_dir", "expected"),
    [
        ("tickets-1", "runs", "tickets-1"),
        ("tickets-1", "/scratch/my runs", "tickets-1 --runs-dir '/scratch/my runs'"),
        ("/scratch/my runs/tickets-1", "runs", "'/scratch/my runs/tickets-1'"),
    ],
)
def test_the_command_that_shows_the_priors_tables_names_the_run_as_it_was_found(
    tmp_path: Path, name: str, runs_dir: str, expected: str
) -> None:
    summaries = [summarise(whole_run()), summarise(facts([failure(0, "gpu_oom")], prior=PRIOR))]

    printed = [closing_lines(each, RunDir(tmp_path), name=name, runs_dir=runs_dir) for each in summaries]

    assert all(f"prior: xautolm-hpc priors {expected}" in lines for lines in printed)


def test_a_run_that_began_uniform_has_no_tables_of_its_prior(tmp_path: Path) -> None:
    lines = closing_lines(summarise(facts([success(0)])), RunDir(tmp_path), name="tickets-1", runs_dir="runs")

    assert not [line for line in lines if "priors" in line]
