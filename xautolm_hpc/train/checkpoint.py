"""A checkpoint: everything that a resumed training needs to continue as if it had not been interrupted.

One file, written under a temporary name and renamed. It holds tensors and plain values only: reading it runs no code.
"""

import contextlib
import dataclasses
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from xautolm_hpc.durable import fsync_dir
from xautolm_hpc.failures import FailureKind
from xautolm_hpc.train import collectives
from xautolm_hpc.train.energy import EnergyReader
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.limit.trial_budget import Progress
from xautolm_hpc.train.loop import LoopState, TrainState, load_trainable, trainable
from xautolm_hpc.train.sharding import whole

FILE_NAME = "state.pt"
OTHER_VERSION = "state-of-another-version.pt"
"""Name of a checkpoint that was set aside."""

FORMAT = 1
"""Format of a checkpoint; it rises when a field means something else than before. Without a number it is 1."""


PARTS = frozenset({"weights", "optimizer", "scheduler", "scaler", "rng", "state", "progress"})
LOOP_FIELDS = frozenset(field.name for field in dataclasses.fields(LoopState))
PROGRESS_FIELDS = frozenset({
    "step", "n_samples", "train_s", "eval_s", "curve", "metrics", "dev_f1", "gpu_energy_j", "cpu_energy_j",
    "peak_gpu_memory_bytes",
})  # fmt: skip
"""Fields of a checkpoint's ``progress``: those of :func:`_progress_so_far`."""


def save_checkpoint(folder: Path, train_state: TrainState, *, energy: EnergyReader) -> None:
    """Write a checkpoint in place of the last one; rank 0 writes the file, all ranks take part.

    Args:
        folder: Checkpoint folder of the attempt; created if absent.
        train_state: What to save.
        energy: Energy of this restart so far.

    Raises:
        OSError: The file could not be written; the last checkpoint is untouched.
    """
    scaler = train_state.accelerator.scaler
    content = {
        "format": FORMAT,
        "weights": trainable(train_state.model),
        "optimizer": _whole_state(train_state.optimizer.state_dict()),
        "scheduler": train_state.scheduler.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
        # Training draws from torch's generators only: the order of samples follows from seed and epoch.
        "rng": collectives.all_gather(_generators()),
        "state": {field.name: getattr(train_state.loop, field.name) for field in dataclasses.fields(LoopState)},
        "progress": _progress_so_far(train_state.progress, energy),
        "edges": train_state.runner.edges(),
        "truncated": train_state.progress.truncated,
    }
    if not train_state.rank.is_first:
        return
    folder.mkdir(mode=0o700, exist_ok=True)
    aside = folder / f".{FILE_NAME}.tmp"
    with aside.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(folder / FILE_NAME)
    fsync_dir(folder)


def _read_content(path: Path) -> dict[str, Any]:
    """Read a checkpoint file onto the CPU; what it holds must be a table of names."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}")
    return content


def load_checkpoint(folder: Path, train_state: TrainState) -> bool:
    """Load the checkpoint of an attempt into its train state, if there is one.

    Args:
        folder: Checkpoint folder of the attempt.
        train_state: As it was built when training began; changed in place.

    A checkpoint of another version, whose fields are not those of this one, is set aside: nothing of it is taken over,
    and training begins anew.

    Returns:
        Whether there was a checkpoint of this version.

    Raises:
        TrialError: It cannot be read; kind ``storage``, so that the trial is run again from its start.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return False
    try:
        content = _read_content(path)
        if difference := _difference(content):
            _set_aside(path, train_state, why=difference)
            return False
        _restore(train_state, content)
    except (RuntimeError, ValueError, KeyError, EOFError, TypeError, pickle.UnpicklingError) as error:
        raise TrialError(FailureKind.STORAGE, f"checkpoint `{path}` cannot be read: {error}") from error
    return True


def _difference(content: dict[str, Any]) -> str | None:
    """Describe by what a checkpoint is of another version; ``None`` if it has the fields of this one."""
    found_format = content.get("format", 1)
    if found_format != FORMAT:
        return f"format {found_format} instead of {FORMAT}"
    for part, expected in (("state", LOOP_FIELDS), ("progress", PROGRESS_FIELDS)):
        found = set(content.get(part, ()))
        if found != expected:
            return f"other fields of {part}: {', '.join(sorted(map(str, found ^ expected)))}"
    missing = PARTS - set(content)
    return f"no {min(missing)}" if missing else None


