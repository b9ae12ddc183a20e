"""An exported model answers as the task says, whatever its base model was made for."""

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, pipeline

from tests.train.families import describe_task, labelled_rows, run_attempt, write_family_attempt
from tests.train.tiny import VOCAB
from xautolm_hpc.catalogue import load_catalogue
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.jobdir import COMMAND, EXPORT, PIPELINE, TASK, TrialPlan
from xautolm_hpc.records import from_json
from xautolm_hpc.train.card import model_card
from xautolm_hpc.train.export import run_export
from xautolm_hpc.train.stop import StopFlag

PARAMS: dict[str, Any] = {"learning_rate": 1e-2, "batch_size": 8, "max_length": 36, "epochs": 3, "dropout_rate": 0.0}
FACTS: Mapping[str, Any] = {
    "run": "towns",
    "trial": 3,
    "metrics": {"f1": 0.5, "accuracy": 0.75, "dev_f1": 0.25, "validation_loss": 0.6},
    "test": None,
    "time_s": 1.0,
    "energy_j": None,
}
FORMER: dict[str, dict[str, Any]] = {
    "several labels a text": {"problem_type": "multi_label_classification"},
    "a number": {"problem_type": "regression", "id2label": {"0": "score"}, "label2id": {"score": 0}},
    "other classes": {
        "id2label": {"0": "a", "1": "b", "2": "c"},
        "label2id": {"a": 0, "b": 1, "c": 2},
        "function_to_apply": "sigmoid",
        "task_specific_params": {"text-classification": {"top_k": 1}},
        "finetuning_task": "sst2",
    },
    "tuples and all states": {"return_dict": False, "output_hidden_states": True, "output_attentions": True},
}
"""What base model's configurations keep of their last task."""


def _export(
    folder: Path,
    architecture: str,
    *,
    kind: str,
    base: Mapping[str, Any] | None = None,
    method: str = "full",
    **files: Any,
) -> Path:
    """Train a tiny model and export it."""
    attempt_dir = write_family_attempt(folder, architecture, kind=kind, method=method, params=PARAMS)
    config = folder / "model" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **(base or {})}))
    for name, content in files.items():
        (folder / "model" / f"{name}.json").write_text(json.dumps(content))
    if method == "lora":
        tokenizer = AutoTokenizer.from_pretrained(folder / "model")
        tokenizer.add_tokens([f"lives{number}" for number in range(40)])
        tokenizer.save_pretrained(folder / "model")
    outcome = run_attempt(attempt_dir)
    assert outcome.succeeded, outcome.message
    step_dir, target = folder / "step", folder / "exported"
    step_dir.mkdir()
    for name in (COMMAND, TASK):
        write_json(step_dir / name, read_json(attempt_dir / name))
    write_json(step_dir / EXPORT, {"trial": str(attempt_dir), "to": str(target), "facts": FACTS})
    assert run_export(step_dir, StopFlag()) == 0
    return target


