"""The design of the seed store."""

import gzip
import json
from pathlib import Path

from benchmarks import seed_data, seed_design


def test_the_design_is_drawn_once() -> None:
    drawn = seed_design.draw_pipelines()
    assert drawn == seed_design.draw_pipelines()
    assert len(seed_design.with_seeds(drawn)) == 200
    assert sum(line["params"]["learning_rate"] == 300.0 for line in drawn) == 5


def test_a_question_that_no_span_answers_is_not_trained_on_and_counts_nothing() -> None:
    rows = [{"context": "red fox", "answers": ["fox", "2"]}, {"context": "red fox", "answers": ["2"]}]
    assert seed_data.make_extractive(rows, is_train=True) == [{"context": "red fox", "answers": ["fox"]}]
    assert [row["answers"] for row in seed_data.make_extractive(rows, is_train=False)] == [["fox"], []]


def test_the_share_of_rows_of_two_tasks_is_that_of_the_smaller(tmp_path: Path) -> None:
    for name, texts in (("a", ["x", "y", "z", "w"]), ("b", ["x", "q"])):
        (tmp_path / name).mkdir()
        with gzip.open(tmp_path / name / "train.jsonl.gz", "wt") as out:
            out.writelines(json.dumps({"text": text}) + "\n" for text in texts)

    assert seed_data.shared_rows([tmp_path / "a", tmp_path / "b"]) == {"a": {"b": 0.5}, "b": {"a": 0.5}}
