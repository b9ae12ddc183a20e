"""Checks models before the first trial: whether weights, configuration and tokeniser of each fit together.

Reads ``models.json`` in a folder; prints a finding for each model as JSON. Weights are not read, only their headers.
Where there is a GPU, it also measures what plans of memory and time need to know.
"""

import json
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from xautolm_hpc.catalogue import Model
from xautolm_hpc.durable import read_json
from xautolm_hpc.execution import ModelCosts, load_step_costs
from xautolm_hpc.model_check import MODELS, ModelCheckRequest, ModelFinding, WorkerAnswer
from xautolm_hpc.records import from_json, to_json
from xautolm_hpc.train.costs.calibration import measure_speed
from xautolm_hpc.train.costs.measure import measure_costs
from xautolm_hpc.train.exceptions import TrialError, classify, describe
from xautolm_hpc.train.fit.embeddings import check_vocabulary, count_rows
from xautolm_hpc.train.kinds.classification import Classification
from xautolm_hpc.train.kinds.extraction import Extraction
from xautolm_hpc.train.kinds.generation import writing_class
from xautolm_hpc.train.prepare import fit_tokenizer
from xautolm_hpc.train.pretrained import check_model, find_source, load_config, load_tokenizer

HEADS: Mapping[str, str] = {
    "text-classification": Classification.auto_class,
    "question-answering": Extraction.auto_class,
}
"""Kind of task -> class of transformers that puts a new head on a model; other kinds use the model's own head."""

UNREADABLE = (SafetensorError, pickle.UnpicklingError, EOFError)
"""What the libraries raise for weights that are not whole."""

UNBUILDABLE = (RuntimeError, ValueError, KeyError, AssertionError, TypeError, AttributeError, ZeroDivisionError)
"""What they raise when no architecture can be built from a configuration."""


def check_models(folder: Path) -> int:
    """Check the models that ``models.json`` in a folder lists, and print the findings.

    Returns:
        Exit status 0, whatever was found.

    Raises:
        InputError: ``models.json`` is damaged.
        FileNotFoundError: There is none.
    """
    path = folder / MODELS
    request = from_json(ModelCheckRequest, read_json(path), where=str(path))
    findings = tuple(find_fault(model, request.task_kind, hf_home=request.hf_home) for model in request.models)
    speed = measure_speed(torch.device("cuda")) if torch.cuda.is_available() else None
    sys.stdout.write(json.dumps(to_json(WorkerAnswer(findings=findings, speed=speed)), indent=1) + "\n")
    return 0


def find_fault(model: Model, task_kind: str, *, hf_home: str | None) -> ModelFinding:
    """Check one model for a kind of task.

    Args:
        model: The model, as in the catalogue.
        task_kind: Kind of task.
        hf_home: Offline cache of hub models.
    """
    try:
        built, notes = _check(model, task_kind, hf_home=hf_home)
    except TrialError as error:
        return ModelFinding(model=model.id, kind=error.kind, reason=str(error))
    except (*UNREADABLE, *UNBUILDABLE) as error:
        kind = classify(error, gpu_was_busy=False)
        reason = f"model {model.id}: it cannot be built from its files: {describe(error).splitlines()[-1]}"
        return ModelFinding(model=model.id, kind=kind, reason=reason)
    attention = getattr(built.config, "_attn_implementation", None)
    return ModelFinding(model=model.id, notes=notes, attention=attention, costs=_measure_costs(built, model))


def _measure_costs(built: PreTrainedModel, model: Model) -> ModelCosts | None:
    """Measure what steps of a model cost where it will be trained on a GPU and the catalogue does not know it."""
    if not torch.cuda.is_available() or model.id in load_step_costs():
        return None
    return measure_costs(
        built.config, family=model.family, context_length=model.context_length, precisions=("half", "single")
    )


def _check(model: Model, task_kind: str, *, hf_home: str | None) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """Load what is small of a model, compare the rest; return it without weights, and notes."""
    source = find_source(model, hf_home)
    tokenizer = load_tokenizer(source, model)
    config = load_config(source, model, dropout_rate=None, tokenizer=tokenizer)
    fit_tokenizer(tokenizer, config, model_id=model.id)
    auto_class = HEADS.get(task_kind) or writing_class(model.family)
    built, notes = check_model(source, model, auto_class=auto_class, config=config, has_new_head=task_kind in HEADS)
    check_vocabulary(tokenizer, count_rows(built), model_id=model.id)
    return built, notes
