"""How sure the best trial is, told from what the trials answered."""

from typing import Any

import numpy as np
import pytest

from tests import nouns
from tests.report.facts import facts, failure, success
from tests.report.large_run import answers, large_run
from xautolm_hpc.predictions import Predictions
from xautolm_hpc.records import Experience
from xautolm_hpc.report import summarise, to_html
from xautolm_hpc.report.certainty import COMES, MOST_LABELS, MOST_LIVE_LABELS, N_RIVALS, certainty_sentences
from xautolm_hpc.report.intervals import difference_interval, f1_interval, f1_of
from xautolm_hpc.report.run_in_words import verdict_sentences
from xautolm_hpc.report.sections import report_sections
from xautolm_hpc.view import UNFINISHED


def of_quality(**shares: float) -> Any:
    """Build the answers of trials: ``t3 = 0.9`` is right on the first 90 % of 400 rows; others are unknown."""

    def given(experience: Experience, split: str) -> Predictions | None:
        share = shares.get(f"t{experience.provenance.trial}")
        if share is None or split != "validation":
            return None
        truth = np.arange(400) % 3
        predicted = np.where(np.arange(400) < share * 400, truth, (truth + 1) % 3)
        return Predictions(truth=truth, predicted=predicted, n_classes=3)

    return given


def test_trials_that_the_same_rows_cannot_tell_apart_are_named() -> None:
    def given(experience: Experience, split: str) -> Predictions:
        errors = {0: range(40), 1: range(40, 82), 2: range(200)}[experience.provenance.trial]
        truth = np.arange(400) % 3
        predicted = truth.copy()
        predicted[list(errors)] = (truth[list(errors)] + 1) % 3
        return Predictions(truth=truth, predicted=predicted, n_classes=3)

    trials = [success(0, f1=0.9), success(1, f1=0.895), success(2, f1=0.5)]

    summary = summarise(facts(trials, answers=given))

    assert summary["certainty"]["compared"] == [1, 2]
    assert summary["certainty"]["within_noise"] == [1]
    best, rival = (given(trial, "validation") for trial in trials[:2])
    found, lower = difference_interval(best, rival), f1_of(best) - f1_of(rival)
    assert found is not None
    assert summary["certainty"]["behind"]["1"] == [lower, found.low, found.high]
    assert (
        f"Trial 1 is within noise of it on the same rows: it is lower by {lower:.4f} (95 % interval of the difference "
        f"{found.low:.4f} to {found.high:.4f}). Another sample of rows could turn the order."
    ) in verdict_sentences(summary)


def test_each_of_several_trials_within_noise_has_its_difference() -> None:
    behind = {"1": [0.01, -0.02, 0.03], "4": [0.02, -0.01, 0.05], "5": [0.3, 0.2, 0.4]}
    summary = summarise(facts([success(0, f1=0.9)]))
    summary["certainty"] |= {"compared": [1, 4, 5], "within_noise": [1, 4]}

    older = certainty_sentences(summary)[0]
    summary["certainty"]["behind"] = behind
    said = certainty_sentences(summary)[0]

    assert older == (
        "Trials 1 and 4 are within noise of it on the same rows. Another sample of rows could turn the order."
    )
    assert said == (
        "Trials 1 and 4 are within noise of it on the same rows: they are lower by 0.0100 (95 % interval of the "
        "difference -0.0200 to 0.0300) and 0.0200 (-0.0100 to 0.0500). Another sample of rows could turn the order."
    )


def test_a_best_trial_that_is_clearly_ahead_is_called_so() -> None:
    trials = [success(0, f1=0.9), success(1, f1=0.5)]

    summary = summarise(facts(trials, answers=of_quality(t0=0.9, t1=0.5)))

    assert summary["certainty"]["within_noise"] == []
    assert "ahead of the next 1 trial by more than noise" in " ".join(certainty_sentences(summary))


def test_intervals_are_those_of_the_answers_and_stand_in_the_verdict() -> None:
    given = of_quality(t0=0.8)
    trial = success(0, f1=0.8)

    summary = summarise(facts([trial], answers=given))

    interval = f1_interval(given(trial, "validation"))
    assert interval is not None
    assert summary["certainty"]["intervals"] == {"0": {"validation": [interval.low, interval.high]}}
    assert f"(95 % interval {interval.low:.4f} to {interval.high:.4f})" in verdict_sentences(summary)[0]


