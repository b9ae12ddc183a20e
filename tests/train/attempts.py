"""Builds real attempt folders for the worker: data, task, pipeline and limits, as the driver writes them."""

import dataclasses
import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests import nouns
from xautolm_hpc.catalogue import Model, load_catalogue
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.jobdir import COMMAND, OUTCOME, PIPELINE, TASK, Command, End, TrialInput, TrialPlan
from xautolm_hpc.records import Task, Value, from_json, to_json

LABELS = ("bad", "good")
GOOD = ("great", "lovely", "a joy", "superb", "wonderful")
BAD = ("awful", "dull", "a bore", "terrible", "dreadful")
FRAMES = ("the film was {}", "I found it {}", "what a {} evening", "{} from start to end, I must say")

PARAMS: Mapping[str, Value] = {"learning_rate": 1e-3, "batch_size": 8, "max_length": 16, "epochs": 2}


def rows() -> list[dict[str, str]]:
    """Write 40 short sentences, half good, half bad."""
    pairs = [("good", word) for word in GOOD] + [("bad", word) for word in BAD]
    return [{"text": frame.format(word), "label": label} for frame in FRAMES for label, word in pairs]


def without_seconds(curve: Sequence[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Leave out the seconds so far, which differ between two equal trainings."""
    return [row[:4] for row in curve]


def write_split(data_dir: Path, split: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, str]:
    """Write splits and return their digests."""
    data_dir.mkdir(exist_ok=True)
    sha256 = {}
    for name, content in split.items():
        packed = gzip.compress("".join(json.dumps(row) + "\n" for row in content).encode(), mtime=0)
        (data_dir / f"{name}.jsonl.gz").write_bytes(packed)
        sha256[name] = hashlib.sha256(packed).hexdigest()
    return sha256


def task(labels: Sequence[str] = LABELS, kind: str = "text-classification") -> Task:
    """Describe the task of :func:`rows`."""
    return nouns.task(
        name="films",
        kind=kind,
        dataset_id="0" * 32,
        fingerprint="1" * 32,
        n_train=24,
        n_dev=8,
        n_validation=8,
        n_test=0,
        labels=tuple(labels),
        features=(),
    )


def minilm() -> Model:
    """Return the smallest model of the catalogue: real weights from an installed package."""
    return load_catalogue()["minilm-l1"]


def command(**changes: object) -> Command:
    """Return limits that no test reaches."""
    given = Command(
        argv=(sys.executable, "-m", "xautolm_hpc.train", "trial"),
        time_limit_s=600.0,
        wall_limit_s=900.0,
        memory_bytes=8 * 1024**3,
        n_threads=2,
        heartbeat_s=30.0,
        deterministic=True,
        enforce_limits=True,
        environment={},
        site="here",
        cluster="desk",
    )
    return dataclasses.replace(given, **changes)  # type: ignore[arg-type]


def write_attempt(
    folder: Path,
    method: str = "head",
    *,
    params: Mapping[str, Value] | None = None,
    model: Model | None = None,
    limits: Command | None = None,
    about: Task | None = None,
) -> Path:
    """Write an attempt folder and its data, and return its path."""
    attempt_dir = folder / "attempt-0"
    attempt_dir.mkdir(parents=True)
    every = rows()
    split = {"train": every[:20] + every[30:], "dev": every[20:30][::2] + every[:2], "validation": every[20:30]}
    sha256 = write_split(folder / "data", split)
    model = model or minilm()
    with_params = {**PARAMS, **(params or {})}
    pipeline = nouns.pipeline(model_id=model.id, model_revision=model.revision, method=method, params=with_params)
    trial = TrialInput(task=about or task(), data_dir=str(folder / "data"), sha256=sha256)
    write_json(attempt_dir / COMMAND, to_json(limits or command()))
    write_json(attempt_dir / TASK, to_json(trial))
    write_json(attempt_dir / PIPELINE, to_json(TrialPlan(pipeline=pipeline, model=model, seed=7)))
    return attempt_dir


def worker_environment(**variables: str) -> dict[str, str]:
    """Build the environment of a worker on a node without GPUs, as the wrapper does."""
    ours = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, **ours, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path.cwd()), **variables}


def start_worker(attempt_dir: Path, **variables: str) -> subprocess.Popen[str]:
    """Start the worker as a process of its own, as the wrapper does."""
    return subprocess.Popen(
        [sys.executable, "-m", "xautolm_hpc.train", "trial", str(attempt_dir)],
        env=worker_environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_end(attempt_dir: Path) -> End:
    """Read the outcome file back."""
    return from_json(End, read_json(attempt_dir / OUTCOME), where=OUTCOME)
