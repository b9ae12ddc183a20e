"""What past experience moved, as the report tells it in sentences and in a table."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests import nouns
from tests.report.facts import facts, success
from tests.report.large_run import large_run
from tests.report.whole_run import PRIOR, REASONS
from xautolm_hpc.report import summarise
from xautolm_hpc.report.prior_sections import prior_sections
from xautolm_hpc.report.run_in_words import mover_sentence, movers, prior_sentences


def test_the_prior_is_told_with_what_moved_it_and_what_is_no_evidence() -> None:
    summary = summarise(large_run(8))

    sentences, strongest = " ".join(prior_sentences(summary)), movers(summary)

    assert "The prior xautolm learnt from 400 successes and 1 failure of past runs." in sentences
    assert "75 records of the store are no evidence: 70 failed by the infrastructure and 5 no objective." in sentences
    assert "started furthest ahead: probability 0.5207 instead of 0.5000, helped most by 1 success on liar" in sentences
    assert [reason["contribution"] for reason in strongest] == [0.0312, -0.0105]
    assert strongest[0]["of"] == "model google/bert_uncased_L-2"


def test_what_moved_the_prior_evidence_is_told_as_what_it_expects() -> None:
    prior = {**PRIOR, "kind": "evidence", "counts": {**PRIOR["counts"], "skipped": {"same_configuration": 1}}}

    summary = summarise(large_run(8, prior=prior))

    assert "1 record of the store is no evidence: 1 with a configuration counted before." in prior_sentences(summary)
    first, second = (mover_sentence(reason, task=summary["task"]) for reason in movers(summary))
    assert first.endswith("it raised what was expected of model google/bert_uncased_L-2 by 3%.")
    assert second.endswith("it lowered what was expected of model google/bert_uncased_L-2 by 1%.")


def test_a_success_that_lowered_what_is_expected_is_called_worse_than_expected() -> None:
    task = {"task": "tickets", "task_fingerprint": nouns.TASK.fingerprint}
    low, high = {**REASONS[0], **task, "contribution": -0.2}, {**REASONS[1], **task, "contribution": 0.1}
    cut = {**REASONS[1], "id": "c" * 32, "kind": "truncated", "contribution": -0.05}
    prior = {**PRIOR, "kind": "evidence", "top": {"models": {}, "methods": {"lora": [low, high, cut]}}}

    summary = summarise(large_run(8, prior=prior))
    said = [mover_sentence(reason, task=summary["task"]) for reason in movers(summary)]

    assert said == [
        "bert-tiny with lora succeeded with F1 0.2571 on tickets (this run's task), less well than was "
        "expected of it: it lowered what was expected of method lora by 18%.",
        "distilbert-base-uncased with full failed with gpu_oom on tickets (this run's task), less badly than was "
        "expected of it: it raised what was expected of method lora by 11%.",
        "distilbert-base-uncased with full was truncated on sst2: it lowered what was expected of method lora by 5%.",
    ]


def test_the_runs_own_task_is_known_by_its_fingerprint_and_not_by_its_name() -> None:
    task = nouns.task(name="tickets", fingerprint="a" * 64)
    known = [("tickets", task.fingerprint), ("tickets", "b" * 64), ("liar", "c" * 64), ("tickets", task.fingerprint)]
    reasons = [{**REASONS[0], "task": name, "task_fingerprint": f, "id": f} for name, f in known]
    del reasons[-1]["task_fingerprint"]  # as versions before wrote it

    said = []
    for part in (reasons[:3], [reasons[1], reasons[3]]):
        prior = {**PRIOR, "top": {"models": {"google/bert_uncased_L-2": part}, "methods": {}}}
        said.append(" ".join(prior_sentences(summarise(large_run(8, prior=prior, task=task)))))

    assert "3 successes on tickets (this run's task), tickets and liar." in said[0]
    assert "2 successes on tickets." in said[1]


def test_a_uniform_prior_is_told_as_such() -> None:
    summary = summarise(facts([success(0)]))

    (sentence,) = prior_sentences(summary)
    assert sentence.startswith("The search started from the uniform distribution: it used no past experience.")
    assert movers(summary) == []


@pytest.mark.parametrize(
    ("additions", "expected"),
    [
        ({}, ["The search used the prior uniform. Added to XAutoLM as it was published: nothing."]),
        (
            {"constraints.min_steps": 16, "trial.at_limit": "evaluate"},
            [
                "The search used the prior uniform. Added to XAutoLM as it was published: a least number of training "
                "steps (constraints.min_steps = 16) and a score for trials whose time ends (trial.at_limit = evaluate)."
            ],
        ),
        (None, []),
    ],
)
def test_the_method_is_named_with_each_thing_added_to_it(
    additions: Mapping[str, str | int] | None, expected: list[str]
) -> None:
    summary = summarise(facts([success(0, f1=0.7)], prior={"kind": "uniform", "additions": additions}))

    assert prior_sentences(summary)[:-1] == expected
    facts_shown = dict(prior_sections(summary["prior"])[0].facts)
    assert [
        f"The search used the prior uniform. Added to XAutoLM as it was published: {shown}."
        for shown in [facts_shown.get("Added to XAutoLM")]
        if shown
    ] == expected


def _reason(number: int, contribution: float, task: str = "liar") -> dict[str, Any]:
    """Build an experience that moved a prior: a success where it helped, else a failure."""
    kind = None if contribution > 0 else "time_limit"
    status = "succeeded" if contribution > 0 else "failed"
    return {
        **REASONS[0], "id": f"{number:032}", "contribution": contribution, "task": task, "kind": kind, "status": status,
    }  # fmt: skip


def test_the_sentence_names_as_help_what_the_table_of_the_prior_shows() -> None:
    found = [*(_reason(n, -0.5 + 0.1 * n) for n in range(4)), _reason(4, 0.05, "meld"), _reason(5, -0.04)]
    found += [_reason(6 + n, 0.03 - 0.001 * n, f"task-{n}") for n in range(3)]
    methods = {name: {"uniform": 0.2, "prior": p} for name, p in zip("abcde", (0.3, 0.28, 0.28, 0.14, 0), strict=True)}
    top = {"models": {}, "methods": {name: found for name in methods}}
    methods |= {"b": {"uniform": 0.4, "prior": 0.28}, "c": {"uniform": 0.4, "prior": 0.28}}

    summary = summarise(large_run(8, prior={**PRIOR, "models": {}, "methods": methods, "top": top}))

    (table,) = (s.table for s in prior_sections(summary["prior"]) if s.title == "Experiences that moved the prior")
    assert table is not None
    shown = [(row[0], int(row[-1])) for row in table.rows]
    assert [number for name, number in shown if name == "method a"] == [0, 1, 2, 4, 6, 7]
    assert [number for name, number in shown if name == "method b"] == [0, 1, 2]
    (said,) = (s for s in prior_sentences(summary) if "furthest ahead" in s)
    assert said.startswith("Method a started")
    assert said.endswith("helped most by 3 successes on meld, task-0 and task-1.")


def test_what_the_prior_evidence_expects_has_one_quantity_in_sentence_and_table() -> None:
    prior = {**PRIOR, "kind": "evidence", "top": {"models": {}, "methods": {"lora": [_reason(1, -0.12406)]}}}
    prior["methods"] = {"lora": {"uniform": 0.5, "prior": 0.4}, "full": {"uniform": 0.5, "prior": 0.6}}

    summary = summarise(large_run(8, prior=prior))

    (section,) = (s for s in prior_sections(summary["prior"]) if s.title == "Experiences that moved the prior")
    assert section.table is not None
    assert section.table.columns[:2] == ("Expected of", "Changed by")
    assert section.table.rows[0][:2] == ("method lora", "-11.7%")
    assert "lowered what was expected of method lora by 12%" in mover_sentence(
        movers(summary)[0], task={"name": "t", "fingerprint": None}
    )
    assert "do not add up" in " ".join(section.lines)
    of_xautolm = prior_sections(summarise(large_run(8))["prior"])[-1]
    assert of_xautolm.table is not None
    assert of_xautolm.table.columns[:2] == ("Probability of", "Moved by")
    assert "do not add up" not in " ".join(of_xautolm.lines)
