"""What the page leaves out, moves apart or calls otherwise, so that it can be read at every width and of few trials."""

import pytest

from tests.report.facts import facts, failure, success
from tests.report.page.test_page import parsed
from xautolm_hpc.report import summarise, to_html
from xautolm_hpc.report.figure_numbers import figure_numbers


def test_hyperparameters_that_never_differ_are_said_once_above_the_table() -> None:
    same = {"max_length": 32, "gradient_accumulation_steps": 1}
    trials = [success(n, params={"learning_rate": 1e-5 * (n + 1), **same}) for n in range(3)]
    trials.append(failure(3, "gpu_oom", params={"learning_rate": 1e-5, "lora_r": 8, **same}))

    page = parsed(to_html(summarise(facts(trials))))

    (section,) = page.find("section", id="trials")
    keys = [head.attributes["data-key"] or "" for head in section.find("th", scope="col")]
    assert [key for key in keys if key.startswith("params.")] == ["params.learning_rate", "params.lora_r"]
    assert "All trials: max_length = 32, gradient_accumulation_steps = 1." in section.text()


def test_one_trial_has_every_hyperparameter_in_the_table() -> None:
    page = parsed(to_html(summarise(facts([success(0, params={"max_length": 32})]))))

    assert [head.attributes["data-key"] for head in page.find("th") if head.find("wbr")] == ["params.max_length"]


@pytest.mark.parametrize(("n_trials", "best"), [(3, "the best trial by F1"), (10, "the best tenth by F1")])
def test_a_tenth_of_few_trials_is_called_the_best_trial(n_trials: int, best: str) -> None:
    trials = [success(n, f1=0.5 + 0.01 * n, params={"learning_rate": 1e-5 * (n + 1)}) for n in range(n_trials)]

    (section,) = parsed(to_html(summarise(facts(trials)))).find("section", id="parameters")

    assert [item.text().strip() for item in section.find("li", **{"class": "best"})] == [best]
    assert len(section.find("g", **{"class": "curve best"})) == 1


def test_failures_at_one_cost_stand_apart() -> None:
    trials = [success(0, evaluation_time_s=5.0)]
    trials += [failure(n, "time_limit", train_s=100.0 + n / 100) for n in range(1, 6)]
    trials += [failure(n, "gpu_oom", train_s=100.0) for n in range(6, 8)]

    (section,) = parsed(to_html(summarise(facts(trials, objectives=("f1", "evaluation_time_s"))))).find(
        "section", id="pareto"
    )

    paths = [
        path.attributes["d"] or "" for path in section.find("path") if "failed" in (path.attributes["class"] or "")
    ]
    places = [tuple(map(float, path[1 : path.index("l")].split())) for path in paths]
    assert len(places) == 7
    assert all(abs(a - c) >= 8 or abs(b - d) >= 8 for n, (a, b) in enumerate(places) for c, d in places[:n])


def test_trials_of_one_evaluation_are_dots_with_their_numbers_and_no_baseline_of_other_rows() -> None:
    trials = [success(n, curve=((1.0, 0.5, 0.5, 0.9 - 0.1 * n, 3.0 + n),)) for n in range(3)]
    trials.append(success(3, curve=((1.0, 0.5, 0.5, 0.3, 2.0), (2.0, 0.5, 0.5, 0.4, 4.0))))
    summary = summarise(facts(trials))

    (section,) = parsed(to_html(summary)).find("section", id="curves")

    assert [text.text() for text in section.find("text", **{"class": "trial"})] == ["0", "1", "2"]
    assert len(section.find("circle")) == 3
    assert not section.find("line", **{"class": "baseline"})
    assert "majority" not in figure_numbers(summary)["curves"]


def test_what_is_unknown_stands_below_the_heading_of_its_numbers() -> None:
    curve = ((1.0, 0.5, 0.5, 0.4, 3.0),)
    trials = [success(0, curve=curve, params={"lora_r": 8, "name": "a"}), failure(1, "lost", params={"name": "b"})]

    (table,) = parsed(to_html(summarise(facts(trials)))).find("table", id="trials-table")

    head, *rows = table.find("tr")
    for key, is_right in (("epochs_run", True), ("params.lora_r", True), ("params.name", False), ("model", False)):
        place = [th.attributes["data-key"] for th in head.find("th")].index(key)
        cells = [head.find("th")[place], *(row.find("td")[place - 1] for row in rows)]
        assert [cell.attributes.get("class") == "number" for cell in cells] == [is_right] * 3