def test_where_answers_are_unknown_nothing_is_said() -> None:
    summary = summarise(facts([success(0, f1=0.8), success(1, f1=0.7)]))

    assert summary["certainty"] == {
        "level": 0.95, "intervals": {}, "compared": None, "within_noise": None, "classes": [],
        "classes_on": None, "confusion": None, "majority_test": None,
    }  # fmt: skip
    assert certainty_sentences(summary) == []
    assert "interval" not in " ".join(verdict_sentences(summary))


def test_a_best_trial_by_another_objective_is_compared_with_none() -> None:
    trials = [success(0, f1=0.9, evaluation_time_s=9.0), success(1, f1=0.5, evaluation_time_s=1.0)]

    summary = summarise(facts(trials, objectives=("evaluation_time_s", "f1"), answers=of_quality(t0=0.9, t1=0.5)))

    assert summary["certainty"]["compared"] is None
    assert set(summary["certainty"]["intervals"]) == {"0", "1"}


def test_classes_are_listed_with_the_worst_first_and_counted_on_test_if_it_was_used() -> None:
    run = large_run(12)

    certainty = summarise(run)["certainty"]

    assert certainty["confusion"]["split"] == certainty["classes_on"] == "test"
    assert np.array(certainty["confusion"]["counts"]).sum() == 500
    scores = [row["f1"] for row in certainty["classes"]]
    assert scores == sorted(scores)
    assert {row["label"] for row in certainty["classes"]} == set(run.task.labels)


def test_few_trials_are_asked_for_their_answers() -> None:
    asked: list[int] = []

    def given(experience: Experience, split: str) -> Predictions:
        asked.append(experience.provenance.trial)
        return answers(experience, split)

    summary = summarise(large_run(200, answers=given))

    assert len(asked) <= len(summary["front"]) + N_RIVALS + 3
    assert len(summary["certainty"]["compared"]) == N_RIVALS


def test_while_a_search_goes_on_only_the_best_trial_is_asked_for_its_answers() -> None:
    asked = set()

    def given(experience: Experience, split: str) -> Predictions:
        asked.add((experience.provenance.trial, split))
        return answers(experience, split)

    summary = summarise(large_run(60, answers=given, finish=UNFINISHED, tests={}))

    best = summary["best"]["trial"]
    assert asked == {(best, "validation")}
    assert set(summary["certainty"]["intervals"]) == {str(best)}
    assert (summary["certainty"]["compared"], summary["certainty"]["classes_on"]) == (None, "validation")
    assert certainty_sentences(summary) == [COMES]


def test_while_a_search_goes_on_nothing_is_computed_that_its_driver_would_wait_for() -> None:
    task = nouns.task(labels=tuple(f"class {number}" for number in range(MOST_LIVE_LABELS + 1)))

    def given(experience: Experience, split: str) -> Predictions:
        raise AssertionError(f"asked for {split} of trial {experience.provenance.trial}")

    summary = summarise(facts([success(0)], task=task, answers=given, finish=UNFINISHED))

    assert summary["certainty"]["intervals"] == {}


def test_a_matrix_of_many_classes_is_left_out() -> None:
    n = MOST_LABELS + 1
    labels = tuple(f"class {number}" for number in range(n))
    rows = Predictions(truth=np.arange(n), predicted=np.arange(n), n_classes=n)
    task = nouns.task(labels=labels)

    certainty = summarise(facts([success(0, f1=1.0)], task=task, answers=lambda experience, split: rows))["certainty"]

    assert certainty["confusion"] is None
    assert len(certainty["classes"]) == n


@pytest.mark.parametrize("n_classes", [2, 4])
def test_answers_of_another_number_of_classes_are_unknown(n_classes: int) -> None:
    rows = Predictions(truth=np.arange(400) % 2, predicted=np.zeros(400, np.int64), n_classes=n_classes)
    right = of_quality(t0=0.9)

    def given(experience: Experience, split: str) -> Predictions | None:
        return rows if experience.provenance.trial == 1 or split == "test" else right(experience, split)

    run = facts([success(0, f1=0.9), success(1, f1=0.5)], answers=given, tests={0: {"f1": 0.9}})
    certainty = summarise(run)["certainty"]

    assert certainty["intervals"].keys() == {"0"}
    assert certainty["intervals"]["0"].keys() == {"validation"}
    assert certainty["compared"] == []
    assert certainty["confusion"]["split"] == "validation"