@pytest.mark.parametrize("base", FORMER.values(), ids=FORMER)
def test_a_classifier_answers_with_one_class_whatever_its_base_was(tmp_path: Path, base: dict[str, Any]) -> None:
    target = _export(tmp_path, "bert", kind="text-classification", base=base)

    answers: Any = pipeline("text-classification", model=str(target))(["ada lives in Oslo"], top_k=None)
    (scores,) = answers
    config: Any = AutoConfig.from_pretrained(target)
    loaded = pipeline("text-classification", model=str(target)).model
    ids = AutoTokenizer.from_pretrained(target)("ada lives in Oslo", return_tensors="pt")
    loss = loaded(**ids, labels=torch.tensor([1])).loss

    assert sum(row["score"] for row in scores) == pytest.approx(1.0)
    assert sorted(row["label"] for row in scores) == ["no", "yes"]
    assert (config.problem_type, config.num_labels) == ("single_label_classification", 2)
    assert (config.id2label, config.label2id) == ({0: "no", 1: "yes"}, {"no": 0, "yes": 1})
    assert getattr(config, "task_specific_params", None) is None
    assert (config.return_dict, config.output_hidden_states, config.output_attentions) == (True, False, False)
    assert loss.isfinite()


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_the_rows_of_added_tokens_are_exported(tmp_path: Path, architecture: str) -> None:
    target = _export(tmp_path, architecture, kind="text-classification", method="lora")

    classify: Any = pipeline("text-classification", model=str(target))

    assert len(AutoTokenizer.from_pretrained(target)) > VOCAB
    assert classify.model.get_input_embeddings().num_embeddings == len(classify.tokenizer)
    assert classify("ada lives39 in Oslo")[0]["label"] in ("no", "yes")


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_an_exported_model_pads_and_cuts_as_it_was_trained(tmp_path: Path, architecture: str) -> None:
    target = _export(tmp_path, architecture, kind="text-classification")
    classify = pipeline("text-classification", model=str(target))
    texts = [row["text"] for row in labelled_rows()[:4]] + ["ada lives in Oslo . " * 100]

    alone = [classify(text, truncation=True)[0]["score"] for text in texts]
    together = [row["score"] for row in classify(texts, truncation=True, batch_size=5)]

    assert together == pytest.approx(alone, abs=1e-4)
    assert AutoTokenizer.from_pretrained(target).model_max_length == 36


