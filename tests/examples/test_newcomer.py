"""From a CSV to a model: the four commands of the first page, on a file with other column names and semicolons."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checks.source import ROOT_DIR
from tests.searching import run_command

N_ROWS = 300
LESS = ("--set", "budget.trials=4", "--set", "trial.time_limit_min=4")
"""What makes it shorter here, and lets a busy machine take its time."""

CLASSIFY = """
import json, sys
from transformers import pipeline
classify = pipeline("text-classification", model=sys.argv[1])
print(json.dumps(classify("The fan of node 12 is loud and its GPU falls off the bus")))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_four_commands_lead_from_a_csv_to_a_model_that_transformers_loads(tmp_path: Path) -> None:
    labels = write_csv(tmp_path / "anfragen.csv")

    begun = run_command(tmp_path, "init", "anfragen.csv", "--effort", "quick")
    searched = run_command(tmp_path, "run", "anfragen.toml", "--quiet", *LESS)
    reported = run_command(tmp_path, "report", "anfragen")
    exported = run_command(tmp_path, "export-model", "anfragen", "best", "--to", "model")

    for done in (begun, searched, reported, exported):
        assert done.returncode == 0, done.stderr + done.stdout
    on_test = re.search(r"\nOn test\n.*\n\n.*\n─+\n\d+ +([\d.]+)", reported.stdout)
    assert on_test is not None, reported.stdout
    assert 0 <= float(on_test[1]) <= 1
    assert "Kind      evidence" in reported.stdout
    assert "Store     1,200 records" in reported.stdout
    assert classify(tmp_path / "model")["label"] in labels
    assert not list(tmp_path.glob("experience-store/seg-f00ce700*")), "the packaged store is only read"


def write_csv(path: Path) -> set[str]:
    """Write the tickets of this repository as a German office would keep them; return their classes."""
    lines = (ROOT_DIR / "examples/data/tickets.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines[:N_ROWS]]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["nr", "nachricht", "abteilung"])
        writer.writerows([number, row["text"], row["label"]] for number, row in enumerate(rows))
    return {row["label"] for row in rows}


def classify(model_dir: Path) -> dict[str, object]:
    """Classify a text with a plain pipeline of transformers, in a process of its own."""
    command = [sys.executable, "-c", CLASSIFY, str(model_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    (found,) = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found
