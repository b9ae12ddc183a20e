"""One small search from Python, which the tests of this folder look at."""

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import xautolm_hpc

ROWS_PATH = Path(__file__).resolve().parents[2] / "examples" / "data" / "tickets.jsonl"
SPACE = {"models": ["minilm-l1"], "methods": ["full", "head"]}
SETTINGS: dict[str, Any] = {
    "space": SPACE,
    "budget": {"trials": 2},
    "search": {"objectives": ["f1"], "population": 2, "seed": 3},
    "prior": {"kind": "uniform"},
    "trial": {"time_limit_min": 15},  # beside other work of the machine a minute may be too short for a trial
}


def frame() -> pd.DataFrame:
    """Read the rows of the example; the texts stand in a column of another name."""
    lines = ROWS_PATH.read_text().splitlines()
    return pd.DataFrame([json.loads(line) for line in lines]).rename(columns={"text": "body"})


@pytest.fixture(scope="session")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of runs."""
    return tmp_path_factory.mktemp("notebook") / "runs"


@pytest.fixture(scope="session")
def searched(runs_dir: Path) -> "xautolm_hpc.Run":
    """Run a search of two trials on a data frame."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    return xautolm_hpc.search(frame(), name="tickets", store=runs_dir / "store", runs_dir=runs_dir, **SETTINGS)
