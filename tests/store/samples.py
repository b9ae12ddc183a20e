"""Experiences to store, each different, the same for the same number."""

import dataclasses
import json
from typing import Any

import numpy as np

from tests import nouns
from xautolm_hpc.records import Experience, System, Task, Value, canonical_json, to_json

RUN = "6f1c2a52-2f1b-4a3e-9a54-5d1f0c7f5a01"
KINDS = (None, "gpu_oom", None, "diverged", "preempted")


def task(name: str = "tickets", **changes: Any) -> Task:
    found = nouns.task(
        name=name,
        dataset_id=f"data-{name}",
        fingerprint=f"print-{name}",
        n_train=400,
        n_dev=100,
        n_validation=150,
        n_test=150,
        labels=("neg", "pos"),
        features=(400.0, None, 0.25),
        semantic=(0.125, -0.5),
        length_tokens=(12.0, 30.0, 64.0),
    )
    return dataclasses.replace(found, **changes)


def system(site: str = "site-a", **changes: Any) -> System:
    found = nouns.system(
        site=site,
        cluster="gauss",
        n_cpu_cores=16,
        ram_bytes=256 * 1024**3,
        n_gpus=1,
        gpu_name="H100",
        gpu_memory_bytes=80 * 1024**3,
        gpu_capability=9.0,
        driver_version="550.54",
        cuda_version=None,
    )
    return dataclasses.replace(found, **changes)


def experience(
    number: int,
    *,
    site: str = "site-a",
    run_id: str = RUN,
    outcome: dict[str, Any] | None = None,
    provenance: dict[str, Any] | None = None,
    **parts: Any,
) -> Experience:
    """Make an experience of trial ``number``; named parts and fields replace those it would have."""
    rng = np.random.default_rng(number)
    kind = KINDS[number % len(KINDS)]
    params: dict[str, Value] = {
        "learning_rate": float(rng.uniform(1e-5, 1e-3)),
        "batch_size": int(rng.choice([8, 16, 32])),
        "class_weighted_loss": bool(rng.integers(2)),
        "optimizer": str(rng.choice(["adamw", "adafactor"])),
    }
    if number % 3 == 0:
        params["lora_r"] = int(rng.integers(1, 64))
    fields: dict[str, Any] = {
        "metrics": {} if kind else {"f1": float(rng.random()), "dev_loss": float(rng.random())},
        "train_s": float(rng.random()) * 100,
        "evaluation_time_s": None if kind else float(rng.random()) * 100,
        "gpu_energy_j": float(rng.random()) * 1e5,
        "peak_gpu_memory_bytes": int(rng.integers(1, 2**36)),
        "n_steps": number,
        "curve": () if kind else ((1.0, 0.5, 0.25, 0.75), (2.0, float(rng.random()), 0.125, 0.5)),
    }
    made = nouns.failed(kind, f"failed at {number}", **fields) if kind else nouns.succeeded(**fields)
    origin: dict[str, Any] = {
        "run_id": run_id,
        "trial": number,
        "generation": number // 10,
        "seed": number * 7919,
        "site": site,
        "started_at": None if number % 7 == 0 else f"2026-01-02T03:{number % 60:02d}:05.125+00:00",
        "ended_at": f"2026-01-02T04:{number % 60:02d}:05.250+00:00",
    }
    record = nouns.experience(
        dataclasses.replace(made, **(outcome or {})),
        given=nouns.pipeline(
            model_id=f"model-{number % 3}",
            model_revision=None if number % 3 else "abc123",
            method="lora" if number % 3 == 0 else "full",
            params=params,
        ),
        task=task(f"task-{number % 2}"),
        system=system(site),
        **(origin | (provenance or {})),
    )
    return dataclasses.replace(record, **parts)


def experiences(n: int, *, start: int = 0, **changes: Any) -> list[Experience]:
    """Make ``n`` experiences of consecutive trials."""
    return [experience(number, **changes) for number in range(start, start + n)]


def by_id(records: list[Experience]) -> list[Experience]:
    """Sort experiences as the store gives them."""
    return sorted(records, key=lambda e: e.id)


def as_json(records: list[Experience]) -> Any:
    """Turn experiences into plain data in which 1, 1.0, true and "1" differ."""
    return [json.loads(canonical_json(to_json(record))) for record in records]


def as_text(records: list[Experience]) -> list[str]:
    """Turn experiences into canonical JSON, in which 1, 1.0, true and "1" differ."""
    return [canonical_json(to_json(record)) for record in records]
