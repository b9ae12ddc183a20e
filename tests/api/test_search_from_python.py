"""A search from a data frame to an exported model that answers new rows, without a command line."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import xautolm_hpc
from tests.api.conftest import SETTINGS, SPACE, frame
from tests.driving import search_in
from xautolm_hpc import cli
from xautolm_hpc.durable import read_json
from xautolm_hpc.errors import InputError, NoStoreError, RunFolderError, XAutoLMError


@pytest.mark.slow
def test_a_run_has_its_trials_its_best_and_its_pareto_set(searched: "xautolm_hpc.Run") -> None:
    summary = read_json(searched.path / "report" / "report.json")

    trials, best = searched.trials, searched.best

    assert isinstance(trials, pd.DataFrame)
    assert trials["trial"].tolist() == [0, 1]
    assert set(trials["model"]) == {"minilm-l1"}
    assert trials["f1"].max() == pytest.approx(summary["best"]["metrics"]["f1"])
    assert "params.learning_rate" in trials.columns
    assert best == summary["best"]
    assert searched.pareto["trial"].tolist() == [trial["trial"] for trial in summary["front"]]
    assert set(summary["certainty"]["intervals"][str(summary["best"]["trial"])]) == {"validation", "test"}


@pytest.mark.slow
def test_the_page_is_written_anew(searched: "xautolm_hpc.Run") -> None:
    page = searched.path / "report" / "report.html"
    page.unlink()

    assert searched.report() == page
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.slow
def test_the_store_has_what_the_search_learnt(searched: "xautolm_hpc.Run", runs_dir: Path, tmp_path: Path) -> None:
    store = xautolm_hpc.Store.open(runs_dir / "store")
    copy = xautolm_hpc.Store.open(tmp_path / "merged")

    copy.merge(store)

    rows = store.frame()
    assert len(store) == len(copy) == len(rows) == 2
    assert rows["f1"].tolist() == [e.outcome.metrics["f1"] for e in store]
    assert searched.best is not None
    assert searched.best["experience"] in set(rows["id"])


@pytest.mark.slow
def test_an_exported_model_answers_a_file(
    searched: "xautolm_hpc.Run", tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert searched.best is not None
    folder = searched.export(searched.best["trial"], tmp_path / "model")
    rows = frame().head(5)
    rows[["body"]].to_csv(tmp_path / "new.csv", index=False)
    capfd.readouterr()

    status = cli.main(["predict", str(folder), str(tmp_path / "new.csv")])

    answers = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert status == 0
    assert len(answers) == len(rows)
    assert {answer["label"] for answer in answers} <= set(frame()["label"])


@pytest.mark.slow
def test_a_search_that_has_ended_stays_as_it_is(searched: "xautolm_hpc.Run", runs_dir: Path) -> None:
    before = searched.trials

    again = searched.resume()
    same = xautolm_hpc.search(frame(), name="tickets", store=runs_dir / "store", runs_dir=runs_dir, **SETTINGS)

    assert again.path == same.path == searched.path
    pd.testing.assert_frame_equal(again.trials, before)


@pytest.mark.slow
def test_other_data_under_the_name_of_a_search_are_refused(searched: "xautolm_hpc.Run", runs_dir: Path) -> None:
    with pytest.raises(InputError, match=r"tickets\.data\.jsonl` holds other data"):
        xautolm_hpc.search(frame().head(50), name=searched.path.name, runs_dir=runs_dir)


@pytest.mark.slow
def test_wrong_answers_are_shown_with_their_texts_only_on_request(
    searched: "xautolm_hpc.Run", capsys: pytest.CaptureFixture[str]
) -> None:
    page = searched.path / "report" / "report.html"

    assert cli.main(["report", str(searched.path), "--show-texts", "--json"]) == 0
    examples = json.loads(capsys.readouterr().out)["wrong_answers"]
    with_texts = page.read_text()
    assert cli.main(["report", str(searched.path), "--page"]) == 0

    assert len(examples) == 5
    assert all(example["expected"] != example["given"] for example in examples)
    assert "Wrong answers" in with_texts
    assert "Wrong answers" not in page.read_text()
    assert f"page: {page}" in capsys.readouterr().out


@pytest.mark.parametrize("data", [7, [], ["text"], {"text": "a"}])
def test_data_of_no_known_form_are_refused(tmp_path: Path, data: object) -> None:
    with pytest.raises(InputError, match="expected a data frame"):
        xautolm_hpc.search(data, name="x", runs_dir=tmp_path)


def test_a_value_that_no_file_holds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="JSON has not"):
        xautolm_hpc.search([{"text": object()}], name="x", runs_dir=tmp_path)


def test_a_name_that_is_none_of_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name"):
        xautolm_hpc.search([{"text": "a", "label": "b"}], name="../x", runs_dir=tmp_path)


def test_a_store_that_comes_with_the_program_is_not_searched_into(tmp_path: Path) -> None:
    rows = frame().head(60)

    with pytest.raises(XAutoLMError, match="comes with this program and is only read"):
        xautolm_hpc.search(rows, name="x", store="package:seed", runs_dir=tmp_path, space=SPACE)


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no run"):
        xautolm_hpc.Run.open(tmp_path / "gone")


def test_a_run_is_found_by_its_name_and_shows_its_state_and_best_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = search_in(tmp_path)
    best = max(e.outcome.metrics["f1"] for e in facts.experiences if e.outcome.succeeded)
    monkeypatch.chdir(tmp_path)

    run = xautolm_hpc.Run.open("fake")

    assert run.path == tmp_path / "runs" / "fake"
    assert repr(run) == f"<Run fake: ended, best f1 {best:.4g}>"
    with pytest.raises(RunFolderError, match="no run 'tweets' below `runs`; there are: fake"):
        xautolm_hpc.Run.open("tweets")


def test_an_unknown_argument_is_named_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^argument `budgett`: unknown; valid: data, name, .*, budget, "):
        xautolm_hpc.search([{"text": "a", "label": "b"}], name="x", runs_dir=tmp_path / "r", budgett={"trials": 1})

    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        ("budget", 8, "argument `budget` is 8; expected a mapping with keys of generations, trials, wall_h, "),
        ("task", "ner", "argument `task` is 'ner'; expected a mapping with keys of name, "),
        ("data", [1], r"argument `data` is \[1\]; expected a mapping with keys of hub, "),
        ("data", {"path": "other.csv"}, "argument `data` has `path` 'other.csv'; the first argument says where "),
        ("model", [1], r"argument `model` is \[1\]; expected a list of mappings"),
        ("model", {"id": "a"}, r"argument `model` is \{'id': 'a'\}; expected a list of mappings"),
    ],
)
def test_a_section_of_another_form_is_refused_before_anything_is_written(
    tmp_path: Path, section: str, value: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        xautolm_hpc.search([{"text": "a", "label": "b"}], name="x", runs_dir=tmp_path / "r", **{section: value})

    assert not (tmp_path / "r").exists()


def test_a_section_data_names_the_column_of_texts(tmp_path: Path) -> None:
    rows = frame().assign(title=[f"title {n}" for n in range(len(frame()))])

    with pytest.raises(InputError, match=r"budget\.trials"):  # it ends before the first trial
        xautolm_hpc.search(rows, name="x", runs_dir=tmp_path, data={"text": "title"}, budget={"trials": 0})

    assert tomllib.loads((tmp_path / "x.toml").read_text())["data"]["text"] == "title"


def test_a_store_that_is_not_there_is_empty_and_has_no_frame(tmp_path: Path) -> None:
    store = xautolm_hpc.Store.open(tmp_path / "store")

    assert len(store) == 0
    with pytest.raises(NoStoreError, match=r"no store at `.*store`"):
        store.frame()


LIGHT = """
import sys
import xautolm_hpc
assert xautolm_hpc.__version__
heavy = {"numpy", "pydantic", "rich", "h5py", "pandas", "torch", "sklearn", "matplotlib", "submitit", "xautolm_hpc.api"}
print(sorted(heavy & set(sys.modules)))
assert callable(xautolm_hpc.search)
print("xautolm_hpc.api" in sys.modules, sorted({"torch", "pandas", "sklearn", "matplotlib"} & set(sys.modules)))
"""


def test_importing_the_package_imports_nothing_of_weight() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == ["[]", "True []"]


MISTYPED = "serach"


def test_a_name_that_the_package_has_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="it has: Run, Store, __version__, search"):
        getattr(xautolm_hpc, MISTYPED)
