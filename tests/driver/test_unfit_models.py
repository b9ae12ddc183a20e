"""Models whose files do not fit together: found before the first trial, or left out once a trial has shown it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.driving import end_attempt, ledger_of, make_setup, projection, search_in
from tests.fakes import FakeLauncher, failed_end, stub_end
from tests.searching import run_command
from tests.train.families import labelled_rows, write_model
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.durable import read_json
from xautolm_hpc.jobdir import PIPELINE, End

UNFIT = "minilm-l2"
REASON = f"model {UNFIT}: its weights do not fit its architecture"


def _end(attempt_dir: Path) -> End | None:
    """End a trial of one model as its worker does when the weights do not fit, any other as usual."""
    plan = read_json(attempt_dir / PIPELINE)
    if plan["model"]["id"] != UNFIT:
        return stub_end(attempt_dir)
    return replace(failed_end("data_unavailable", message=REASON), is_model_unfit=True)


def _launcher() -> FakeLauncher:
    return FakeLauncher(lambda attempt_dir: end_attempt(attempt_dir, trial_end=_end))


def _models(folder: Path) -> list[str]:
    drawn: list[Any] = [line for line in ledger_of(folder) if line["event"] == "drawn"]
    return [plan["pipeline"]["model_id"] for line in drawn for plan in line["plans"]]


def test_a_model_that_does_not_fit_gets_no_second_attempt_and_is_not_drawn_again(tmp_path: Path) -> None:
    search_in(tmp_path, launcher=_launcher())

    (out,) = [line for line in ledger_of(tmp_path) if line["event"] == "model_out"]
    models = _models(tmp_path)
    assert (out["model"], out["reason"], out["from_trial"]) == (UNFIT, REASON, 4)
    assert UNFIT in models[:4]
    assert UNFIT not in models[4:]
    assert len(models) == 12
    attempts = [line["attempt"] for line in ledger_of(tmp_path) if line["event"] == "end"]
    assert set(attempts) == {0}


def _cut_before(event: str) -> Callable[[list[str]], int]:
    return lambda lines: next(n for n, line in enumerate(lines) if json.loads(line)["event"] == event)


def _cut_after_first_commit(lines: list[str]) -> int:
    return 1 + next(n for n, line in enumerate(lines) if json.loads(line)["event"] == "commit")


@pytest.mark.parametrize("cut", [_cut_before("model_out"), _cut_after_first_commit])
def test_a_resumed_search_leaves_the_model_out_from_the_same_trial_on(
    tmp_path: Path, cut: Callable[[list[str]], int]
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    for folder in (whole, resumed):
        folder.mkdir()
        search_in(folder, launcher=_launcher())
    ledger_path = resumed / "runs" / "fake" / "ledger.jsonl"
    lines = ledger_path.read_text().splitlines(keepends=True)
    ledger_path.write_text("".join(lines[: cut(lines)]))

    run_search(make_setup(resumed, launcher=_launcher()))

    assert _models(resumed) == _models(whole)
    assert projection(resumed) == projection(whole)
    (out,) = [line for line in ledger_of(resumed) if line["event"] == "model_out"]
    assert out["from_trial"] == 4


def test_a_node_is_not_blamed_for_a_model_that_does_not_fit(tmp_path: Path) -> None:
    launcher = _launcher()

    search_in(tmp_path, launcher=launcher)

    assert {submission.resources.exclude for submission in launcher.submissions} == {()}


SEARCH = """
name = "unfit"
[task]
name = "towns"
[data]
path = "rows.jsonl"
[space]
models = ["fits", "lacks-a-layer"]
methods = ["head"]
[search]
population = 2
[budget]
generations = 1
[store]
path = "store"
"""
MODEL = """
[[model]]
id = "{id}"
path = "{path}"
"""


def test_run_ends_with_status_2_before_the_first_trial_and_names_model_and_tensor(tmp_path: Path) -> None:
    text = SEARCH
    for name in ("fits", "lacks-a-layer"):
        write_model(tmp_path / name, "bert")
        text += MODEL.format(id=name, path=tmp_path / name)
    path = tmp_path / "lacks-a-layer" / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(path).items() if ".layer.1." not in name}
    save_file(kept, path, metadata={"format": "pt"})
    rows = [{"text": f"{row['text']} {n}", "label": row["label"]} for n in range(3) for row in labelled_rows()]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "search.toml").write_text(text)

    ended = run_command(tmp_path, "run", "search.toml", "--quiet")

    assert ended.returncode == 2, ended.stderr
    said = " ".join(ended.stderr.split())
    assert "model lacks-a-layer: its weights in" in said
    assert "bert.encoder.layer.1.attention.self.query.weight is missing" in said
    assert "model fits" not in said
    assert not [line for line in ledger_of(tmp_path, "unfit") if line["event"] == "drawn"]
