"""From a CSV to a model: the page for newcomers, command by command, on a file with semicolons and odd column names."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checks.documents import blocks
from tests.checks.source import ROOT_DIR
from tests.guide.pages import FIRST, GUIDE_DIR, type_line, typed

N_ROWS = 300
N_COMMANDS = 4
LESS = " --set budget.trials=4 --set trial.time_limit_min=4"
"""What makes the search shorter here, and lets a busy machine take its time."""

TEXT = "The fan of node 12 is loud and its GPU falls off the bus"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with tickets as people keep them: in a table, under names of their own."""
    folder = tmp_path_factory.mktemp("newcomer")
    lines = (ROOT_DIR / "examples/data/tickets.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines[:N_ROWS]]
    with (folder / "reviews.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["no", "comment", "verdict"])
        writer.writerows([number, row["text"], row["label"]] for number, row in enumerate(rows))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_four_commands_lead_from_a_csv_to_a_model_that_transformers_loads(folder: Path) -> None:
    page = GUIDE_DIR / FIRST
    first = blocks(page)[0].text.splitlines()

    done = [type_line(line + LESS * line.startswith("xautolm-hpc run "), folder) for line in first]

    assert len(first) <= N_COMMANDS
    assert [(each.returncode, each.stderr * bool(each.returncode)) for each in done] == [(0, "")] * len(first)
    report = done[2].stdout
    on_test = re.search(r"\nOn test\n.*\n\n.*\n─+\n\d+ +([\d.]+)", report)
    assert on_test is not None, report
    assert 0 <= float(on_test[1]) <= 1
    assert re.search(r"\n +Kind +evidence\n", report), report
    assert re.search(r"\n +Store +1,200 records", report), report
    assert not list(folder.glob("experience-store/seg-f00ce700*")), "the packaged store is only read"
    _check_the_loading_of_the_page(page, folder)
    for command in typed(page)[len(first) :]:
        ended = type_line(command.line, folder)
        assert ended.returncode == 0, f"{command}: {ended.stderr}"


def _check_the_loading_of_the_page(page: Path, folder: Path) -> None:
    """Run the page's Python, which loads the model by transformers alone, on a text of these data."""
    (code,) = [block.text for block in blocks(page) if block.language == "python"]
    code = re.sub(r"^ {3}", "", code, flags=re.MULTILINE)
    code = re.sub(r'print\(classify\(".*"\)\)', f'print(classify("{TEXT}")[0]["label"])', code)

    ended = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=folder, capture_output=True, text=True, check=True, timeout=400
    )

    assert ended.stdout.splitlines()[-1] in {"access", "allocation", "gpu", "jobs", "software", "storage"}
