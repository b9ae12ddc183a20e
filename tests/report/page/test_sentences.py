"""What the page says in sentences: numbers of the report, what is no evidence, what comes when a search has ended."""

import json
import re

import pytest

from tests import nouns
from tests.report.facts import facts, success
from tests.report.large_run import large_run
from tests.report.page.test_page import NAMES, NUMBER, Node, parsed
from tests.report.whole_run import PRIOR, REASONS, whole_run
from xautolm_hpc.report import summarise, to_html
from xautolm_hpc.report.quantities import duration_text
from xautolm_hpc.view import UNFINISHED, Finish, FinishKind


def numbers_in(page: Node, section: str, *, name: str) -> list[str]:
    """List the numbers in the texts of a section's elements of one name, in their order."""
    (found,) = page.find("section", id=section)
    return [word.rstrip(",") for n in found.find(name) for word in NUMBER.findall(NAMES.sub("", n.text()))]


def test_the_sentences_state_the_numbers_of_the_report_in_their_order() -> None:
    summary = json.loads(json.dumps(summarise(large_run(40))))
    best, certainty = summary["best"], summary["certainty"]
    trial, tested = best["trial"], summary["tests"][str(best["trial"])]
    low, high = certainty["intervals"][str(trial)]["validation"]
    test_low, test_high = certainty["intervals"][str(trial)]["test"]

    page = parsed(to_html(summary))

    f1s = [f"{value:.4f}" for value in (best["metrics"]["f1"], low, high, summary["majority_f1"], tested["f1"])]
    model = NUMBER.findall(best["model"])
    interval = ["95", f"{test_low:.4f}", f"{test_high:.4f}"]
    assert certainty["within_noise"]
    rivals = [str(number) for number in certainty["within_noise"]]
    behind = [[f"{abs(value):.4f}" for value in certainty["behind"][rival]] for rival in rivals]
    lower = [[first, *(["95"] if n == 0 else []), *ends] for n, (first, *ends) in enumerate(behind)]
    verdict = [
        str(trial),
        f1s[0],
        "95",
        *f1s[1:3],
        *model,
        *f1s[3:],
        *interval,
        *rivals,
        *(number for numbers in lower for number in numbers),
        str(summary["counts"]["succeeded"]),
    ]
    assert numbers_in(page, "verdict", name="p") == verdict
    spent, counts = summary["spent"], summary["counts"]
    cost = [
        str(spent["generations"]), *NUMBER.findall(duration_text(spent["wall_s"])),
        *NUMBER.findall(duration_text(spent["trial_s"])), *NUMBER.findall(duration_text(spent["failed_s"])),
        f"{spent['gpu_h']:.3g}", f"{spent['energy_kwh']:.4g}",
        str(spent["attempts_with_energy"]), str(counts["attempts"]), f"{spent['co2_kg']:.3g}", "380",
        f"{spent['price']:.2f}", "2.5",
    ]  # fmt: skip
    assert numbers_in(page, "cost", name="dd") == cost
    failures = [n for each in summary["failures"] for n in (f"{each['trials']}", f"{each['attempts']}")]
    assert numbers_in(page, "failures", name="td") == [*failures, "1,312", "44"]


def test_the_page_says_what_is_no_evidence_and_names_the_three_experiences_that_moved_most() -> None:
    reasons = [
        {**REASONS[0], "id": letter * 32, "model": f"model-{letter}", "contribution": by}
        for letter, by in zip("abcd", (0.01, -0.04, 0.03, 0.02), strict=True)
    ]
    skipped = {"infrastructure": 70, "objective_missing": 5, "same_configuration": 0}
    prior = {
        **PRIOR,
        "counts": {**PRIOR["counts"], "skipped": skipped},
        "top": {"models": {"google/bert_uncased_L-2": reasons}, "methods": {}},
    }

    (section,) = parsed(to_html(summarise(whole_run(prior=prior)))).find("section", id="prior")

    text = section.text()
    assert (
        "75 records of the store are no evidence: 70 failed by the infrastructure and 5 without a value of each "
        "objective."
    ) in text
    (moved,) = section.find("ol")
    assert "b" * 32 not in moved.text()
    assert [re.findall(r"model-(\w) with|by ([+-]\d\.\d+)", item.text()) for item in moved.find("li")] == [
        [("b", ""), ("", "-0.0400")], [("c", ""), ("", "+0.0300")], [("d", ""), ("", "+0.0200")],
    ]  # fmt: skip