def _set_aside(path: Path, train_state: TrainState, *, why: str) -> None:
    """Rename a checkpoint of another version, and note it in the log and in the outcome; every rank comes here."""
    note = f"a checkpoint of another version ({why}) was set aside; training began anew"
    if train_state.rank.is_first:
        train_state.progress.notes.append(note)
        sys.stderr.write(f"{path.parent.name}/{path.name}: {note}\n")
        with contextlib.suppress(FileNotFoundError):
            path.replace(path.with_name(OTHER_VERSION))


def _restore(train_state: TrainState, content: dict[str, Any]) -> None:
    """Copy a checkpoint into the train state; the generators only if the number of ranks is still the same."""
    load_trainable(train_state.model, content["weights"])
    _load_state(train_state.optimizer, content["optimizer"])
    train_state.scheduler.load_state_dict(content["scheduler"])
    if content["scaler"] is not None and train_state.accelerator.scaler is not None:
        train_state.accelerator.scaler.load_state_dict(content["scaler"])
    if len(content["rng"]) == train_state.rank.n_ranks:
        _set_generators(content["rng"][train_state.rank.index])
    for name, value in content["state"].items():
        setattr(train_state.loop, name, value)
    _restore_progress(train_state.progress, content["progress"])
    if content.get("truncated"):  # earlier versions wrote none
        train_state.progress.truncated = True
        train_state.progress.notes.append("truncated: the budget was used up before a restart")
    if content.get("edges") is not None:  # of captured steps; earlier versions wrote none
        train_state.runner.use_edges(content["edges"])


def _generators() -> dict[str, Any]:
    """Read the state of torch's generators in this process: of the CPU and of its own GPU."""
    on_gpu = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {"cpu": torch.get_rng_state(), "gpu": on_gpu}


def _set_generators(saved: dict[str, Any]) -> None:
    torch.set_rng_state(saved["cpu"])
    if saved["gpu"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(saved["gpu"])


def _whole_state(state: dict[str, Any]) -> dict[str, Any]:
    """Gather the sharded tensors of an optimiser's state."""
    kept = {
        number: {name: whole(value) if isinstance(value, Tensor) else value for name, value in slots.items()}
        for number, slots in state["state"].items()
    }
    return {**state, "state": kept}


def _load_state(optimizer: AcceleratedOptimizer, state: dict[str, Any]) -> None:
    """Load an optimiser's state; of a sharded tensor each rank takes its own shard."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, slots in state["state"].items():
        parameter = parameters[number]
        for name, value in slots.items():
            if isinstance(parameter, DTensor) and isinstance(value, Tensor) and value.shape == parameter.shape:
                slots[name] = distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    optimizer.load_state_dict(state)


def _progress_so_far(progress: Progress, energy: EnergyReader) -> dict[str, Any]:
    """Collect the counts and times that a resumed trial continues from, as plain values."""
    energy.sample()
    return {
        "step": progress.step,
        "n_samples": progress.n_samples,
        "train_s": progress.train.total_s,
        "eval_s": progress.eval.total_s,
        "curve": progress.curve,
        "metrics": progress.metrics,
        "dev_f1": progress.dev_f1,
        "gpu_energy_j": progress.energy_j(energy, "gpu"),
        "cpu_energy_j": progress.energy_j(energy, "cpu"),
        "peak_gpu_memory_bytes": progress.peak_gpu_memory_bytes,
    }


def _restore_progress(progress: Progress, saved: dict[str, Any]) -> None:
    progress.step, progress.n_samples = saved["step"], saved["n_samples"]
    progress.train.before_s, progress.eval.before_s = saved["train_s"], saved["eval_s"]
    progress.curve = [tuple(row) for row in saved["curve"]]
    progress.metrics, progress.dev_f1 = saved["metrics"], saved["dev_f1"]
    progress.gpu_energy_before_j, progress.cpu_energy_before_j = saved["gpu_energy_j"], saved["cpu_energy_j"]
    progress.peak_gpu_memory_bytes = saved["peak_gpu_memory_bytes"]
