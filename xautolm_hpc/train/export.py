"""Writes a trained pipeline as a folder that transformers loads: weights, tokeniser, model card.

Adapters are merged into the weights, in single precision: four-bit weights are expanded for that. Or they are written
alone, for the base model.
"""

import sys
from pathlib import Path
from typing import Any

from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.jobdir import COMMAND, EXPORT, PIPELINE, TASK, WEIGHTS, Command, TrialInput, TrialPlan
from xautolm_hpc.predictions import PREDICT
from xautolm_hpc.records import from_json
from xautolm_hpc.train.answer_rows import describe_task
from xautolm_hpc.train.assess import load_trained
from xautolm_hpc.train.card import model_card
from xautolm_hpc.train.frozen.precision import read_frozen
from xautolm_hpc.train.stop import StopFlag


def run_export(attempt_dir: Path, stop: StopFlag) -> int:
    """Write a trained pipeline to the folder that ``export.json`` names.

    Args:
        attempt_dir: Folder with ``task.json``, ``command.json`` and ``export.json``: the trial's own folder under
            ``trial``, the folder to write under ``to``, the figures for the model card under ``facts``, and under
            ``adapter`` whether adapters are written alone; ``columns`` are those of the run's data that it reads.
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
    train_state = load_trained(trial_dir, command=command, trial=trial, stop=stop, in_single=True)
    model: Any = train_state.accelerator.unwrap_model(train_state.model)
    is_apart = bool(wanted.get("adapter", False))
    if hasattr(model, "merge_and_unload") and not is_apart:
        model = model.merge_and_unload()
    model.config.transformers_weights = None  # a base model's own name of its weights
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = True
    model.save_pretrained(target)
    export_tokenizer(train_state.task, family=plan.model.family).save_pretrained(target)
    write_json(
        target / PREDICT, {**describe_task(train_state.task, trial.task.kind), "columns": wanted.get("columns", {})}
    )
    card = model_card(
        plan, trial.task, facts=wanted["facts"], frozen=read_frozen(trial_dir / WEIGHTS), is_apart=is_apart
    )
    (target / "README.md").write_text(card, encoding="utf-8")
    return 0


def export_tokenizer(task: Any, *, family: str) -> Any:
    """Return the tokeniser of a trained task, set to pad and to cut texts as the model has learnt."""
    tokenizer = task.tokenizer
    is_writer = family == "decoder" and hasattr(task, "max_prompt")
    tokenizer.padding_side = "left" if is_writer else "right"
    tokenizer.model_max_length = min(tokenizer.model_max_length, getattr(task, "max_length", sys.maxsize))
    return tokenizer
