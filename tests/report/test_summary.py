"""The numbers of a report, against results built by hand."""

import json
import math

import pytest

from tests.report.facts import facts, failure, success
from xautolm_hpc.report import to_html, to_markdown
from xautolm_hpc.report.prior_sections import TIME_COUNTS, prior_sections
from xautolm_hpc.report.summary import summarise, summarise_prior
from xautolm_hpc.view import Spent

PRIOR = {
    "kind": "xautolm",
    "counts": {"records": 9, "skipped": {"infrastructure": 2}, "positives": 4, "negatives": 3},
    "models": {"tiny": {"uniform": 0.5, "prior": 0.3}, "base": {"uniform": 0.5, "prior": 0.7}},
    "methods": {"full": {"uniform": 1.0, "prior": 1.0}},
    "distribution": {"models": {}, "methods": {}, "params": {}},
    "top": {"models": {"base": [{"id": "a" * 32, "contribution": 0.2}]}, "methods": {}},
}


def test_trials_are_sorted_into_front_dominated_unranked_and_failed() -> None:
    trials = [
        success(0, f1=0.9, evaluation_time_s=50.0),
        success(1, f1=0.8, evaluation_time_s=60.0),
        success(2, f1=0.7, evaluation_time_s=20.0),
        success(3, f1=0.95, evaluation_time_s=None),
        failure(4, "diverged"),
    ]

    summary = summarise(facts(trials))

    groups = {name: [t["trial"] for t in summary[name]] for name in ("front", "dominated", "unranked", "failed")}
    assert groups == {"front": [0, 2], "dominated": [1], "unranked": [3], "failed": [4]}


def test_the_best_is_that_of_the_first_objective_and_its_margin_is_over_the_majority() -> None:
    trials = [success(0, f1=0.6, evaluation_time_s=10.0), success(1, f1=0.8, evaluation_time_s=90.0)]

    by_f1 = summarise(facts(trials, majority_f1=0.25))
    by_time = summarise(facts(trials, majority_f1=0.25, objectives=("evaluation_time_s", "f1")))

    assert (by_f1["best"]["trial"], by_f1["margin"]) == (1, pytest.approx(0.55))
    assert (by_time["best"]["trial"], by_time["margin"]) == (0, pytest.approx(0.35))


def test_of_equally_good_trials_the_best_is_the_cheaper_one() -> None:
    trials = [success(0, f1=0.8, evaluation_time_s=90.0), success(1, f1=0.8, evaluation_time_s=10.0)]

    assert summarise(facts(trials))["best"]["trial"] == 1


def test_a_trial_that_was_cancelled_is_not_counted_as_failed() -> None:
    summary = summarise(facts([success(0, f1=0.7), failure(1, "cancelled"), failure(2, "host_oom")]))

    counts = summary["counts"]
    assert (counts["succeeded"], counts["failed"], counts["cancelled"]) == (1, 1, 1)
    assert (counts["failed_pipeline"], counts["failed_infrastructure"]) == (1, 0)


def test_a_retried_trial_counts_once_by_its_last_attempt() -> None:
    attempts = [
        failure(0, "node_failure", message="node n1 is gone"),
        success(0, attempt=1, f1=0.7),
        failure(1, "host_oom", message="first"),
        failure(1, "host_oom", attempt=1, message="second"),
        failure(2, "preempted", restart=2),
    ]

    summary = summarise(facts(attempts))

    assert summary["counts"] == {
        "trials": 3,
        "succeeded": 1,
        "cancelled": 0,
        "failed": 2,
        "failed_pipeline": 1,
        "failed_infrastructure": 1,
        "attempts": 5,
        "retries": 2,
        "restarts": 2,
        "suspect": 0,
        "truncated": 0,
    }
    assert (summary["front"][0]["attempt"], summary["front"][0]["n_attempts"]) == (1, 2)


def test_failures_are_counted_by_kind_over_trials_and_attempts_with_their_latest_message() -> None:
    attempts = [
        failure(0, "node_failure", message="node n1 is gone"),
        success(0, attempt=1),
        failure(1, "host_oom", message="first"),
        failure(1, "host_oom", attempt=1, message="second"),
        failure(2, "gpu_oom"),
    ]

    failures = summarise(facts(attempts))["failures"]

    assert failures == [
        {"origin": "pipeline", "kind": "host_oom", "trials": 1, "attempts": 2, "message": "second", "reason": "second"},
        {"origin": "pipeline", "kind": "gpu_oom", "trials": 1, "attempts": 1, "message": None, "reason": None},
        {
            "origin": "infrastructure",
            "kind": "node_failure",
            "trials": 0,
            "attempts": 1,
            "message": "node n1 is gone",
            "reason": "node n1 is gone",
        },
    ]


