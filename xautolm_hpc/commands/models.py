"""``models``: list the catalogue of pretrained models, what fits a profile's GPU, and what is in the cache."""

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from xautolm_hpc import report
from xautolm_hpc.catalogue import Model, is_gated, load_catalogue, load_lists, missing_weights
from xautolm_hpc.config import ClusterProfile, load_profile
from xautolm_hpc.driver.inputs import find_hf_home
from xautolm_hpc.hyperparameters import METHODS
from xautolm_hpc.records import Pipeline, System, Task, Value, to_json
from xautolm_hpc.sample import MemoryBudget, plan_execution
from xautolm_hpc.space import is_quantisable, is_supported

GIB = 1024**3
KIND = "text-classification"
EXAMPLE: dict[str, Value] = {
    "batch_size": 8,
    "max_length": 256,
    "optimizer": "adamw",
    "n_trainable_blocks": 2,
    "lora_r": 16,
    "lora_targets": "attention",
}
"""The pipeline that a model fits with, or not; what a method does not have is left out of it."""
FOR_METHODS = {"n_trainable_blocks": ("partial",), "lora_r": ("lora", "dora"), "lora_targets": ("lora", "dora")}
"""Hyperparameter of :data:`EXAMPLE` -> the methods that have it, where not all do."""
QUANTISED = "lora with nf4"

TASK = Task(
    name="example", kind=KIND, dataset_id="", fingerprint="", metric="macro-f1", n_train=1, n_dev=1, n_validation=1,
    n_test=0, labels=(), feature_schema="", features=(),
)  # fmt: skip
"""A task of texts of unknown length, which are taken for as long as ``max_length``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A model, and how it stands on this machine.

    Attributes:
        model: The model.
        gated: Whether its owner asks those who download it to accept terms first.
        lists: Names of the lists that it is in.
        in_cache: Whether its weights are at hand.
        fits: Methods that it can be trained with in the memory of a trial; ``None`` where that is unknown.
    """

    model: Model
    gated: bool
    lists: tuple[str, ...]
    in_cache: bool
    fits: tuple[str, ...] | None


def run(arguments: argparse.Namespace) -> int:
    """List the catalogue."""
    profile = load_profile(Path(arguments.profile) if arguments.profile else None)
    hf_home, budget = find_hf_home(profile, arguments.environ), _memory_budget(profile)
    rows = [_row(model, hf_home=hf_home, budget=budget) for model in load_catalogue().values()]
    if arguments.json:
        print(json.dumps([_as_json(row) for row in rows], indent=1))
        return 0
    console = Console()
    report.print_table(_table(rows), console)
    report.print_lines([Text(line) for line in _notes(budget, hf_home=hf_home)], console)
    return 0


def _as_json(row: _Row) -> dict[str, Any]:
    more = {"gated": row.gated, "lists": row.lists, "in_cache": row.in_cache, "fits": row.fits}
    return {**to_json(row.model), **to_json(more)}


def _row(model: Model, *, hf_home: Path, budget: MemoryBudget) -> _Row:
    return _Row(
        model=model,
        gated=is_gated(model),
        lists=tuple(name for name, ids in load_lists().items() if model.id in ids),
        in_cache=not missing_weights([model], hf_home, has_package=find_spec),
        fits=None if budget.memory_bytes is None else tuple(_fitting(model, budget)),
    )


def _memory_budget(profile: ClusterProfile) -> MemoryBudget:
    """Return the memory of a process of a trial, by the profile alone."""
    job, given = profile.job, profile.system
    n_gpus = job.n_gpus if given.n_gpus is None else min(given.n_gpus, job.n_gpus)
    memory = given.gpu_memory_gb if n_gpus else None
    system = System(
        site=profile.site,
        cluster=profile.cluster,
        n_gpus=n_gpus,
        gpu_memory_bytes=None if memory is None else int(memory * GIB),
    )
    return MemoryBudget.of(
        system, host_bytes=int(job.memory_gb * GIB), n_processes=n_gpus or job.n_processes, n_nodes=job.n_nodes
    )


def _fitting(model: Model, budget: MemoryBudget) -> Iterable[str]:
    """List the methods that a model can be trained with in some memory, weights of four bits only where they help."""
    for method in METHODS:
        if not is_supported(model, method):
            continue
        may_quantise = method == "lora" and budget.has_gpu and is_quantisable(model)
        if _fits(model, method, budget=budget):
            yield method
        elif may_quantise and _fits(model, method, budget=budget, quantization="nf4"):
            yield QUANTISED


def _fits(model: Model, method: str, *, budget: MemoryBudget, **more: Value) -> bool:
    params = {name: value for name, value in EXAMPLE.items() if method in FOR_METHODS.get(name, METHODS)}
    pipeline = Pipeline(
        task_kind=KIND, model_id=model.id, model_revision=None, method=method, params={**params, **more}
    )
    return plan_execution(pipeline, model, task=TASK, memory_budget=budget) is not None


def _table(rows: Iterable[_Row]) -> report.Table:
    """Build the table of models, a row each."""
    columns = (
        "Model", "Family", "Parameters", "Layers", "Context", "Licence", "Weights", "Lists", "At hand", "Fits with",
    )  # fmt: skip
    cells = tuple(
        (
            row.model.id,
            row.model.family,
            f"{row.model.n_parameters / 1e6:,.1f} M",
            str(row.model.n_layers),
            str(row.model.context_length),
            row.model.licence + (", gated" if row.gated else ""),
            f"package {row.model.package}" if row.model.package else row.model.path or row.model.hub_repo or "",
            ", ".join(row.lists),
            "yes" if row.in_cache else "no",
            _fits_text(row),
        )
        for row in rows
    )
    return report.Table(
        columns,
        cells,
        right=frozenset({"Parameters", "Layers", "Context"}),
        wraps=frozenset({"Licence", "Lists", "Fits with"}),
        rank=("Model", "Parameters", "At hand", "Fits with"),
    )


def _fits_text(row: _Row) -> str:
    if row.fits is None:
        return "–"
    supported = tuple(method for method in METHODS if is_supported(row.model, method))
    return "every method" if row.fits == supported else ", ".join(row.fits) or "nothing"


def _notes(budget: MemoryBudget, *, hf_home: Path) -> list[str]:
    """Write what the columns stand for."""
    example = f"texts of {EXAMPLE['max_length']} tokens, a sample at a time if need be"
    if budget.memory_bytes is None:
        fits = "Fits with: unknown; name a profile that says gpu_memory_gb in [system]"
    else:
        where = "on a GPU" if budget.has_gpu else "of a process, without a GPU"
        fits = f"Fits with: methods that train in {budget.memory_bytes / GIB:g} GiB {where}, {example}"
    return [
        f"At hand: whole in the offline cache {hf_home}, or installed here",
        "Gated: the owner grants access on request, on the page of the repository; prefetch then needs HF_TOKEN",
        fits,
    ]