def test_a_run_without_success_has_a_verdict() -> None:
    summary = summarise(facts([failure(0, "gpu_oom"), failure(1, "lost")]))

    assert verdict_sentences(summary) == ["No trial succeeded, of 2 trials."]


def test_a_best_trial_at_the_baseline_is_called_so() -> None:
    summary = summarise(facts([success(0, f1=0.2)]))

    assert "It is not above always answering the most frequent label (F1 0.2000)." in verdict_sentences(summary)


@pytest.mark.parametrize("share", [0.7, 0.9])
def test_the_difference_of_equal_trials_holds_nothing(share: float) -> None:
    given = of_quality(t0=share)(success(0), "validation")

    found = difference_interval(given, given)

    assert found is not None
    assert found.low <= 0 <= found.high


def _tested(*, share: float, test_share: float) -> dict[str, Any]:
    """Summarise a run of two trials whose best one is right on a share of validation and another one of test."""
    trials = [success(0, f1=share), success(1, f1=0.4)]
    truth = np.repeat([0, 1, 2], [24, 12, 12])
    by_split = {"validation": share, "test": test_share}

    def given(experience: Experience, split: str) -> Predictions:
        is_right = np.arange(48) % 12 < 12 * (by_split[split] if experience.provenance.trial == 0 else 0.4)
        return Predictions(truth=truth, predicted=np.where(is_right, truth, (truth + 1) % 3), n_classes=3)

    majority_f1 = 2 * 0.5 / 1.5 / 3  # half of the rows are of one of three classes
    task, tests = nouns.task(labels=("a", "b", "c"), n_validation=48), {0: {"f1": test_share, "accuracy": test_share}}
    return summarise(facts(trials, task=task, answers=given, tests=tests, majority_f1=majority_f1))


def test_a_collapse_on_test_is_called_one() -> None:
    said = " ".join(verdict_sentences(_tested(share=0.75, test_share=0.25)))

    assert (
        "That is far worse than on validation (F1 0.7500): the choice among 2 trials rested on 48 rows and did not "
        "hold. More rows for validation would tell."
    ) in said
    assert "lucky" not in said
    assert "far worse" not in " ".join(verdict_sentences(_tested(share=0.75, test_share=0.7)))


@pytest.mark.parametrize(
    ("rows", "validation", "f1", "test", "end"),
    [
        (20_000, (0.9165, 0.9235), 0.9164, (0.877, 0.957), None),  # test has few rows and holds the F1 of validation
        (20_000, (0.918, 0.922), 0.8900, (0.886, 0.894), None),  # certain, and small
        (
            20_000,
            (0.916, 0.924),
            0.8000,
            (0.780, 0.820),
            ": the rows of test may be of another kind than those of validation.",
        ),
        (
            400,
            (0.890, 0.950),
            0.8000,
            (0.780, 0.820),
            " rested on 400 rows and did not hold. More rows for validation would tell.",
        ),
        (400, (0.890, 0.950), 0.8000, None, None),
    ],
)
def test_a_collapse_is_told_only_where_it_is_large_and_beyond_the_noise_of_both_splits(
    rows: int, validation: tuple[float, float], f1: float, test: tuple[float, float] | None, end: str | None
) -> None:
    summary = summarise(facts([success(0, f1=0.92)], task=nouns.task(n_validation=rows), tests={0: {"f1": f1}}))
    intervals = {"validation": validation} | ({} if test is None else {"test": test})
    summary["certainty"]["intervals"] = {"0": intervals}

    found = [sentence for sentence in certainty_sentences(summary) if sentence.startswith("That is far worse")]

    assert len(found) == (end is not None)
    assert all(sentence.endswith(end or "") for sentence in found)


def test_the_best_of_some_trials_tends_to_look_better_on_validation() -> None:
    said = certainty_sentences(_tested(share=0.75, test_share=0.7))

    assert "The best of 2 trials tends to look better on validation than on test." in said


