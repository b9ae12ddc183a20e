"""What the report says about failures and rejections: what to do, whose fault they were, what they cost and mean."""

import re

import pytest

from tests.checks.source import ROOT_DIR
from tests.report.facts import facts, failure, success
from xautolm_hpc.report import summarise, to_html, to_markdown
from xautolm_hpc.report.advice import ADVICE
from xautolm_hpc.report.planned import _rejections
from xautolm_hpc.report.sections import REJECTED_FOR, report_sections, totals_line
from xautolm_hpc.sample import constraints
from xautolm_hpc.sample.population import RISK

BEGAN = "2026-01-05T10:00:00.000+00:00"


def test_many_attempts_on_a_busy_node_have_one_advice() -> None:
    trials = [success(0), *(failure(1, "node_busy", attempt=n) for n in range(3)), failure(2, "gpu_oom")]

    summary = summarise(facts(trials))

    (section,) = (each for each in report_sections(summary) if each.title == "Failures")
    assert section.lines[1:] == (
        "3 of 5 attempts lost their time to other programs: on your own machine run fewer trials at a time "
        "([local] n_slots = 1), raise trial.time_limit_min, or wait for a quieter hour.",
    )
    assert to_html(summary).count("lost their time to other programs") == 1
    assert to_markdown(summary).count("lost their time to other programs") == 1


def test_the_advice_says_what_the_settings_are_now() -> None:
    settings = {"data.text": "text", "trial.time_limit_min": 0.5, "local.n_slots": 2, "job.memory_gb": 4.0}

    summary = summarise(facts([success(0), failure(1, "node_busy"), failure(2, "host_oom")], settings=settings))

    (section,) = (each for each in report_sections(summary) if each.title == "Failures")
    assert sorted(line.rpartition("; ")[2] for line in section.lines[1:]) == [
        "now job.memory_gb = 4.", "now local.n_slots = 2, trial.time_limit_min = 0.5."
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ADVICE)
def test_the_advice_is_that_of_the_guide(kind: str) -> None:
    page = (ROOT_DIR / "docs/guide/questions-and-troubles.md").read_text()

    remedy = ADVICE[kind][1]

    assert remedy.lower() in re.sub(r"\s+", " ", page.replace("`", "")).lower()


def test_how_many_failures_were_by_the_infrastructure_is_named() -> None:
    summary = summarise(facts([success(0), failure(1, "node_busy"), failure(2, "gpu_oom"), failure(3, "lost")]))

    assert totals_line(summary).startswith("4 trials: 1 succeeded, 3 failed (2 by the infrastructure)")
    assert "Failed by the infrastructure" in to_html(summary)


def test_the_time_of_failed_attempts_is_part_of_the_cost() -> None:
    times = {"started_at": BEGAN, "ended_at": "2026-01-05T10:03:20.000+00:00"}
    trials = [success(0, **times), failure(1, "node_busy", **times), success(1, attempt=1, **times)]

    summary = summarise(facts(trials))

    (cost,) = (each for each in report_sections(summary) if each.title == "Cost")
    assert dict(cost.facts)["Time of failed attempts"] == "3 min 20 s"


def test_each_constraint_has_a_meaning_in_the_report() -> None:
    names = {each.name for each in vars(constraints).values() if hasattr(each, "reject") and hasattr(each, "name")}
    reasons = {"steps": "12 optimiser steps after the warm-up; constraints.min_steps = 50"}
    summary = summarise(facts([success(0)], rejections={"steps": 3, "odd": 1}, reasons=reasons))

    (section,) = (each for each in report_sections(summary) if each.title == "Rejected before submission")

    assert set(REJECTED_FOR) == {*names, RISK}
    assert section.table is not None
    assert section.table.rows == (("steps", "3", REJECTED_FOR["steps"], reasons["steps"]), ("odd", "1", "–", "–"))
    assert REJECTED_FOR["steps"] in to_html(summary)
    assert reasons["steps"] in to_html(summary)


@pytest.mark.parametrize(
    ("n_steps", "reason", "hint"),
    [
        (
            124,
            "12 steps after the warm-up are fewer than constraints.min_steps = 50",
            ", or lower constraints.min_steps.",
        ),
        (124, "64 warm-up steps are not fewer than all 12 steps", "."),
        (124, None, "."),
        (14, "64 warm-up steps are not fewer than all 12 steps", None),
    ],
)
def test_where_most_were_rejected_for_steps_the_remedy_is_that_of_the_reason(
    n_steps: int, reason: str | None, hint: str | None
) -> None:
    reasons = {} if reason is None else {"steps": reason}
    summary = summarise(facts([success(0)], rejections={"steps": n_steps, "time": 11, "risk": 3}, reasons=reasons))

    (section,) = (each for each in report_sections(summary) if each.title == "Rejected before submission")

    few = "Most had too few steps: use more rows, more epochs, smaller batches or fewer warm-up steps"
    assert section.lines[1:] == (() if hint is None else (f"{few}{hint}",))
    assert "min_steps" not in REJECTED_FOR["steps"]


def test_a_plan_gives_one_example_of_a_rejection() -> None:
    plan = {"refusals": {"steps": 5}, "refusal_reasons": {"steps": ["2 steps are few", "3 steps are few"]}}

    table = _rejections(plan).table

    assert table is not None
    assert table.rows == (("steps", "5", "2 steps are few"),)


def test_a_report_of_a_version_that_noted_no_reasons_is_shown() -> None:
    summary = summarise(facts([success(0)], rejections={"steps": 3}))
    del summary["refusal_reasons"]

    (section,) = (each for each in report_sections(summary) if each.title == "Rejected before submission")

    assert section.table is not None
    assert section.table.rows == (("steps", "3", REJECTED_FOR["steps"], "–"),)
    assert REJECTED_FOR["steps"] in to_html(summary)
