"""Tests whether trials can run on this node: imports, GPUs, energy counters, one training step.

``doctor --job`` and the first job of a cluster profile run it where a trial would run. It needs no data and no weights.
"""

import ctypes
import os
import sys
import time
from importlib import import_module
from pathlib import Path

from xautolm_hpc import __version__
from xautolm_hpc.durable import create_json
from xautolm_hpc.node import list_gpus
from xautolm_hpc.records import to_json
from xautolm_hpc.train.energy import open_energy_reader
from xautolm_hpc.view import Finding, failure, ok, warning

CHECK = "check.json"
LIBRARIES = ("torch", "transformers", "peft", "accelerate")
DRIVER_LIBRARIES = ("libcuda.so.1", "libnvidia-ml.so.1")
N_WORDS, N_TOKENS, N_TEXTS = 64, 16, 4


def run_test(
    attempt_dir: Path, *, visible_gpus: str | None, n_promised_gpus: int, driver_dir: str | None = None
) -> int:
    """Test this node and write ``check.json``.

    Args:
        attempt_dir: The attempt folder.
        visible_gpus: Value of CUDA_VISIBLE_DEVICES; ``None`` means all, "" none.
        n_promised_gpus: GPUs that Slurm says it gave the job on this node.
        driver_dir: In an image: folder of the node that holds its driver, a place of its own; ``None`` if none does.

    Returns:
        0; the file says what is wrong.
    """
    began_s = time.monotonic()
    findings, start_s = [_imports()], None
    if findings[0].level == "ok":
        start_s = time.monotonic() - began_s
        gpus = _gpus(visible_gpus, n_promised_gpus, driver_dir=driver_dir)
        findings += [_start_up(start_s), gpus, _energy(visible_gpus), _training_step()]
    content = {"at": time.time(), "start_s": start_s, "findings": [to_json(finding) for finding in findings]}
    create_json(attempt_dir / CHECK, content)
    return 0


def _imports() -> Finding:
    """Import the libraries of a trial; for one that fails report the error."""
    versions = []
    for name in LIBRARIES:
        try:
            versions.append(f"{name} {import_module(name).__version__}")
        except (ImportError, OSError, RuntimeError) as error:
            found = f"`{sys.executable}`: {name} cannot be imported: {error}"
            return failure(
                "worker's imports",
                found,
                remedy="install the worker's environment again: pip install 'xautolm-hpc[worker]'",
            )
    return ok("worker's imports", f"xautolm_hpc {__version__}, {', '.join(versions)}")


def _start_up(start_s: float) -> Finding:
    """Report how long a trial's imports take, which a job of several trials makes once, and how long a fork takes."""
    began_s = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    fork_s = time.monotonic() - began_s
    return ok("start-up of a trial", f"imports {start_s:.1f} s; forked from a worker that has them {fork_s:.2f} s")


def _gpus(visible_gpus: str | None, n_promised: int, *, driver_dir: str | None) -> Finding:
    """Compare the GPUs that the NVIDIA driver lists with those that torch can use."""
    import torch

    gpus, driver, _ = list_gpus(visible_gpus)
    n_usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if driver_dir is not None and (missing := [name for name in DRIVER_LIBRARIES if not _loads(name)]):
        found = f"the node has its driver in `{driver_dir}`, and the image lacks {' and '.join(missing)}"
        return failure(
            "GPUs of the job", found, remedy=f'set driver_path = "{driver_dir}" in [container] of the profile'
        )
    if len(gpus) > n_usable:
        found = f"the job has {len(gpus)} GPUs (driver {driver}), torch {torch.__version__} can use {n_usable}"
        return failure(
            "GPUs of the job",
            found,
            remedy="install a build of torch for the CUDA version of this driver; https://pytorch.org lists them",
        )
    if n_promised > n_usable:
        found = f"Slurm gave the job {n_promised} GPUs, torch can use {n_usable}"
        return warning("GPUs of the job", found, remedy="look at the node's NVIDIA driver; trials run on CPU as it is")
    return ok("GPUs of the job", ", ".join(sorted({gpu.name for gpu in gpus})) or "none")


def _loads(library: str) -> bool:
    """Check whether the loader finds a library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _energy(visible_gpus: str | None) -> Finding:
    """Report which energy counters a trial can read here."""
    with open_energy_reader(visible_gpus, shared=False) as reader:
        if reader.source == "none":
            said = "none can be read: energy will be unknown; leave it out of objectives and budget"
            return ok("energy counters of the node", said)
        return ok("energy counters of the node", f"{reader.source}, scope {reader.scope}")


def _training_step() -> Finding:
    """Run one optimiser step with a small encoder of random weights, on a GPU if there is one."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=N_WORDS, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    began = time.monotonic()
    try:
        model: torch.nn.Module = BertForSequenceClassification(config)
        model.to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        tokens = torch.randint(0, N_WORDS, (N_TEXTS, N_TOKENS), device=device)
        labels = torch.arange(N_TEXTS, device=device) % 2
        loss = model(input_ids=tokens, labels=labels).loss
        loss.backward()
        optimizer.step()
        value = float(loss.detach())
    except RuntimeError as error:
        words = str(error).strip().splitlines()[0]
        return failure("training step", f"on {device}: {words}", remedy="look at the node's GPU and driver")
    return ok("training step", f"on {device}: loss {value:.3f} after {time.monotonic() - began:.1f} s")