def test_a_run_without_any_success_has_no_best_and_no_margin() -> None:
    summary = summarise(facts([failure(0, "gpu_oom"), failure(1, "lost")]))

    assert summary["best"] is None
    assert summary["margin"] is None
    assert summary["front"] == []


def test_costs_are_given_in_their_units() -> None:
    spent = Spent(n_generations=2, n_trials=3, wall_s=100.0, gpu_s=7200.0, trial_s=50.0, energy_j=7.2e6)
    measured = success(0, gpu_energy_j=7.2e6, energy_source="nvml-counter", energy_scope="whole-gpu")

    cost = summarise(facts([measured, failure(1, "gpu_oom")], spent=spent))["spent"]

    assert cost == {
        "generations": 2,
        "trials": 3,
        "wall_s": 100.0,
        "trial_s": 50.0,
        "failed_s": 120.0,
        "gpu_h": 2.0,
        "without_gpu": False,
        "energy_kwh": 2.0,
        "attempts_with_energy": 1,
        "energy_sources": ["nvml-counter"],
        "energy_scopes": ["whole-gpu"],
    }


def test_energy_that_nothing_measured_is_unknown_and_not_zero() -> None:
    cost = summarise(facts([success(0)], spent=Spent(energy_j=None)))["spent"]

    assert cost["energy_kwh"] is None
    assert cost["attempts_with_energy"] == 0


def test_rejections_come_with_the_most_frequent_constraint_first() -> None:
    rejections = summarise(facts([], rejections={"context_length": 4, "memory": 9, "duplicate": 4}))["refusals"]

    assert list(rejections.items()) == [("memory", 9), ("context_length", 4), ("duplicate", 4)]


def test_the_prior_is_set_against_uniform_most_probable_first() -> None:
    prior = summarise(facts([], prior=PRIOR))["prior"]

    assert prior["models"] == [
        {"name": "base", "prior": 0.7, "uniform": 0.5, "moved_by": [{"id": "a" * 32, "contribution": 0.2}]},
        {"name": "tiny", "prior": 0.3, "uniform": 0.5, "moved_by": []},
    ]
    assert prior["counts"]["positives"] == 4


def test_a_prior_of_which_only_the_kind_is_known_is_summed_up_too() -> None:
    prior = summarise(facts([], prior={"kind": "uniform"}))["prior"]

    assert prior == {"kind": "uniform", "additions": None, "counts": {}, "models": [], "methods": [], "forecast": {}}


def test_a_summary_survives_json_also_with_values_that_json_has_no_word_for() -> None:
    odd = success(0, f1=0.5, gpu_energy_j=math.inf, queue_s=math.nan)

    summary = summarise(facts([odd], majority_f1=math.nan, prior=PRIOR))

    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert (summary["front"][0]["gpu_energy_j"], summary["front"][0]["queue_s"]) == (None, None)
    assert summary["margin"] is None


def test_what_a_prior_forecasts_is_shown_by_model_and_method() -> None:
    forecast = {"risk: memory": 0.25, "success": 0.75, "merit: f1": 0.5}
    prior = {**PRIOR, "forecast": {"models": {"base": forecast, "tiny": {}}, "methods": {"full": forecast}}, "top": {}}

    sections = {section.title: section for section in prior_sections(summarise_prior(prior))}

    table = sections["Forecast: models"].table
    assert table is not None
    assert table.columns == ("Model", "Risk: memory", "Success", "Utility: F1")
    assert table.rows == (("base", "0.25", "0.75", "0.50"),)
    assert "Forecast: methods" in sections
    assert TIME_COUNTS not in sections["Forecast: models"].lines
    timed = {"models": {"base": {**forecast, "merit: evaluation_time_s": 0.5}}}
    assert TIME_COUNTS in prior_sections(summarise_prior({**prior, "forecast": timed}))[3].lines
    assert "Forecast: models" not in {s.title for s in prior_sections(summarise_prior({**PRIOR, "top": {}}))}


def test_with_one_objective_there_is_a_best_trial_and_no_pareto_set() -> None:
    trials = [success(0, f1=0.9), success(1, f1=0.5), success(2, f1=0.6)]
    alone, equal, none = (
        summarise(facts(given, objectives=("f1",)))
        for given in (trials, [*trials, success(3, f1=0.9)], [failure(0, "gpu_oom")])
    )

    text, page = to_markdown(alone), to_html(alone)

    assert "## Best trial\n\n2 other trials are worse in F1." in text
    assert "## Hyperparameters of the best trial" in text
    assert "![First objective against the second, with failures](pareto.png)" in text
    assert "2 other trials are worse in F1." in page
    assert "## Hyperparameters of the best trials" in to_markdown(equal)
    assert "## Best trial\n\nNo trial succeeded." in to_markdown(none)
    for shown in (text, page):
        assert "Pareto set" not in shown
        assert "ominated" not in shown.replace('class="dominated"', "").replace(".dominated", "")
