"""A search file that names what no trial can be trained with, from the command line; and a run that has begun."""

from pathlib import Path

import pytest

from tests.stub_search import write_stub_search
from xautolm_hpc import cli, config

WRONG = "\n[space.params.full]\nlr = [0.1]\nbatch_size = [8.0]\n"


@pytest.mark.parametrize("command", ["plan", "run", "prefetch"])
def test_every_command_that_reads_a_search_file_refuses_it_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    path = write_stub_search(tmp_path)
    path.write_text(path.read_text() + WRONG)

    status = cli.main([command, str(path)])

    shown = capsys.readouterr().err.splitlines()
    assert status == 2
    assert shown[0].startswith("xautolm-hpc: space.params.full.lr: method full has no parameter 'lr'; valid: ")
    assert shown[0].endswith(". Did you mean 'learning_rate'?")
    assert shown[1].startswith(
        "space.params.full.batch_size: batch_size = 8.0 is not supported; expected a whole number"
    )
    assert shown[2] == f"  in `{path}`"
    assert not (tmp_path / "runs").exists()


def test_evaluate_refuses_a_line_before_anything_is_submitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_stub_search(tmp_path)
    (tmp_path / "list.jsonl").write_text('{"model": "minilm-l1", "method": "full", "params": {"lr": 0.1}}\n')

    status = cli.main(["evaluate", "list.jsonl", str(path), "--quiet"])

    shown = capsys.readouterr().err.splitlines()
    where = f"`{tmp_path / 'list.jsonl'}` line 1: params: method full"
    assert status == 2
    assert shown[0].startswith(f"xautolm-hpc: {where} has no parameter 'lr'; valid: ")
    assert shown[1] == f"{where} lacks the parameters learning_rate, batch_size, max_length, epochs"
    assert not (tmp_path / "runs").exists()


def test_a_run_that_has_trials_goes_on_and_says_what_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, stub_run_dir: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_stub_search(tmp_path, earlier_dir=stub_run_dir)
    path.write_text(path.read_text() + WRONG.replace("batch_size = [8.0]\n", ""))
    with monkeypatch.context() as earlier:
        earlier.setattr(config, "find_refused", lambda written: [])
        assert cli.main(["run", str(path), "--quiet"]) == 0
    capsys.readouterr()

    status = cli.main(["run", str(path), "--set", "budget.generations=2"])
    shown = " ".join(capsys.readouterr().err.split())

    assert status == 0
    assert "space.params.full.lr: method full has no parameter 'lr'" in shown
    assert "A new search would be refused; this one has trials and goes on" in shown
    assert cli.main(["run", str(path), "--fork", "again"]) == 2


def test_a_fork_goes_into_a_folder_of_its_own_name_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = write_stub_search(tmp_path / "here")
    before = sorted(tmp_path.rglob("*"))

    status = cli.main(["run", str(path), "--fork", "../../x"])

    assert status == 2
    assert "--fork '../../x': expected letters, digits" in " ".join(capsys.readouterr().err.split())
    assert sorted(tmp_path.rglob("*")) == before
