"""The notebooks run from their first cell to their last, and are kept without what they printed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES_DIR = Path(__file__).resolve().parents[2] / "examples"
LEAVES = {
    "search": ("model/config.json", "model/README.md", "runs/tickets/report/report.html"),
    "stores": ("merged-store",),
}
"""Notebook -> what it writes."""

NOTEBOOKS = sorted(EXAMPLES_DIR.glob("*.ipynb"))


def cells(path: Path) -> list[dict[str, Any]]:
    """Read the cells of code of a notebook."""
    found: list[dict[str, Any]] = json.loads(path.read_text())["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_its_first_cell_to_its_last(tmp_path: Path, path: Path) -> None:
    shutil.copytree(EXAMPLES_DIR / "data", tmp_path / "data")
    code = "\n\n".join("".join(cell["source"]) for cell in cells(path))

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-3000:]
    assert all((tmp_path / name).exists() for name in LEAVES[path.stem])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_results(path: Path) -> None:
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells(path))


def test_every_notebook_is_run() -> None:
    assert {path.stem for path in NOTEBOOKS} == set(LEAVES)
