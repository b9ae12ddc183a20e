"""The headline: its arithmetic on made-up searches, the reference's recipe, and small sittings that go on."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import headline
from benchmarks.headline import ROOT_DIR, Side, Sitting, compare, main, missing, pairs, read_state, table, targets
from benchmarks.reference_worker import Learning, has_stalled
from benchmarks.training_kinds import Labels, load
from tests.train.attempts import LABELS, minilm, read_end, task, worker_environment, write_attempt, write_split
from xautolm_hpc.durable import write_json
from xautolm_hpc.jobdir import PROTOCOL, PROTOCOL_VARIABLE, TASK, TrialInput
from xautolm_hpc.records import to_json
from xautolm_hpc.train.pretrained import find_source
from xautolm_hpc.train.recipe import parse_recipe

SITTING = Sitting(task="sst2", seed=1, trials=3, rows=40, validation_rows=24, models=("minilm-l1",), time_limit_min=5.0)
REFERENCE = Side(
    sitting=SITTING, side="reference", machine="gpu-a", device="H", ended_at="2026-01-01T00:00:00Z", profile_s=10.0,
    f1=(None, 0.5, 0.74), gpu_s=(100.0, 20.0, 30.0), failures=("time_limit", None, None),
)  # fmt: skip
PRODUCT = replace(REFERENCE, side="product", f1=(0.77, 0.8, 0.1), gpu_s=(5.0, 4.0, 3.0), failures=(None, None, None))


def test_a_search_pays_until_its_first_trial_at_95_percent_of_the_best_of_both_sides() -> None:
    (target,) = targets([REFERENCE, PRODUCT]).values()

    assert target == pytest.approx(0.76)  # .95 of .8
    assert (PRODUCT.reached(target), PRODUCT.cost_s(target)) == (1, 15.0)  # the profile, and one trial
    assert (REFERENCE.reached(target), REFERENCE.cost_s(target)) == (None, 160.0)  # missed: all of it
    assert REFERENCE.cost_s(0.5) == 130.0  # the failure before it counts


def test_seconds_are_summed_over_tasks_and_the_goal_waits_for_every_sitting() -> None:
    other = replace(SITTING, task="liar")
    theirs = replace(REFERENCE, sitting=other, f1=(0.2, None, None), failures=(None, "error", "error"))
    ours = replace(PRODUCT, sitting=other, f1=(0.1, 0.15, 0.2), gpu_s=(5.0, 5.0, 5.0))

    goals = {goal.name: goal for goal in compare([(REFERENCE, PRODUCT), (theirs, ours)], n_sittings=3)}

    assert goals["liar: target F1"].value == pytest.approx(0.19)
    assert goals["sst2: GPU seconds, reference / product"].value == pytest.approx(160 / 15)
    assert goals["GPU seconds, reference"].value == pytest.approx(160 + 110)
    assert goals["GPU seconds, product"].value == pytest.approx(15 + 25)
    assert goals["GPU seconds, reference / product"].is_met
    assert not goals["sittings"].is_met


def test_the_table_marks_the_search_that_misses_the_target() -> None:
    shown = table([(REFERENCE, PRODUCT)])

    assert "| sst2 | 1 | reference | 3 | 1 | 0.740 | 0.760 | missed | 160.0 | 160.0 |" in shown
    assert "| sst2 | 1 | product | 3 | 0 | 0.800 | 0.760 | 1 | 15.0 | 22.0 |" in shown


def test_both_sides_of_a_sitting_are_of_one_machine_and_of_the_same_settings() -> None:
    elsewhere = replace(PRODUCT, machine="gpu-b")
    larger = replace(PRODUCT, sitting=replace(SITTING, rows=80))

    assert pairs([REFERENCE, elsewhere, larger], [SITTING]) == []
    assert missing([REFERENCE, elsewhere, larger], SITTING, machine="gpu-a") == ["product"]
    assert missing([REFERENCE, elsewhere], SITTING, machine="gpu-c") == ["reference", "product"]
    assert pairs([elsewhere, REFERENCE, PRODUCT], [SITTING]) == [(REFERENCE, PRODUCT)]
    assert missing([REFERENCE, PRODUCT], SITTING, machine="gpu-c") == []


def test_a_search_is_written_and_read_and_a_torn_line_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "state.jsonl"
    headline.add_to_state(path, REFERENCE)
    with path.open("a") as file:
        file.write('{"sitting": {"ta')

    kept = read_state(path)
    headline.add_to_state(path, PRODUCT)

    assert kept == [REFERENCE]
    assert read_state(path) == [REFERENCE, PRODUCT]


@pytest.mark.parametrize(
    ("losses", "is_over"),
    [([1.0], False), ([1.0, 0.9999], False), ([1.0, 0.9999, 0.9998], True), ([1.0, 0.9999, 0.5], False)],
)
def test_the_recipe_ends_after_two_epochs_whose_training_loss_hardly_falls(losses: list[float], is_over: bool) -> None:
    assert has_stalled(losses, delta=0.001, patience=2) is is_over


def test_every_text_of_the_recipe_is_padded_to_the_length() -> None:
    model, tokenizer = load(Labels(("bad", "good")), find_source(minilm(), None).place, layers=1, seed=1)
    recipe = parse_recipe("full", {"learning_rate": 1e-3, "batch_size": 4, "max_length": 64, "epochs": 1})
    learning = Learning(
        kind=Labels(("bad", "good")), recipe=recipe, model=model, tokenizer=tokenizer, max_length=64, seed=1
    )

    batch = learning.collate([{"text": "short", "label": "good"}, {"text": "a longer text", "label": "bad"}])

    assert {name: tuple(values.shape) for name, values in batch.items() if name != "labels"} == {
        "input_ids": (2, 64), "token_type_ids": (2, 64), "attention_mask": (2, 64),
    }  # fmt: skip
    assert batch["labels"].tolist() == [1, 0]


@pytest.mark.parametrize("kind", ["text-classification", "question-answering"])
def test_a_trial_of_the_reference_is_trained_by_its_recipe(tmp_path: Path, kind: str) -> None:
    params = {"batch_size": 4, "max_length": 64, "gradient_accumulation_steps": 2, "class_weighted_loss": True}
    labels = LABELS if kind == "text-classification" else ()
    attempt_dir = write_attempt(tmp_path, "full", params=params, about=task(labels, kind))
    if not labels:
        answers = [{"text": "blue", "answer_start": 11}]
        found = {"question": "How is the sky?", "context": "The sky is blue today.", "answers": answers}
        split = {name: [found] * n for name, n in {"train": 30, "dev": 7, "validation": 10}.items()}
        sha256 = write_split(tmp_path / "data", split)
        about = TrialInput(task=task(labels, kind), data_dir=str(tmp_path / "data"), sha256=sha256)
        write_json(attempt_dir / TASK, to_json(about))

    done = subprocess.run(
        [sys.executable, "benchmarks/reference_worker.py", "-m", "xautolm_hpc.train", "trial", str(attempt_dir)],
        env=worker_environment(**{PROTOCOL_VARIABLE: str(PROTOCOL)}),
        cwd=ROOT_DIR,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    outcome = read_end(attempt_dir).outcome
    assert outcome.succeeded, outcome.message
    assert (outcome.step, outcome.n_samples) == ("eager", 2 * 37)  # two epochs of train and dev
    assert outcome.n_steps == 2 * 5  # ten batches, two to a step
    assert 0 <= outcome.metrics["f1"] <= 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_sitting_runs_both_sides_and_the_same_command_repeats_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "datasets" / "sst2"
    data.mkdir(parents=True)
    for name in ("train", "validation", "test"):
        rows = [{"text": f"a {word} film, {name} {n}", "label": word} for n in range(60) for word in ("good", "bad")]
        (data / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(headline, "SHARED", tmp_path)
    state = tmp_path / "state.jsonl"
    sizes = ["--trials=2", "--rows=40", "--validation-rows=24", "--models=minilm-l1", "--time-limit-min=5"]
    command = [str(state), "--folder", str(tmp_path / "runs"), "--tasks=sst2", "--seeds=1", *sizes]

    statuses = [main([*command, "--json", str(tmp_path / "goals.json")])]
    first = state.read_text()
    capsys.readouterr()
    statuses.append(main(command))

    reference, product = read_state(state)
    assert statuses == [0, 0]
    assert (reference.side, product.side) == ("reference", "product")
    assert all(len(side.f1) == len(side.gpu_s) > 0 and min(side.gpu_s) > 0 for side in (reference, product))
    assert state.read_text() == first
    assert ", reference: " not in capsys.readouterr().out  # nothing was run
    goals = {goal["name"]: goal["value"] for goal in json.loads((tmp_path / "goals.json").read_text())}
    assert goals["GPU seconds, product"] == pytest.approx(product.cost_s(goals["sst2: target F1"]))
