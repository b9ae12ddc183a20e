"""The wheel carries what the program needs beside its code, and works from any folder."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checks.source import ROOT_DIR
from tests.packaging.built import Built, build

N_ROWS = 120
BESIDE_THE_CODE = {
    "xautolm_hpc/models.toml", "xautolm_hpc/presets.toml", "xautolm_hpc/packaged/step_costs.json",
    "xautolm_hpc/py.typed",
    "xautolm_hpc/packaged/search.schema.json", "xautolm_hpc/packaged/profile.schema.json",
    "xautolm_hpc/packaged/examples/demo.toml", "xautolm_hpc/packaged/examples/data/tickets.jsonl",
    "xautolm_hpc/packaged/profiles/site-gpu-partition.toml",
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture
def installed(built: Built, tmp_path: Path) -> Path:
    return built.install(tmp_path / "installed")


def test_wheel_and_sdist_carry_what_the_program_needs_beside_its_code(built: Built) -> None:
    seed = {f"xautolm_hpc/packaged/seed/{path.name}" for path in (ROOT_DIR / "store/seed/store").glob("seg-*.h5")}
    modules = {str(path.relative_to(ROOT_DIR)) for path in (ROOT_DIR / "xautolm_hpc").rglob("*.py")}

    lacking = {name: (BESIDE_THE_CODE | seed | modules) - found for name, found in contents(built).items()}

    assert seed
    assert lacking == {"wheel": set(), "sdist": set()}


def test_neither_carries_tests_or_benchmarks(built: Built) -> None:
    strange = {name for found in contents(built).values() for name in found if name.startswith(("tests", "benchmarks"))}

    assert strange == set()


def test_a_search_is_written_and_planned_from_another_folder(installed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    before = listing(installed)
    tickets = [json.loads(line) for line in (ROOT_DIR / "examples/data/tickets.jsonl").read_text().splitlines()]
    with (folder / "anfragen.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["nachricht", "abteilung"])
        writer.writerows([row["text"], row["label"]] for row in tickets[:N_ROWS])

    call(installed, folder, "init", "anfragen.csv")
    plan = json.loads(call(installed, folder, "plan", "anfragen.toml", "--json"))

    first = (folder / "anfragen.toml").read_text().splitlines()[0]
    assert first == f"#:schema {(installed / 'xautolm_hpc/packaged/search.schema.json').as_uri()}"
    assert len(plan["trials"]) == 4
    assert plan["prior"]["kind"] == "evidence"
    assert plan["prior"]["counts"]["records"] == 1200
    assert listing(installed) == before, "nothing is written where the program is installed"


def test_the_examples_are_copied_to_a_folder_of_ones_own(installed: Path, tmp_path: Path) -> None:
    call(installed, tmp_path, "examples", "mine")

    assert (tmp_path / "mine/demo.toml").read_text() == (ROOT_DIR / "examples/demo.toml").read_text()
    assert (tmp_path / "mine/data/tickets.jsonl").exists()
    assert (tmp_path / "mine/profiles/site-preemptible.toml").exists()
    assert not any(path.is_symlink() for path in (tmp_path / "mine").rglob("*"))


def contents(built: Built) -> dict[str, set[str]]:
    return {"wheel": built.wheel_names(), "sdist": built.sdist_names()}


def listing(folder: Path) -> dict[str, int]:
    """List the files of an installation with their sizes; Python's caches are its own affair."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def call(installed: Path, folder: Path, *arguments: str) -> str:
    """Run the command of an installation; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "xautolm_hpc", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
