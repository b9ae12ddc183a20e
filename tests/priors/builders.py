"""A small search space and experiences in it, for the tests of priors and sample."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tests import nouns
from tests.nouns import GIB, failed, succeeded
from xautolm_hpc.catalogue import Model
from xautolm_hpc.distribution import uniform
from xautolm_hpc.failures import PIPELINE_KINDS
from xautolm_hpc.records import Experience, Outcome, Pipeline, System, Task, Value
from xautolm_hpc.sample import draw_pipeline
from xautolm_hpc.space import Boolean, Categorical, Method, Numeric, Space

TASK = nouns.task(
    dataset_id="d",
    fingerprint="tickets",
    n_train=1000,
    n_dev=200,
    n_validation=300,
    n_test=300,
    labels=("bug", "wish"),
    features=(1.0, 2.0),
    length_tokens=(10.0, 40.0, 90.0),
)
SYSTEM = nouns.system(
    cluster="c",
    n_cpu_cores=8,
    ram_bytes=64 * GIB,
    n_gpus=1,
    gpu_name="L4",
    gpu_memory_bytes=24 * GIB,
    gpu_capability=8.9,
)


def a_model(name: str = "small", **changes: object) -> Model:
    model = Model(
        id=name,
        family="encoder",
        n_parameters=100_000_000,
        n_layers=10,
        hidden_size=800,
        vocab_size=30_000,
        context_length=512,
        licence="MIT",
    )
    return replace(model, **changes)  # type: ignore[arg-type]


SPACE = Space(
    task_kind="text-classification",
    models=(a_model("small"), a_model("wide"), a_model("deep", unsupported_methods=("head",))),
    methods=(
        Method(
            "full",
            {
                "batch_size": Categorical((8, 16, 32)),
                "optimizer": Categorical(("adamw", "sgd")),
                "epochs": Numeric(1.0, 11.0, integer=True),
                "learning_rate": Numeric(1e-5, 1e-3, log=True),
                "dropout_rate": Numeric(0.0, 0.4),
                "class_weighted_loss": Boolean(),
            },
        ),
        Method("head", {"learning_rate": Numeric(1e-4, 1e-2, log=True)}),
    ),
)


def a_pipeline(model: str = "small", method: str = "full", params: Mapping[str, Value] | None = None) -> Pipeline:
    return nouns.pipeline(model_id=model, method=method, params={"batch_size": 8} if params is None else params)


def a_success(f1: float = 0.8, time_s: float = 60.0, energy_j: float | None = 900.0) -> Outcome:
    return succeeded(f1, evaluation_time_s=time_s, gpu_energy_j=energy_j)


def a_failure(kind: str = "gpu_oom") -> Outcome:
    return failed(kind, "m")


def an_experience(
    outcome: Outcome,
    trial: int = 0,
    *,
    pipeline: Pipeline | None = None,
    task: Task = TASK,
    system: System = SYSTEM,
    **provenance: object,
) -> Experience:
    fields = {"run_id": "r", "trial": trial, "ended_at": "2026-01-01T00:00:00Z", "package_version": "0", **provenance}
    return nouns.experience(
        outcome,
        given=pipeline or a_pipeline(params={"batch_size": 8, "epochs": trial}),
        task=task,
        system=system,
        **fields,
    )


def random_experiences(n: int, *, space: Space = SPACE, seed: int = 0) -> list[Experience]:
    """Draw experiences of five tasks and three nodes, half of them failed."""
    rng = np.random.default_rng(seed)
    tasks = [
        replace(TASK, name=f"t{i}", fingerprint=f"t{i}", features=(float(rng.normal()), float(rng.normal())))
        for i in range(5)
    ]
    systems = [replace(SYSTEM, gpu_name=f"g{i}", ram_bytes=(i + 1) * GIB) for i in range(3)]
    start = uniform(space)
    return [
        an_experience(
            a_failure(str(rng.choice(PIPELINE_KINDS)))
            if rng.random() < 0.5
            else a_success(float(rng.random()), float(rng.uniform(10, 90))),
            trial,
            pipeline=draw_pipeline(start, space, rng=rng),
            task=tasks[rng.integers(5)],
            system=systems[rng.integers(3)],
        )
        for trial in range(n)
    ]
