"""What the training benchmark makes of the parts of a training: replaying is the steps alone."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import training
from benchmarks.training_kinds import Spans
from benchmarks.training_ways import TrainingCase, TrainingCost
from xautolm_hpc.catalogue import load_catalogue
from xautolm_hpc.train.costs.parts import Part

FIRST = {Part.CAPTURES: 1.5, Part.STEPS: 0.25, Part.WAITS: 1.0, Part.EVALUATION: 0.75, Part.BEST_WEIGHTS: 0.25}
LAST = {Part.STEPS: 0.25, Part.WAITS: 0.75, Part.EVALUATION: 0.5, Part.SCORES: 0.25}
COST = TrainingCost(5.5, 6.0, 0.5, gpu_energy_j=None, start_s=2.0, epochs_s=(FIRST, LAST))


def test_replaying_is_the_steps_of_the_last_epoch_without_what_comes_between_epochs() -> None:
    assert COST.replaying_s == 1.0
    assert replace(COST, epochs_s=(FIRST,)).replaying_s is None  # its steps wait for captures
    assert replace(COST, epochs_s=()).replaying_s is None


def test_the_table_has_the_parts_of_all_epochs_and_of_the_last_one() -> None:
    other = TrainingCost(9.0, 9.0, 0.5)

    text = training.parts_table({training.CAPTURED: [COST], "reference": [other]}, name="squad, 384")

    assert text.splitlines()[1:] == [
        "squad, 384: ours, graph, all epochs | 2.000 | 1.500 | 0.500 | 1.750 | 1.250 | 0.250 | 0.250 | 0.000 | 5.500",
        "squad, 384: ours, graph, last epoch |  | 0.000 | 0.250 | 0.750 | 0.500 | 0.250 | 0.000 | 0.000 | 1.750",
    ]
    assert training.parts_table({"reference": [other]}, name="squad, 384") == ""


@pytest.mark.parametrize(("n_tokens", "is_met"), [(600_000, True), (500_000, False)])
def test_the_share_while_replaying_has_a_goal(monkeypatch: pytest.MonkeyPatch, n_tokens: int, is_met: bool) -> None:
    gpu: Any = SimpleNamespace(capability=9.0)
    monkeypatch.setattr(training, "list_gpus", lambda visible: ([gpu], None))
    monkeypatch.setattr(training, "_n_tokens", lambda case: n_tokens)
    model = load_catalogue()["bert-base-uncased"]
    case = TrainingCase(
        model, "", Spans(), {"train": [{}] * 2048}, max_length=384, batch_size=32, epochs=2, seed=0, threads=1
    )
    least = training._least("bert-base", "squad", max_length=384)

    goals = training.on_gpu({training.CAPTURED: case}, {training.CAPTURED: [COST]}, name="squad", least=least)

    by_name = {goal.name: goal for goal in goals}
    share = by_name["squad: share of large matrix products, steps of the last epoch, ours, graph"]
    assert share.value == pytest.approx(6 * 12 * 768**2 * 12 * n_tokens / 790e12)
    assert (share.limit, share.is_met) == (0.35, is_met)
    assert by_name["squad: samples a second, steps of the last epoch, ours, graph"].value == 2048
