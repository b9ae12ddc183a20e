"""The model card of an exported pipeline: what it is, how it is used, what it scores."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from xautolm_hpc.hyperparameters import ADAPTER_METHODS
from xautolm_hpc.jobdir import SPLITS, TrialPlan
from xautolm_hpc.records import Task
from xautolm_hpc.task_kinds import TASK_KINDS

HUB_METRICS = ("f1", "accuracy", "exact_match")
"""Metrics that hubs know by these names."""

HUB_LICENCES = {
    "afl-3.0", "agpl-3.0", "apache-2.0", "bigscience-bloom-rail-1.0", "bigscience-openrail-m", "bsd-2-clause",
    "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-sa-4.0", "cc0-1.0", "gemma", "gpl-3.0",
    "lgpl-3.0", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "mit", "mpl-2.0", "openrail", "openrail++",
    "other", "unknown", "unlicense",
}  # fmt: skip
"""Licences that hubs know by these names; any other one is named beside ``other``."""

FEW_ROWS = 1000
"""Rows of a split below which the card says that other rows would give another score."""

J_PER_KWH = 3.6e6

UNFIT_FOR_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
"""Characters that JSON leaves as they are and YAML does not take, or takes for the end of a line."""

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
            ``licence``, that of the base model where its entry says none, ``epochs_done`` of a truncated trial,
            ``hub_data``, the repository of the data, ``intervals`` of F1 by split, ``co2_g_per_kwh``, ``gpu`` and
            ``search``, sentences that say how it was found.
        frozen: How the weights that were not trained were kept: a number format, or ``nf4+`` and one.
        is_apart: Whether the folder holds adapters alone.
    """
    licence = facts.get("licence") or plan.model.licence
    header = _header(plan, task, facts=facts, licence=licence, is_apart=is_apart)
    params = "\n".join(f"- {name}: {value}" for name, value in plan.pipeline.params.items())
    return "\n".join(
        [
            "---",
            *(f"{name}: {_yaml(value)}" for name, value in header.items()),
            "---",
            "",
            f"# {plan.model.id} fine-tuned for {task.name}",
            "",
            f"Trial {facts['trial']} of the search `{facts['run']}`, made with xautolm-hpc.",
            *facts.get("search", ()),
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
            *_data(task, facts.get("hub_data")),
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
            "## Limits",
            "",
            *_limits(plan, task, facts=facts),
            "",
            "## Licence",
            "",
            f"The base model is published under {licence}; its terms hold for these weights too. The data's "
            "own terms may add to them.",
            "",
        ]
    )


def _yaml(value: object) -> str:
    """Write a value as JSON that is YAML too."""
    return UNFIT_FOR_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def _header(plan: TrialPlan, task: Task, *, facts: Mapping[str, Any], licence: str, is_apart: bool) -> dict[str, Any]:
    """Collect what hubs read of a card."""
    kind, named = TASK_KINDS[task.kind], re.sub(r"[^a-z0-9.+-]+", "-", licence.lower()).strip("-")
    known = named in HUB_LICENCES
    tag = kind.hub_tags.get(plan.model.family, kind.hub_tag)
    energy_j, grams = facts["energy_j"], facts.get("co2_g_per_kwh")
    emissions = {} if energy_j is None or grams is None else {
        "emissions": energy_j / J_PER_KWH * grams, "source": "GPU energy of this trial and the intensity of the grid",
        "training_type": "fine-tuning", **({"hardware_used": facts["gpu"]} if facts.get("gpu") else {}),
    }  # fmt: skip
    return {
        **({"base_model": plan.model.hub_repo} if plan.model.hub_repo else {}),  # hubs take it for a repository
        **({"datasets": [facts["hub_data"]]} if facts.get("hub_data") else {}),
        "pipeline_tag": tag,
        "library_name": "peft" if is_apart else "transformers",
        "license": named if known else "other",
        **({} if known else {"license_name": named}),
        "metrics": [name for name in HUB_METRICS if name in facts["metrics"]],
        "tags": ["xautolm-hpc", plan.pipeline.method],
        **({"co2_eq_emissions": emissions} if emissions else {}),
        "model-index": [
            {"name": f"{plan.model.id} fine-tuned for {task.name}", "results": _index(task, facts, tag=tag)}
        ],
    }


