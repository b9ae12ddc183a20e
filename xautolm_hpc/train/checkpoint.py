"""A checkpoint: all that a resumed training needs to go on as if it had never stopped.

One file, written aside and renamed. It holds tensors and plain values only, so that reading it runs no code.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any

import torch

from xautolm_hpc.durable import fsync_dir
from xautolm_hpc.train.energy import EnergyReader
from xautolm_hpc.train.loop import Bench, LoopState, load_trainable, trainable
from xautolm_hpc.train.watch import Progress

FILE_NAME = "state.pt"


def save_checkpoint(folder: Path, bench: Bench, *, energy: EnergyReader) -> None:
    """Write a checkpoint in place of the last one.

    Args:
        folder: Checkpoint folder of the attempt; made if absent.
        bench: The model, all it is trained with, and what the trial has done so far.
        energy: What this restart has used so far.

    Raises:
        OSError: The file system refused; the last checkpoint is untouched.
    """
    scaler = bench.accelerator.scaler
    content = {
        "weights": trainable(bench.model),
        "optimizer": bench.optimizer.state_dict(),
        "scheduler": bench.scheduler.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
        # Training draws from torch alone: the order of samples follows from seed and epoch.
        "cpu_rng": torch.get_rng_state(),
        "gpu_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "state": {field.name: getattr(bench.state, field.name) for field in dataclasses.fields(LoopState)},
        "progress": _progress_so_far(bench.progress, energy),
    }
    folder.mkdir(mode=0o700, exist_ok=True)
    aside = folder / f".{FILE_NAME}.tmp"
    with aside.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(folder / FILE_NAME)
    fsync_dir(folder)


def load_checkpoint(folder: Path, bench: Bench) -> bool:
    """Bring a bench to where a checkpoint was taken.

    Args:
        folder: Checkpoint folder of the attempt.
        bench: Set up as it was when training began.

    Returns:
        Whether there was a checkpoint.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return False
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    load_trainable(bench.model, content["weights"])
    bench.optimizer.load_state_dict(content["optimizer"])
    bench.scheduler.load_state_dict(content["scheduler"])
    if content["scaler"] is not None and bench.accelerator.scaler is not None:
        bench.accelerator.scaler.load_state_dict(content["scaler"])
    torch.set_rng_state(content["cpu_rng"])
    if len(content["gpu_rng"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(content["gpu_rng"])
    for name, value in content["state"].items():
        setattr(bench.state, name, value)
    _restore_progress(bench.progress, content["progress"])
    return True


def _progress_so_far(progress: Progress, energy: EnergyReader) -> dict[str, Any]:
    """Collect what a resumed run must add to, as plain values."""
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
