"""Compares what ``init --effort quick`` writes with a linear model on TF-IDF, on 600 rows of real data sets at most.

``--data NAME`` measures one of them alone. All but one lie beside the repository (XAUTOLM_SHARED, or ../shared).
"""

import argparse
import gzip
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline

from benchmarks.goals import Goal, run
from tests.conftest import shared_path

TICKETS = Path(__file__).parents[2] / "examples" / "data" / "tickets.jsonl"
SHARED = ("sst2", "trec", "tweet_emotion")
SEED, N_ROWS = 13, 600
LEAST_BEATEN = 3


def draw_rows(data_path: Path, n: int) -> str:
    """Draw rows of a data set's train split, as JSON Lines.

    Args:
        data_path: Folder of the data set.
        n: Rows to draw.
    """
    with gzip.open(data_path / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = list(lines)
    return "".join(rows[place] for place in np.random.default_rng(SEED).permutation(len(rows))[:n])


def read_split(run_dir: Path, *names: str) -> tuple[list[str], list[str]]:
    """Read texts and labels of some splits of a run's data."""
    rows: list[dict[str, Any]] = []
    for name in names:
        rows += map(json.loads, gzip.decompress((run_dir / "data" / f"{name}.jsonl.gz").read_bytes()).splitlines())
    return [row["text"] for row in rows], [row["label"] for row in rows]


def baseline_f1(run_dir: Path) -> float:
    """Compute the macro-F1 on test of a logistic regression on TF-IDF, fitted on what trials train and stop on."""
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10, max_iter=1000))
    model.fit(*read_split(run_dir, "train", "dev"))
    texts, labels = read_split(run_dir, "test")
    return float(f1_score(labels, model.predict(texts), average="macro"))


def search_f1(folder: Path) -> tuple[float, Path]:
    """Search with what ``init`` writes.

    Args:
        folder: Folder of the search, which holds the data as ``rows.jsonl``.

    Returns:
        Macro-F1 of the best trial on test, and the run folder.
    """
    for words in (["init", "rows.jsonl", "--effort", "quick", "--to", "search.toml"], ["run", "search.toml"]):
        subprocess.run([sys.executable, "-m", "xautolm_hpc", *words], cwd=folder, check=True)
    (run_dir,) = (path.parent for path in (folder / "runs").glob("*/run.json"))
    shown = subprocess.run(
        [sys.executable, "-m", "xautolm_hpc", "report", str(run_dir), "--json"], capture_output=True, check=True
    )
    summary: Mapping[str, Any] = json.loads(shown.stdout)
    return float(summary["tests"][str(summary["best"]["trial"])]["f1"]), run_dir


def measure(names: Sequence[str]) -> list[Goal]:
    """Search each data set in a folder of its own, and fit the baseline on the same rows."""
    goals, n_beaten = [], 0
    for name in names:
        with TemporaryDirectory(prefix="quick-") as temporary:
            folder = Path(temporary)
            drawn = draw_rows(shared_path() / "datasets" / name, N_ROWS) if name != "tickets" else TICKETS.read_text()
            (folder / "rows.jsonl").write_text(drawn)
            found, run_dir = search_f1(folder)
            baseline = baseline_f1(run_dir)
        n_beaten += found > baseline
        goals += [
            Goal(f"{name}: macro-F1 on test, init --effort quick", found, None, ""),
            Goal(f"{name}: macro-F1 on test, TF-IDF + logistic regression", baseline, None, ""),
        ]
    least = LEAST_BEATEN if len(names) > LEAST_BEATEN else None
    return [*goals, Goal("data sets on which init is better", n_beaten, least, "", at_most=False)]


def main() -> int:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--data", choices=("tickets", *SHARED))
    known, rest = parser.parse_known_args()
    return run(lambda: measure([known.data] if known.data else ["tickets", *SHARED]), rest)


if __name__ == "__main__":
    sys.exit(main())
