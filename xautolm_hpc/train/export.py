"""Writes a trained pipeline as a folder that transformers loads: merged weights, tokeniser, model card."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xautolm_hpc.durable import read_json
from xautolm_hpc.jobdir import COMMAND, EXPORT, PIPELINE, TASK, Command, TrialInput, TrialPlan
from xautolm_hpc.records import Task, from_json
from xautolm_hpc.task_kinds import TASK_KINDS
from xautolm_hpc.train.assess import load_trained
from xautolm_hpc.train.pretrained import find_source, load_tokenizer
from xautolm_hpc.train.stop import StopFlag


def run_export(attempt_dir: Path, stop: StopFlag) -> int:
    """Write a trained pipeline to the folder that ``export.json`` names.

    Args:
        attempt_dir: Folder with ``task.json``, ``command.json`` and ``export.json``: the trial's own folder under
            ``trial``, the folder to write under ``to``, the figures for the model card under ``facts``.
        stop: Set by a signal.

    Returns:
        0 once everything is written.

    Raises:
        TrialError: The weights, the data or the base model are missing.
        OSError: The folder could not be written.
    """
    wanted = read_json(attempt_dir / EXPORT)
    trial_dir, target = Path(wanted["trial"]), Path(wanted["to"])
    command = from_json(Command, read_json(attempt_dir / COMMAND), where=COMMAND)
    trial = from_json(TrialInput, read_json(attempt_dir / TASK), where=TASK)
    plan = from_json(TrialPlan, read_json(trial_dir / PIPELINE), where=PIPELINE)
    train_state = load_trained(trial_dir, command=command, trial=trial, stop=stop)
    model: Any = train_state.accelerator.unwrap_model(train_state.model)
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    tokenizer = load_tokenizer(find_source(plan.model, plan.hf_home), plan.model)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    (target / "README.md").write_text(model_card(plan, trial.task, facts=wanted["facts"]), encoding="utf-8")
    return 0


def model_card(plan: TrialPlan, task: Task, *, facts: Mapping[str, Any]) -> str:
    """Write a model card: what was trained on what, what it scores, what it cost, under which licence.

    Args:
        plan: Pipeline and base model.
        task: The task.
        facts: ``metrics``, ``test``, ``time_s``, ``energy_j``, ``run`` and ``trial``; ``None`` where unknown.
    """
    kind = TASK_KINDS[task.kind]
    base = plan.model.hub_repo or plan.model.id
    header = {
        "base_model": base,
        "pipeline_tag": kind.hub_tags.get(plan.model.family, kind.hub_tag),
        "library_name": "transformers",
        "license": plan.model.licence.lower(),
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
            "## Data",
            "",
            f"- dataset id: `{task.dataset_id}`",
            f"- fingerprint of rows, split and metric: `{task.fingerprint}`",
            f"- rows: {task.n_train} train, {task.n_dev} dev, {task.n_validation} validation, {task.n_test} test",
            "",
            "## Pipeline",
            "",
            f"- base model: {base}, revision {plan.model.revision or 'as cached'}",
            f"- method: {plan.pipeline.method}",
            f"- seed: {plan.seed}",
            params,
            "",
            f"## Metrics (f1 is {task.metric})",
            "",
            *_table("validation", facts["metrics"]),
            *_table("test", facts["test"]),
            "",
            "## Cost",
            "",
            f"- training and evaluation: {_number(facts['time_s'], 's')}",
            f"- GPU energy: {_number(facts['energy_j'], 'J')}",
            "",
            "## Licence",
            "",
            f"The base model is published under {plan.model.licence}; its terms hold for these weights too. The data's "
            "own terms may add to them.",
            "",
        ]
    )


def _table(split: str, metrics: Mapping[str, float] | None) -> list[str]:
    if not metrics:
        return [f"- {split}: not evaluated"]
    return [f"- {split} {name}: {value:.4f}" for name, value in metrics.items()]


def _number(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{value:.1f} {unit}"
