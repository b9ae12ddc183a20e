"""What goes to which stream, and that a pipe gets every id whole."""

import json
import re
from pathlib import Path

import pytest

from tests.stub_search import write_stub_search
from xautolm_hpc import cli
from xautolm_hpc.catalogue import load_catalogue


def test_models_lists_every_id_whole_in_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")

    assert cli.main(["models"]) == 0

    words = set(capsys.readouterr().out.split())
    models = load_catalogue().values()
    assert {model.id for model in models} | {model.hub_repo for model in models if model.hub_repo} <= words


def test_a_run_shows_its_progress_on_stderr_and_its_report_on_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stub_run_dir: Path
) -> None:
    search = str(write_stub_search(tmp_path, earlier_dir=stub_run_dir))

    assert cli.main(["run", search, "--runs-dir", str(tmp_path / "runs")]) == 0

    printed, progress = capsys.readouterr()
    assert printed.startswith("Report of stub\n")
    *_, where, best, page, following = printed.splitlines()
    assert where == f"report: {tmp_path}/runs/stub/report"
    assert re.fullmatch(r"best: trial \d, F1 0\.\d{4} on validation: minilm-l\d, \w+", best)
    assert page == f"page: {tmp_path}/runs/stub/report/report.html"
    assert following == f"next: xautolm-hpc export-model stub best --to stub-model --runs-dir {tmp_path}/runs"
    assert "generation 0: 4 attempts stored in" in progress
    assert "generation 0: 4 attempts stored in" not in printed
    assert "Report of stub" not in progress


@pytest.mark.parametrize("command", ["run", "plan"])
def test_an_error_is_said_once_on_stderr(tmp_path: Path, command: str, capfd: pytest.CaptureFixture[str]) -> None:
    search = str(write_stub_search(tmp_path))
    (tmp_path / "rows.jsonl").write_text('{"text": "one", "label": "yes"}\n')

    status = cli.main([command, search, "--runs-dir", str(tmp_path / "runs")])

    printed, complaint = capfd.readouterr()
    assert status == 2
    assert printed == ""
    assert complaint.count("holds one class only") == 1


def test_json_of_a_plan_is_all_that_stdout_gets(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    search = str(write_stub_search(tmp_path))

    assert cli.main(["plan", search, "--runs-dir", str(tmp_path / "runs"), "--json"]) == 0

    assert json.loads(capfd.readouterr().out)["name"] == "stub"


def write_list(folder: Path, n: int) -> str:
    params = {"learning_rate": 1e-3, "batch_size": 16, "max_length": 32, "epochs": 1}
    lines = [{"model": "minilm-l1", "method": "head", "params": params, "seed": seed} for seed in range(n)]
    (folder / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder / "list.jsonl")


def test_an_evaluation_says_what_it_left_out_and_exits_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stub_run_dir: Path
) -> None:
    search = str(write_stub_search(tmp_path, earlier_dir=stub_run_dir))
    words = ["evaluate", write_list(tmp_path, 6), search, "--runs-dir", str(tmp_path / "runs"), "--quiet"]

    status = cli.main([*words, "--set", "budget.generations=9", "--set", "budget.trials=5"])
    printed, complaint = capsys.readouterr()
    again = cli.main([*words, "--set", "budget.generations=9", "--set", "budget.trials=6"])

    assert (status, again) == (4, 0)
    assert "Left out           1 pipeline of the list: line 6\n" in printed
    assert printed.endswith(f"\nreport: {tmp_path}/runs/stub/report\n")
    assert complaint == (
        "xautolm-hpc: left out 1 pipeline of the list: line 6; budget used: trials 5 of 5; raise the budget in the "
        "search file or with --set, then give the same command again\n"
    )
    assert "left out" not in capsys.readouterr().err.lower()
