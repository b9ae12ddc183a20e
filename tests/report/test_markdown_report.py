"""The Markdown report, whole."""

from pathlib import Path

import pytest

from tests.report.facts import CPU_NODE, facts, failure, success
from tests.report.whole_run import whole_run
from xautolm_hpc.report.markdown import to_markdown
from xautolm_hpc.report.summary import summarise
from xautolm_hpc.view import Finish, FinishKind, RunFacts, Spent

RECORDED_DIR = Path(__file__).with_name("recorded")

RUNS = {
    "whole_run.md": whole_run(),
    "uniform_without_energy.md": facts(
        [success(0, f1=0.5, system=CPU_NODE)], spent=Spent(n_generations=1, n_trials=1, trial_s=130.0)
    ),
    "no_success.md": facts([failure(0, "gpu_oom"), failure(1, "lost")], majority_f1=None),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_report_equals_the_recorded_one(name: str) -> None:
    path = RECORDED_DIR / name

    text = to_markdown(summarise(RUNS[name]))

    assert path.exists(), f"no record `{path}`; if the report below is right, save it there:\n{text}"
    assert text == path.read_text()


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
def test_every_line_of_a_table_has_its_columns_below_one_another(run: RunFacts) -> None:
    blocks = to_markdown(summarise(run)).split("\n\n")
    tables = [block.splitlines() for block in blocks if block.startswith("|")]

    shapes = [{_bars(line) for line in table} for table in tables]

    assert all(len(shape) == 1 for shape in shapes)


def test_what_failed_trials_say_is_shown_and_not_interpreted() -> None:
    text = to_markdown(summarise(whole_run(name="<i>run</i>", finish=Finish(FinishKind.STOPPED, "<i>`over`</i>"))))

    assert not [tag for tag in ("<script>", "<b>", "<i>") if tag in text]
    assert "OSError: \\[link=http&#58;//evil\\]no\\[/link\\] \\| \\\\x07disk" in text


def test_energy_that_was_not_measured_is_called_so() -> None:
    text = to_markdown(summarise(facts([success(0)])))

    assert "- Energy: not measured on this machine" in text


def test_trials_that_miss_an_objective_are_named_with_the_reason() -> None:
    text = to_markdown(summarise(facts([success(0), success(1)], objectives=("f1", "gpu_energy_j"))))

    assert "The Pareto set is empty. 2 trials succeeded without a known value of gpu_energy_j." in text


@pytest.mark.parametrize(
    ("kind", "message", "example"),
    [
        ("host_oom", "the job ended as OUT_OF_MEMORY\nLoading weights: 100%", "| the job ended as OUT_OF_MEMORY |"),
        ("host_oom", "Traceback (most recent call last):\n  File x\nMemoryError: no more", "| MemoryError: no more |"),
        ("error", "the worker ended with status 1\nValueError: shapes differ", "| ValueError: shapes differ |"),
    ],
)
def test_the_example_of_a_failure_is_the_line_that_says_why(kind: str, message: str, example: str) -> None:
    text = to_markdown(summarise(facts([success(0), failure(1, kind, message=message)])))

    assert example in text
    assert "Loading weights" not in text


def test_a_best_trial_below_the_majority_is_called_so() -> None:
    text = to_markdown(summarise(facts([success(0, f1=0.1)], majority_f1=0.3)))

    assert "F1 0.3000; the best trial is NOT above it (-0.2000)" in text


def _bars(line: str) -> tuple[int, ...]:
    return tuple(i for i, c in enumerate(line) if c == "|" and line[i - 1] != "\\")


@pytest.mark.parametrize(
    ("f1", "words"),
    [
        (0.30004, "NOT above it (+0.0000)"),
        (0.3, "NOT above it (+0.0000)"),
        (0.29996, "NOT above it (+0.0000)"),
        (0.3001, "above it (+0.0001)"),
    ],
)
def test_a_margin_that_shows_as_nothing_is_not_above_the_baseline(f1: float, words: str) -> None:
    text = to_markdown(summarise(facts([success(0, f1=f1)], majority_f1=0.3)))

    assert f"F1 0.3000; the best trial is {words}" in text
