"""The model card of an exported pipeline: what it is, how it is used, what it scores."""

import json
from collections.abc import Mapping
from typing import Any

from xautolm_hpc.hyperparameters import ADAPTER_METHODS
from xautolm_hpc.jobdir import SPLITS, TrialPlan
from xautolm_hpc.records import Task
from xautolm_hpc.task_kinds import TASK_KINDS

HUB_METRICS = ("f1", "accuracy", "exact_match")
"""Metrics that hubs know by these names."""

F1_NAMES: Mapping[str, str] = {"macro-f1": "f1 macro", "squad-f1": "f1 (SQuAD)", "drop-f1": "f1 (DROP)"}

PROMPT = "Context: Ada lives in Oslo. Question: Where does Ada live? Answer:"

USAGE: Mapping[tuple[str, str], str] = {
    ("text-classification", ""): """\
from transformers import pipeline

classify = pipeline("text-classification", model=".")
print(classify("A text to classify.", truncation=True))""",
    ("question-answering", ""): """\
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForQuestionAnswering.from_pretrained(".")
inputs = tokenizer("Where does Ada live?", "Ada lives in Oslo.", truncation="only_second", return_tensors="pt")
with torch.no_grad():
    output = model(**inputs)
start, end = int(output.start_logits.argmax()), int(output.end_logits.argmax())
print(tokenizer.decode(inputs["input_ids"][0, start : end + 1]))""",
    ("text-generation", "decoder"): f"""\
from transformers import pipeline

answer = pipeline("text-generation", model=".")
print(answer("{PROMPT}", return_full_text=False))""",
    ("text-generation", ""): f"""\
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForSeq2SeqLM.from_pretrained(".")
inputs = tokenizer("{PROMPT}", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs)[0], skip_special_tokens=True))""",
}
"""Kind of task and family, or "" for any other -> lines that use an exported model, run in its folder."""


ADAPTER_USAGE = """\
from peft import PeftModel
from transformers import {auto_class}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
base = {auto_class}.from_pretrained({base!r}{options})
model = PeftModel.from_pretrained(base, ".")"""
"""Lines that load adapters beside their base model; ``options`` are the arguments that the kind of task needs."""


def model_card(
    plan: TrialPlan, task: Task, *, facts: Mapping[str, Any], frozen: str = "float32", is_apart: bool = False
) -> str:
    """Write a model card: what was trained on what, what it scores, what it cost, under which licence.

    Args:
        plan: Pipeline and base model.
        task: The task.
        facts: ``metrics``, ``test``, ``time_s``, ``energy_j``, ``run`` and ``trial``; ``None`` where unknown; perhaps
            ``licence``, that of the base model where its entry says none, and ``epochs_done`` of a truncated trial.
        frozen: How the weights that were not trained were kept: a number format, or ``nf4+`` and one.
        is_apart: Whether the folder holds adapters alone.
    """
    kind, licence = TASK_KINDS[task.kind], facts.get("licence") or plan.model.licence
    header: dict[str, Any] = {
        **({"base_model": plan.model.hub_repo} if plan.model.hub_repo else {}),  # hubs take it for a repository
        "pipeline_tag": kind.hub_tags.get(plan.model.family, kind.hub_tag),
        "library_name": "peft" if is_apart else "transformers",
        "license": licence.lower(),
        "metrics": [name for name in HUB_METRICS if name in facts["metrics"]],
    }
    params = "\n".join(f"- {name}: {value}" for name, value in plan.pipeline.params.items())
    return "\n".join(
        [
            "---",
            *(f"{name}: {json.dumps(value)}" for name, value in header.items()),
            "---",
            "",
            f"# {plan.model.id} fine-tuned for {task.name}",
            "",
            f"Trial {facts['trial']} of the search `{facts['run']}`, made with xautolm-hpc.",
            "",
            "## Usage",
            "",
            "In this folder; elsewhere give its path, or the name of its repository, instead of `.`:",
            "",
            "```python",
            _adapter_usage(plan, task) if is_apart else _usage(task.kind, plan.model.family),
            "```",
            "",
            "## Weights",
            "",
            _weights(plan, frozen=frozen, is_apart=is_apart),
            "",
            "## Data",
            "",
            *_data(task),
            "",
            "## Pipeline",
            "",
            f"- base model: {_base_model(plan)}",
            f"- method: {plan.pipeline.method}",
            f"- seed: {plan.seed}",
            params,
            *_truncated(facts.get("epochs_done")),
            "",
            *_results(task, facts),
            "## Licence",
            "",
            f"The base model is published under {licence}; its terms hold for these weights too. The data's "
            "own terms may add to them.",
            "",
        ]
    )