def _index(task: Task, facts: Mapping[str, Any], *, tag: str) -> list[dict[str, Any]]:
    """List the scores on each split as hubs read them."""
    data = facts.get("hub_data") or re.sub(r"[^\w.-]+", "-", task.name, flags=re.ASCII)
    splits = [("validation", facts["metrics"]), ("test", facts["test"] or {})]
    return [
        {
            "task": {"type": tag},
            "dataset": {"name": task.name, "type": data, "split": split},
            "metrics": [
                _indexed(task, facts, split=split, name=n, value=metrics[n]) for n in HUB_METRICS if n in metrics
            ],
        }
        for split, metrics in splits
        if any(name in metrics for name in HUB_METRICS)
    ]


def _indexed(task: Task, facts: Mapping[str, Any], *, split: str, name: str, value: float) -> dict[str, Any]:
    """Write a metric as hubs read it."""
    interval = facts.get("intervals", {}).get(split) if name == "f1" else None
    arguments = {"args": {"interval_95": interval}} if interval else {}
    return {"type": name, "value": value, "name": F1_NAMES[task.metric] if name == "f1" else name, **arguments}


def _limits(plan: TrialPlan, task: Task, *, facts: Mapping[str, Any]) -> list[str]:
    """List what a reader should not expect of the model."""
    rows = {"validation": task.n_validation, **({"test": task.n_test} if facts["test"] else {})}
    few = [f"{n:,} rows of {split}" for split, n in rows.items() if n < FEW_ROWS]
    longest = plan.pipeline.params.get("max_length")
    return [
        *([f"- The scores are of {' and '.join(few)}: other rows would give other ones."] if few else []),
        *(
            []
            if facts["test"]
            else ["- It was not evaluated on test. The best of many trials is a little lucky on validation."]
        ),
        *([f"- It answers every text with one of its {len(task.labels)} labels."] if task.labels else []),
        *([f"- What exceeds {longest} tokens was cut when it was trained and evaluated."] if longest else []),
        "- It was evaluated on rows like those that it has learnt from, and on no others. What the base model and the "
        "data are biased to, it is too.",
    ]


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
        *_table("validation", facts["metrics"], metric=task.metric, intervals=facts.get("intervals", {})),
        *_table("test", facts["test"], metric=task.metric, intervals=facts.get("intervals", {})),
        "",
        "## Cost",
        "",
        f"- training and evaluation: {_number(facts['time_s'], 's')}",
        f"- GPU energy: {_number(facts['energy_j'], 'J')}",
        *_emissions(facts["energy_j"], facts.get("co2_g_per_kwh")),
        "",
    ]


def _emissions(energy_j: float | None, grams: float | None) -> list[str]:
    if energy_j is None or grams is None:
        return []
    return [f"- emissions: {energy_j / J_PER_KWH * grams:.3g} g CO2, at {grams:g} g a kWh"]


def _data(task: Task, hub_data: str | None) -> list[str]:
    """List what the data is."""
    return [
        *([f"- data set: {hub_data}, of a hub"] if hub_data else []),
        *([f"- labels: {', '.join(task.labels)}"] if 0 < len(task.labels) <= 20 else []),
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


def _table(
    split: str, metrics: Mapping[str, float] | None, *, metric: str, intervals: Mapping[str, Sequence[float]]
) -> list[str]:
    """List the metrics on a split, F1 with its interval where it is known."""
    if not metrics:
        return [f"- {split}: not evaluated"]
    ends = intervals.get(split)
    sure = {"f1": f" (95 % interval {ends[0]:.4f} to {ends[1]:.4f})"} if ends else {}
    return [
        f"- {_metric_name(split, name, metric=metric)}: {value:.4f}{sure.get(name, '')}"
        for name, value in metrics.items()
    ]


def _metric_name(split: str, name: str, *, metric: str) -> str:
    """Name a metric as the field does, with its split; some carry their split in their name."""
    own, _, rest = name.partition("_")
    if own in SPLITS and rest:
        split, name = own, rest
    return f"{split} {F1_NAMES[metric] if name == 'f1' else name}"


def _number(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{value:.1f} {unit}"
