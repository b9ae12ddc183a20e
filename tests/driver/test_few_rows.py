"""Searches on 300 rows with the default preset: trials learn, and where none does the report says why."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from tests.driving import make_setup
from tests.searching import run_command
from tests.train.families import run_attempt
from xautolm_hpc.driver.proposal import SearchProposer, read_stores
from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.durable import read_json
from xautolm_hpc.jobdir import ProfileResult
from xautolm_hpc.node import measure_system
from xautolm_hpc.profile.task import profile_task
from xautolm_hpc.run.history import Attempt, Trial

WORDS = {
    "good": ("great", "lovely", "superb", "wonderful", "delightful", "moving", "brilliant", "funny", "fine", "warm"),
    "bad": ("awful", "dull", "terrible", "dreadful", "tedious", "clumsy", "pointless", "ugly", "painful", "cold"),
}
FRAMES = (
    "the film was {}", "I found it {}", "what a {} evening", "{} from start to end", "my sister called it {}",
    "the second half is {}", "a {} story about two brothers", "honestly, {}", "the critics were right: {}",
    "we left early, it was {}", "the acting is {} and the music too", "{} and nothing more to add",
    "I expected less, but it was {}", "for children it is {}", "they promised a lot and it was {}",
)  # fmt: skip
SEARCH = """
name = "few"
[task]
name = "films"
[data]
path = "films.csv"
[space]
models = ["minilm-l1", "minilm-l2", "minilm-l3", "minilm-l6"]
[search]
population = 8
[budget]
trials = 8
[store]
path = "store"
"""
HOPELESS = """
models = ["minilm-l1"]
methods = ["head"]
[space.params.head]
learning_rate = [1e-7]
epochs = [2]
batch_size = [8]
gradient_accumulation_steps = [1]
early_stopping_patience = [1]
"""


def _write_rows(folder: Path) -> None:
    rows = [(frame.format(word), label) for frame in FRAMES for label, words in WORDS.items() for word in words]
    np.random.default_rng(0).shuffle(rows)
    with (folder / "films.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def _profile(setup: Setup) -> ProfileResult:
    Path(setup.profile_request().data_dir).mkdir(parents=True)
    return profile_task(setup.profile_request(), system=measure_system("here", "desk", visible_gpus=""))


def _count_above(setup: Setup, profile: ProfileResult, *, until: int) -> int:
    """Train what the search draws first, in this process, which imports torch once; stop when enough are above."""
    plans = SearchProposer(setup, profile, past=read_stores(setup)).propose([], []).plans
    assert len(plans) == 8
    template, n_above = setup.template(profile), 0
    for number, plan in enumerate(plans):
        path = setup.run_dir.attempt_dir(0, number, attempt=0)
        template.write(Trial(number, 0, plan, [Attempt(0, path)]))
        n_above += run_attempt(path).metrics["f1"] > (profile.majority_f1 or 0.0) + 0.05
        if n_above == until:
            break
    return n_above


@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute of one core; on a machine that others use it takes longer
def test_at_least_half_of_eight_default_trials_on_300_rows_end_above_the_majority(tmp_path: Path) -> None:
    _write_rows(tmp_path)
    setup = make_setup(tmp_path, text=SEARCH)
    profile = _profile(setup)

    n_above = _count_above(setup, profile, until=4)

    assert profile.majority_f1 == pytest.approx(1 / 3, abs=0.03)
    assert n_above == 4


@pytest.mark.slow
def test_report_and_status_say_why_where_no_trial_is_above_the_majority(tmp_path: Path) -> None:
    _write_rows(tmp_path)
    models = SEARCH[SEARCH.index("models =") : SEARCH.index("[search]")]
    text = SEARCH.replace(models, HOPELESS.lstrip()).replace("trials = 8", "trials = 1")
    (tmp_path / "search.toml").write_text(text)

    ended = run_command(tmp_path, "run", "search.toml", "--quiet")
    status = json.loads(run_command(tmp_path, "status", "few", "--json").stdout)

    assert ended.returncode == 0, ended.stderr
    report_dir = tmp_path / "runs" / "few" / "report"
    shortfall = read_json(report_dir / "report.json")["shortfall"]
    assert (shortfall["trials"], shortfall["epochs_run"], shortfall["epochs_drawn"]) == (1, [2, 2, 2], [2, 2, 2])
    assert shortfall["causes"] == ["few-steps"]
    for shown in (status["note"], (report_dir / "report.md").read_text().replace("\\", "")):
        assert "No trial is above the majority baseline: of 1 trial that succeeded, none was stopped early" in shown
        assert "learning rates: 1e-07" in shown
