"""The design of the seed store."""

import seed_data
import seed_design


def test_the_design_is_drawn_once() -> None:
    drawn = seed_design.draw_pipelines()
    assert drawn == seed_design.draw_pipelines()
    assert len(seed_design.with_seeds(drawn)) == 200
    assert sum(line["params"]["learning_rate"] == 300.0 for line in drawn) == 5


def test_a_question_that_no_span_answers_is_not_trained_on_and_counts_nothing() -> None:
    rows = [{"context": "red fox", "answers": ["fox", "2"]}, {"context": "red fox", "answers": ["2"]}]
    assert seed_data.make_extractive(rows, is_train=True) == [{"context": "red fox", "answers": ["fox"]}]
    assert [row["answers"] for row in seed_data.make_extractive(rows, is_train=False)] == [["fox"], []]
