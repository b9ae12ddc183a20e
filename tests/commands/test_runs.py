"""``runs``: every run of a folder in a row, whatever state its files are in."""

import json
import shutil
from pathlib import Path

import pytest

from xautolm_hpc import cli
from xautolm_hpc.run.all_runs import list_runs
from xautolm_hpc.run.folder import RunDir

STALE_S = 120.0


@pytest.fixture
def runs_dir(stub_run_dir: Path, tmp_path: Path) -> Path:
    """Return a folder with a search that ended, and what stands beside runs."""
    shutil.copytree(stub_run_dir, tmp_path / "runs" / "stub")
    (tmp_path / "runs" / ".profile-cache").mkdir()
    (tmp_path / "runs" / "notes.txt").write_text("mine")
    return tmp_path / "runs"


def test_a_run_that_ended_is_listed_with_its_best_trial_and_size(runs_dir: Path) -> None:
    report = json.loads((runs_dir / "stub/report/report.json").read_text())
    n_bytes = sum(path.lstat().st_size for path in (runs_dir / "stub").rglob("*") if not path.is_dir())

    (row,) = list_runs(runs_dir, stale_s=STALE_S)

    outcomes = [json.loads(path.read_text())["outcome"] for path in (runs_dir / "stub").glob("gen-*/*/*/outcome.json")]
    best = max(outcome["metrics"].get("f1", 0.0) for outcome in outcomes)
    assert (row.name, row.state, row.note) == ("stub", "ended", report["run"]["finish"])
    assert row.best is not None
    assert row.best.f1 == best
    assert row.n_trials == len(list((runs_dir / "stub").glob("gen-*/trial-*")))
    assert row.n_bytes == n_bytes
    assert row.began_at is not None
    assert row.changed_at is not None
    assert row.began_at < row.changed_at


def test_a_run_without_a_report_is_unfinished(runs_dir: Path) -> None:
    shutil.rmtree(runs_dir / "stub/report")

    (row,) = list_runs(runs_dir, stale_s=STALE_S)

    assert (row.state, row.note) == ("unfinished", "the same run command resumes it")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("run.json", "{", "run.json"),
        ("run.json", "[]", "TypeError: list indices"),
        ("run.json", '{"search": {}}', "KeyError"),
        ("ledger.jsonl", "{}\n{}\n", "ledger.jsonl` line 1 is damaged"),
        ("ledger.jsonl", '{"event": "end", "at": 1, "lease": 1}\n', "ledger.jsonl` line 1 is damaged"),
        ("report/report.json", "no", "report.json"),
    ],
)
def test_a_damaged_run_says_so_in_its_row_and_harms_no_other(
    runs_dir: Path, *, name: str, content: str, said: str
) -> None:
    shutil.copytree(runs_dir / "stub", runs_dir / "whole")
    (runs_dir / "stub" / name).write_text(content)

    whole, damaged = list_runs(runs_dir, stale_s=STALE_S)

    assert (whole.name, whole.state) == ("whole", "ended")
    assert (damaged.name, damaged.state) == ("stub", "damaged")
    assert said in damaged.note
    assert damaged.n_bytes > 0


def test_a_run_that_lost_its_first_file_is_damaged(runs_dir: Path) -> None:
    RunDir(runs_dir / "stub").run_path.unlink()

    (row,) = list_runs(runs_dir, stale_s=STALE_S)

    assert (row.state, "No such file" in row.note) == ("damaged", True)


def test_the_table_shows_every_run(
    runs_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    shutil.copytree(runs_dir / "stub", runs_dir / "other")
    (runs_dir / "other" / "run.json").write_text("{")

    status = cli.main(["runs", "--runs-dir", str(runs_dir)])

    lines = capsys.readouterr().out.splitlines()
    assert status == 0
    assert lines[0].split()[:3] == ["Run", "State", "Trials"]
    assert [line.split()[:2] for line in lines[2:]] == [["stub", "ended"], ["other", "damaged"]]


def test_json_has_the_same_rows(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["runs", "--runs-dir", str(runs_dir), "--json"])

    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["state"]) == ("stub", "ended")
    assert row["best"]["trial"] >= 0


def test_a_folder_without_runs_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["runs", "--runs-dir", str(tmp_path / "none")])

    assert status == 0
    assert capsys.readouterr().out == f"no runs in {tmp_path}/none; --runs-dir names another folder\n"