def test_a_model_that_writes_decodes_as_it_was_evaluated(tmp_path: Path) -> None:
    former = {"num_beams": 4, "no_repeat_ngram_size": 1, "min_length": 30, "do_sample": True, "max_length": 200}

    target = _export(tmp_path, "llama", kind="text-generation", generation_config=former)

    settings = AutoModelForCausalLM.from_pretrained(target).generation_config
    assert (settings.num_beams, settings.do_sample) == (1, False)
    assert settings.no_repeat_ngram_size in (None, 0)
    assert settings.min_length in (None, 0)
    assert settings.max_new_tokens < 30


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("bert", "text-classification"),
        ("bert", "question-answering"),
        ("llama", "text-generation"),
        ("t5", "text-generation"),
    ],
)
def test_the_lines_of_the_card_run_in_the_folder(tmp_path: Path, architecture: str, kind: str) -> None:
    target = _export(tmp_path, architecture, kind=kind)
    (lines,) = re.findall(r"```python\n(.*?)```", (target / "README.md").read_text(), flags=re.DOTALL)

    ran = subprocess.run([sys.executable, "-c", lines], cwd=target, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.endswith("\n")


def test_the_card_names_metrics_as_the_field_does_and_says_that_a_base_model_is_local(tmp_path: Path) -> None:
    target = _export(tmp_path, "bert", kind="text-classification")

    card = (target / "README.md").read_text()

    assert "base_model:" not in card
    assert "- base model: bert, from a local folder, not a repository of a hub" in card
    assert "- validation f1 macro: 0.5000\n- validation accuracy: 0.7500\n- dev f1 macro: 0.2500\n" in card
    assert "- validation loss: 0.6000" in card
    assert 'metrics: ["f1", "accuracy"]' in card
    assert str(tmp_path) not in "".join(path.read_text() for path in target.glob("*.json"))


def test_the_card_of_a_hub_model_names_its_repository(tmp_path: Path) -> None:
    attempt_dir = write_family_attempt(tmp_path, "bert", kind="question-answering", method="full", params=PARAMS)
    data = read_json(attempt_dir / PIPELINE)
    hub = from_json(TrialPlan, data, where=PIPELINE)
    model = load_catalogue()["distilbert-base-uncased"]
    plan = TrialPlan(pipeline=hub.pipeline, model=model, seed=1)

    card = model_card(plan, describe_task("question-answering"), facts={**FACTS, "metrics": {"exact_match": 0.5}})

    assert 'base_model: "distilbert/distilbert-base-uncased"' in card
    assert "- validation exact_match: 0.5000" in card
    assert "Training ended after" not in card
    cut = model_card(plan, describe_task("question-answering"), facts={**FACTS, "epochs_done": 1.25})
    assert "Training ended after 1.25 epochs, when its time was used up; the best state was kept." in cut


REPORTED: Mapping[str, Any] = {
    **FACTS,
    "metrics": {"f1": 0.5, "exact_match": 0.25, "validation_loss": 0.6},
    "test": {"f1": 0.4375},
    "energy_j": 7.2e6,
    "hub_data": "towns/rows",
    "intervals": {"validation": [0.4, 0.6], "test": [0.25, 0.75]},
    "co2_g_per_kwh": 300.0,
    "gpu": "NVIDIA H200",
    "search": ["It is the best of 8 trials, of which 5 succeeded."],
}


def _plan(folder: Path, model_id: str, **fields: Any) -> TrialPlan:
    """Build the plan of a trial of a model of the catalogue."""
    attempt_dir = write_family_attempt(folder, "bert", kind="question-answering", method="full", params=PARAMS)
    plan = from_json(TrialPlan, read_json(attempt_dir / PIPELINE), where=PIPELINE)
    model = dataclasses.replace(load_catalogue()[model_id], **fields)
    return TrialPlan(pipeline=plan.pipeline, model=model, seed=1)


def test_hubs_read_scores_data_and_emissions_of_a_card(tmp_path: Path) -> None:
    plan, task = _plan(tmp_path, "distilbert-base-uncased"), describe_task("question-answering")

    text = model_card(plan, task, facts=REPORTED)

    data: Any = ModelCard(text).data  # raises where the hub's own library finds the scores incomplete
    results = data.eval_results or []
    assert {(each.dataset_split, each.metric_type): (each.metric_value, each.metric_args) for each in results} == {
        ("validation", "f1"): (0.5, {"interval_95": [0.4, 0.6]}),
        ("validation", "exact_match"): (0.25, None),
        ("test", "f1"): (0.4375, {"interval_95": [0.25, 0.75]}),
    }
    assert {(each.task_type, each.dataset_type) for each in results} == {("question-answering", "towns/rows")}
    assert {each.metric_name for each in results} == {"f1 (SQuAD)", "exact_match"}
    assert (data.license, data.base_model) == ("apache-2.0", "distilbert/distilbert-base-uncased")
    assert (data.datasets, data.library_name) == (["towns/rows"], "transformers")
    assert data.pipeline_tag == "question-answering"
    emitted = data["co2_eq_emissions"]
    assert (emitted["emissions"], emitted["hardware_used"]) == (600.0, "NVIDIA H200")
    assert "- emissions: 600 g CO2, at 300 g a kWh" in text
    assert "- validation f1 (SQuAD): 0.5000 (95 % interval 0.4000 to 0.6000)" in text
    assert "It is the best of 8 trials, of which 5 succeeded." in text


def test_the_card_says_its_limits(tmp_path: Path) -> None:
    plan, task = _plan(tmp_path, "distilbert-base-uncased"), describe_task("text-classification")
    many = dataclasses.replace(task, n_validation=5000, n_test=1000)

    untested = model_card(plan, task, facts=FACTS).partition("## Limits")[2]
    tested = model_card(plan, many, facts=REPORTED).partition("## Limits")[2]

    assert f"- The scores are of {task.n_validation} rows of validation: other rows would give other ones." in untested
    assert "It was not evaluated on test." in untested
    assert "- It answers every text with one of its 2 labels." in untested
    assert "- What exceeds 36 tokens was cut" in untested
    assert "The scores are of" not in tested
    assert "It was not evaluated on test." not in tested


@pytest.mark.parametrize("name", ["tickets \U0001f600", "a: [b]\u2028# c", "\x85'\"%"])
def test_odd_names_and_licences_leave_a_card_that_hubs_read(tmp_path: Path, name: str) -> None:
    plan = _plan(tmp_path, "distilbert-base-uncased", licence="Qwen Research, v1")
    task = dataclasses.replace(describe_task("question-answering"), name=name)

    data: Any = ModelCard(model_card(plan, task, facts=FACTS)).data

    assert (data.license, data["license_name"]) == ("other", "qwen-research-v1")
    (first, *_) = data.eval_results or []
    assert first.dataset_name == name
    assert re.fullmatch(r"[\w.-]+", first.dataset_type, flags=re.ASCII)