def test_while_a_search_goes_on_the_page_says_what_is_known_and_what_comes() -> None:
    page = parsed(to_html(summarise(large_run(40, finish=UNFINISHED, tests={}, importance=None))))

    (verdict,) = page.find("section", id="verdict")
    (classes,) = page.find("section", id="classes")
    (parameters,) = page.find("section", id="parameters")
    assert "95 % interval" in verdict.text()
    assert "and its score on test, come when the search has ended" in verdict.text()
    assert "Confusion on validation" in classes.text()
    assert "Which of them mattered most comes when the search has ended." in parameters.text()


@pytest.mark.parametrize(
    ("n_trials", "reason"),
    [
        (19, "19 trials succeeded, and 20 are needed"),
        (20, "from them, F1 cannot be told better than by always guessing its mean"),
    ],
)
def test_why_it_is_not_known_what_mattered_most_is_the_condition_that_failed(n_trials: int, reason: str) -> None:
    trials = [success(n, f1=0.5, params={"learning_rate": 1e-5 * (n + 1)}) for n in range(n_trials)]

    (section,) = parsed(to_html(summarise(facts(trials)))).find("section", id="parameters")

    assert f"Which of them mattered most is not known: {reason}." in section.text()


def test_a_list_of_pipelines_was_chosen_by_no_prior() -> None:
    finish = Finish(FinishKind.LIST_EVALUATED, "all evaluated")

    (section,) = parsed(to_html(summarise(facts([success(0)], finish=finish)))).find("section", id="prior")

    assert "The pipelines were given as a list: no past experience chose them." in section.text()


def test_the_cards_show_each_score_of_the_best_trial_before_that_of_the_baseline_on_the_same_rows() -> None:
    summary = summarise(large_run(8))
    summary["certainty"]["majority_test"] = {"f1": 0.2, "accuracy": 0.4}
    best = summary["best"]["metrics"]["f1"]

    (cards,) = parsed(to_html(summary)).find("dl", **{"class": "cards"})

    shown = zip((n.text() for n in cards.find("dt")), (n.text() for n in cards.find("dd")), strict=True)
    assert list(shown)[:6] == [
        ("F1 of the best trial on validation", f"{best:.4f}"),
        ("F1 of the majority baseline on validation", "0.2000"),
        ("F1 of the best trial on test", "0.7100"),
        ("F1 of the majority baseline on test", "0.2000"),
        ("Accuracy of the best trial on test", "0.7300"),
        ("Accuracy of the majority baseline on test", "0.4000"),
    ]


@pytest.mark.parametrize(
    ("kind", "settings", "columns"),
    [
        ("text-classification", {"data.text": "body"}, "the column body but"),
        ("question-answering", {"data.question": "q", "data.context": "c"}, "the columns q and c but"),
        ("text-classification", {}, "the columns of the search's data but"),
    ],
)
def test_the_columns_that_the_model_reads_are_named(kind: str, settings: dict[str, str], columns: str) -> None:
    run = facts([success(7)], task=nouns.task(kind=kind), settings=settings)

    (section,) = parsed(to_html(summarise(run))).find("section", id="use")

    assert (
        "On the machine and in the folder where the search ran, this writes trial 7 of the run tickets-1 as a folder"
    ) in section.text()
    assert f"the rows of a file, which needs {columns} no answers:" in section.text()
