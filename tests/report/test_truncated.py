"""A truncated success is marked wherever it is shown: its F1 is a lower bound."""

import json
from pathlib import Path

from tests.report.facts import facts, success
from tests.report.test_curves import curve
from xautolm_hpc.report import summarise, to_markdown, write_report
from xautolm_hpc.report.curves import find_curves
from xautolm_hpc.report.figure_data import build_figure_data
from xautolm_hpc.report.frame import best_text
from xautolm_hpc.report.sections import report_sections, totals_line
from xautolm_hpc.view import BestTrial

WHOLE = success(0, f1=0.6, evaluation_time_s=50.0, truncated=False, curve=curve(0.4, 0.5, 0.6))
CUT = success(1, f1=0.8, truncated=True, epochs_done=1.5, curve=curve(0.7))
TESTS = {0: {"f1": 0.5}, 1: {"f1": 0.75}}


def test_tables_show_a_lower_bound_and_the_part_of_the_epochs() -> None:
    table = next(s.table for s in report_sections(summarise(facts([WHOLE, CUT]))) if s.title == "Pareto set")

    assert table is not None
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [(row["Trial"], row["F1"], row["Epochs run"]) for row in rows] == [
        ("1", "≥ 0.8000", "1.5 of 3"),
        ("0", "0.6000", "3 of 3"),
    ]


def test_overview_totals_tests_and_curves_name_it() -> None:
    summary = summarise(facts([WHOLE, CUT], tests=TESTS))

    shown = to_markdown(summary)
    assert "(truncated: evaluated when the time was used up, before training had ended)" in shown
    assert "2: 2 succeeded, 0 failed by their pipeline, 0 by the infrastructure; 1 of the successes truncated" in shown
    assert "| 1 (truncated) | 0.7500 |" in shown
    assert "2 succeeded, 0 failed; 1 truncated" in totals_line(summary)
    assert [(one.trial, one.end) for one in find_curves(summary)] == [(1, "truncated"), (0, "succeeded")]
    assert [mark.text for mark in build_figure_data(summary).front] == [
        "1: distilbert-base-uncased, full, truncated", "0: distilbert-base-uncased, full"
    ]  # fmt: skip


def test_the_page_and_its_verdict_name_it(tmp_path: Path) -> None:
    write_report(facts([WHOLE, CUT], tests=TESTS), tmp_path)

    page = (tmp_path / "report.html").read_text()
    assert "Its time was used up before its training had ended: its F1 is a lower bound." in page
    assert "F1 of the best trial on validation, a lower bound" in page
    assert '<option value="truncated">' in page or ">truncated<" in page


def test_the_json_report_says_of_each_trial_if_it_is_truncated(tmp_path: Path) -> None:
    write_report(facts([WHOLE, CUT, success(2)]), tmp_path)

    written = json.loads((tmp_path / "report.json").read_text())
    trials = [*written["front"], *written["dominated"]]
    assert {t["trial"]: (t["truncated"], t["epochs_done"]) for t in trials} == {
        0: (False, None), 1: (True, 1.5), 2: (None, None)
    }  # fmt: skip
    assert written["counts"]["truncated"] == 1


def test_the_best_trial_so_far_is_marked() -> None:
    best = BestTrial(trial=3, model="m", method="head", f1=0.5, truncated=True)

    assert best_text(best) == "best F1 0.5000 (trial 3, m, head, truncated)"