def test_a_best_trial_that_is_better_on_test_is_not_said_to_look_better_on_validation() -> None:
    said = certainty_sentences(_tested(share=0.7, test_share=0.75))

    assert "It is ahead of the next 1 trial by more than noise." in said
    assert "tends to look better" not in " ".join(said)


def test_the_baseline_on_test_stands_beside_the_scores_and_warns_where_the_interval_includes_it() -> None:
    summary = _tested(share=0.75, test_share=0.25)

    assert summary["certainty"]["majority_test"] == pytest.approx({"f1": 2 / 9, "accuracy": 0.5})
    warned = "most frequent label has F1 0.2222; the interval includes that, so it may be no better"
    assert warned in " ".join(certainty_sentences(summary))
    assert "may be no better" not in " ".join(certainty_sentences(_tested(share=0.75, test_share=0.7)))
    sections = {section.title: section for section in report_sections(summary)}
    assert sections["On test"].table is not None
    assert sections["On test"].table.rows[-1] == ("majority baseline", "0.2222", "0.5000")
    assert dict(sections["Overview"].facts)["Majority baseline"].endswith("; on test F1 0.2222, accuracy 0.5000")
    assert "F1 of the majority baseline on test" in to_html(summary)


def test_every_metric_on_test_has_a_heading_in_one_form() -> None:
    (table,) = (section.table for section in report_sections(summarise(large_run(8))) if section.title == "On test")

    assert table is not None
    assert table.columns == ("Trial", "F1", "Accuracy", "Loss")


def test_a_baseline_that_no_label_has_on_validation_is_unknown_on_test() -> None:
    run = facts([success(0, f1=0.5)], tests={0: {"f1": 0.5}}, majority_f1=0.123, answers=answers)

    assert summarise(run)["certainty"]["majority_test"] is None


@pytest.mark.parametrize(("n_b", "expected"), [(80, None), (50, {"f1": 1 / 3, "accuracy": 0.5})])
def test_a_baseline_of_labels_equally_frequent_on_validation_is_unknown_unless_they_are_so_on_test(
    n_b: int, expected: dict[str, float] | None
) -> None:
    truths = {"validation": np.repeat([0, 1], [100, 100]), "test": np.repeat([0, 1], [100 - n_b, n_b])}

    def given(experience: Experience, split: str) -> Predictions:
        return Predictions(truth=truths[split], predicted=truths[split], n_classes=2)

    task = nouns.task(labels=("a", "b"))
    run = facts([success(0, f1=1.0)], task=task, tests={0: {"f1": 1.0}}, majority_f1=1 / 3, answers=given)

    found = summarise(run)["certainty"]["majority_test"]

    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("n_missed", "said"),
    [
        (1, "It answers no row of the class c0 rightly on test."),
        (2, "It answers no row of the classes c0 and c1 rightly on test."),
        (4, "It answers no row of 4 of 6 classes rightly on test."),
    ],
)
def test_classes_that_the_best_trial_never_answers_rightly_are_named(n_missed: int, said: str) -> None:
    labels = tuple(f"c{n}" for n in range(6))  # there is no row of the last one
    truth = np.arange(50) % 5
    rows = Predictions(truth=truth, predicted=np.where(truth < n_missed, 4, truth), n_classes=6)
    run = facts(
        [success(0)], task=nouns.task(labels=labels), answers=lambda experience, split: rows, tests={0: {"f1": 0.5}}
    )

    sentences = certainty_sentences(summarise(run))

    assert said in sentences
    assert "How sure" in dict(report_sections(summarise(run))[0].facts)
    assert "answers no row" not in " ".join(certainty_sentences(summarise(large_run(8))))


@pytest.mark.parametrize(
    ("n_lost", "said"),
    [
        (1, []),
        (2, ["2 of 5 trials were lost to the infrastructure."]),
    ],
)
def test_many_trials_lost_to_the_infrastructure_are_part_of_the_verdict(n_lost: int, said: list[str]) -> None:
    trials = [*(success(n) for n in range(3)), *(failure(3 + n, "node_busy") for n in range(n_lost))]

    assert [s for s in verdict_sentences(summarise(facts(trials))) if "lost" in s] == said