def _truncated(epochs_done: float | None) -> list[str]:
    """Note that training did not reach its end."""
    if epochs_done is None:
        return []
    return ["", f"Training ended after {epochs_done:.3g} epochs, when its time was used up; the best state was kept."]


def _results(task: Task, facts: Mapping[str, Any]) -> list[str]:
    """List the lines of the sections Metrics and Cost."""
    return [
        "## Metrics",
        "",
        *_table("validation", facts["metrics"], metric=task.metric),
        *_table("test", facts["test"], metric=task.metric),
        "",
        "## Cost",
        "",
        f"- training and evaluation: {_number(facts['time_s'], 's')}",
        f"- GPU energy: {_number(facts['energy_j'], 'J')}",
        "",
    ]


def _data(task: Task) -> list[str]:
    return [
        f"- dataset id: `{task.dataset_id}`",
        f"- fingerprint of rows, split and metric: `{task.fingerprint}`",
        f"- rows: {task.n_train} train, {task.n_dev} dev, {task.n_validation} validation, {task.n_test} test",
    ]


def _base_model(plan: TrialPlan) -> str:
    """Name the base model and where it is from."""
    model = plan.model
    if model.hub_repo is not None:
        return f"{model.hub_repo}, revision {model.revision or 'as cached'}"
    kept = "" if model.keep_layers is None else f", its first {model.keep_layers} blocks"
    where = f"the Python package {model.package}" if model.package else "a local folder"
    return f"{model.id}, from {where}, not a repository of a hub{kept}"


def _adapter_usage(plan: TrialPlan, task: Task) -> str:
    """Return lines of Python that put the adapters onto the base model."""
    base = plan.model.hub_repo or f"the folder of {plan.model.id}"
    options = f", num_labels={len(task.labels)}" if task.kind == "text-classification" else ""
    return ADAPTER_USAGE.format(auto_class=_auto_class(task.kind, plan.model.family), base=base, options=options)


def _auto_class(kind: str, family: str) -> str:
    """Return the class of transformers that loads the base model."""
    writing = "AutoModelForCausalLM" if family == "decoder" else "AutoModelForSeq2SeqLM"
    known = {
        "text-classification": "AutoModelForSequenceClassification",
        "question-answering": "AutoModelForQuestionAnswering",
    }
    return known.get(kind, writing)


def _weights(plan: TrialPlan, *, frozen: str, is_apart: bool) -> str:
    """Write which weights are in the folder, and how those that were not trained were kept."""
    if plan.pipeline.method == "full":
        return "All weights were trained; they are in single precision."
    kept = frozen.removeprefix("nf4+")
    quantised = "NF4 with double quantisation for the linear layers of the blocks, " if kept != frozen else ""
    during = f"While training, the weights that were not trained were kept in {quantised}{kept}"
    if is_apart:
        return f"Adapters alone, in single precision. {during}{'; load the base model likewise' if quantised else ''}."
    if plan.pipeline.method not in ADAPTER_METHODS:
        return f"All weights, in single precision. {during}."
    expanded = ", which were expanded before" if quantised else ""
    return f"Adapters are merged into the weights, in single precision. {during}{expanded}."


def _usage(kind: str, family: str) -> str:
    """Return lines of Python that use the model."""
    return USAGE.get((kind, family)) or USAGE[kind, ""]


def _table(split: str, metrics: Mapping[str, float] | None, *, metric: str) -> list[str]:
    if not metrics:
        return [f"- {split}: not evaluated"]
    return [f"- {_metric_name(split, name, metric=metric)}: {value:.4f}" for name, value in metrics.items()]


def _metric_name(split: str, name: str, *, metric: str) -> str:
    """Name a metric as the field does, with its split; some carry their split in their name."""
    own, _, rest = name.partition("_")
    if own in SPLITS and rest:
        split, name = own, rest
    return f"{split} {F1_NAMES[metric] if name == 'f1' else name}"


def _number(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{value:.1f} {unit}"
