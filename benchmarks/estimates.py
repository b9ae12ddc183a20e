"""Compares the estimates of memory and time with trials of XAutoLM that succeeded, ran out of memory or out of time.

Each trial is taken as XAutoLM ran it: texts padded to ``max_length``, cut to what the model reads, weights in single
precision, attention score by score in T5; freezing layers by name trained all of a model whose names it did not know.
A trial was two trainings, each on 70 % of the rows, in 5,400 s on a GPU of 23.64 GiB that the records do not name:
it is taken for one of compute capability 8.6. Failures of other kinds say nothing and are left out.
"""

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.goals import Goal, run
from benchmarks.real_size.memory_rows import NEAR, read_rows
from xautolm_hpc.catalogue import Model, load_catalogue
from xautolm_hpc.distribution import uniform
from xautolm_hpc.execution import AS_DRAWN
from xautolm_hpc.records import Pipeline, System, Task, Value
from xautolm_hpc.sample import (
    MemoryBudget,
    TrialLimits,
    build_constraints,
    draw_pipeline,
    first_rejection,
    plan_execution,
)
from xautolm_hpc.sample.constraints import TIME_MARGIN
from xautolm_hpc.sample.duration import seconds_needed
from xautolm_hpc.sample.estimates import GIB, n_optimiser_steps
from xautolm_hpc.sample.memory_need import StepFacts, memory_need
from xautolm_hpc.space import build_space

SHARED = Path(os.environ.get("XAUTOLM_SHARED", Path(__file__).parents[1] / ".." / "shared"))
GPU = System(site="reference", cluster="reference", n_gpus=1, gpu_memory_bytes=int(23.64 * GIB), gpu_capability=8.6)
TIME_LIMIT_S, N_SPLITS = 5400.0, 2
N_ROWS = {"liar": 11_524, "sst2": 68_221, "meld": 11_098, "ag_news": 120_000}
UNKNOWN_TO_FREEZING = ("albert", "bart", "gpt2", "phi")
N_DRAWS = 200
H200_ROWS = Path(__file__).parent / "real_size" / "memory_rows_h200.json"
REFERENCE_TRIALS = StepFacts(is_frozen_single=True)
"""How the reference trains: eagerly, frozen weights in single precision."""


@dataclass(frozen=True)
class JudgedTrial:
    """One published trial of XAutoLM.

    Attributes:
        label: ``ok``, ``memory`` or ``time``.
        task: The rows of one split; how long they are is unknown, so they are as long as padded.
        pipeline: What was really trained.
        model: The model, as XAutoLM's version of transformers ran it.
        seconds: Training and evaluation of one split, or ``None`` for a failure.
    """

    label: str
    task: Task
    pipeline: Pipeline
    model: Model
    seconds: float | None

    @property
    def needed_bytes(self) -> float:
        """Estimated memory, in bytes; these trials kept frozen weights in single precision."""
        need = memory_need(self.pipeline, self.model, task=self.task, execution=AS_DRAWN, measured=REFERENCE_TRIALS)
        return need.total_bytes

    @property
    def needed_s(self) -> float:
        """Estimated time of the whole trial, in seconds."""
        return N_SPLITS * seconds_needed(self.pipeline, self.model, task=self.task, system=GPU)


def read_trials(path: Path) -> list[JudgedTrial]:
    """Read the trials that succeeded, ran out of memory or out of time."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [trial for row in rows if row["task"] in N_ROWS and (trial := _trial(row)) is not None]


def task_of(n_rows: int) -> Task:
    """Describe one split of a task: 70 % of its rows to train on, the rest to evaluate."""
    return Task(
        name="reference", kind="text-classification", dataset_id="", fingerprint="", metric="macro-f1",
        n_train=round(0.7 * n_rows), n_dev=0, n_validation=n_rows - round(0.7 * n_rows), n_test=0, labels=(),
        feature_schema="", features=(),
    )  # fmt: skip


def judge(trials: Sequence[JudgedTrial], *, time_calibration: Mapping[int, float] | None = None) -> list[Goal]:
    """Compare the estimates with how trials ended.

    Args:
        trials: Published trials.
        time_calibration: Rows of a task -> factor on its estimated times; by default 1.
    """
    too_large = [trial.needed_bytes > (GPU.gpu_memory_bytes or 0) for trial in trials]
    factor = [1.0 if time_calibration is None else time_calibration[_n_rows(trial)] for trial in trials]
    too_slow = [TIME_MARGIN * trial.needed_s * f > TIME_LIMIT_S for trial, f in zip(trials, factor, strict=True)]
    labels = [trial.label for trial in trials]
    rejected = [large or slow for large, slow in zip(too_large, too_slow, strict=True)]
    n_ok = labels.count("ok")
    in_memory = [label != "memory" for label in labels]
    late = _where([label == "time" for label in labels], in_memory)
    precision, recall = _scores(too_large, [label == "memory" for label in labels])
    time_precision, time_recall = _scores(_where(too_slow, in_memory), late)
    name = "time" if time_calibration is None else "time, corrected by the other tasks' trials"
    return [
        Goal("out of memory: precision", precision, 0.95, "", at_most=False),
        Goal("out of memory: recall", recall, 0.9, "", at_most=False),
        Goal(f"{name}: precision", time_precision, 0.8, "", at_most=False),
        Goal(f"{name}: recall", time_recall, None, ""),
        Goal(
            f"successes rejected ({name})",
            100 * sum(_where(rejected, [label == "ok" for label in labels])) / n_ok, 3, "%",
        ),
    ]  # fmt: skip


def measured(trials: Sequence[JudgedTrial]) -> dict[int, float]:
    """Compute each task's time calibration from the trials of all other tasks, as a search would."""
    ratios = {
        n: [
            t.seconds / seconds_needed(t.pipeline, t.model, task=t.task, system=GPU, may_stop=False)
            for t in trials
            if t.seconds is not None and _n_rows(t) != n
        ]
        for n in N_ROWS.values()
    }
    return {n: float(np.median(values)) for n, values in ratios.items()}


def count_rejections(*, lengths: tuple[float, ...] | None, families: tuple[str, ...]) -> tuple[Counter[str], int]:
    """Draw from preset ``xautolm`` and count why draws are rejected.

    Args:
        lengths: Lengths of the texts; ``None`` pads them all to ``max_length``.
        families: Families of models that are trained.

    Returns:
        Constraint -> pipelines it rejected; and how many of the rest are executed in smaller micro-batches than drawn.
    """
    space = build_space(
        "xautolm", task_kind="text-classification", models=None, methods=None, overrides={}, own_models={}
    )
    task, rng, start = replace(task_of(11_524), length_tokens=lengths), np.random.default_rng(0), uniform(space)
    memory_budget = MemoryBudget.of(GPU, host_bytes=35 * GIB)
    limits = TrialLimits(time_limit_s=TIME_LIMIT_S / N_SPLITS, memory_bytes=35 * GIB, memory_budget=memory_budget)
    constraints = build_constraints(task, GPU, limits=limits, trainable_families=families)
    counted, n_lowered = Counter[str](), 0
    for _ in range(N_DRAWS):
        pipeline = draw_pipeline(start, space, rng=rng)
        rejection = first_rejection(constraints, pipeline, space=space)
        counted[rejection[0] if rejection else "none"] += 1
        model = space.model(pipeline.model_id)
        if rejection is None and model is not None:
            execution = plan_execution(pipeline, model, task=task, memory_budget=memory_budget)
            n_lowered += execution is not None and execution.micro_batch is not None
    return counted, n_lowered


def measure() -> list[Goal]:
    """Judge the estimates, and count what they reject of XAutoLM's space."""
    trials = read_trials(SHARED / "peer-records" / "trials.jsonl")
    goals = [*judge(trials), *judge(trials, time_calibration=measured(trials))[2:]]
    goals += memory_goals()
    n_warmup = sum(trial.label == "ok" and _never_warm(trial) for trial in trials)
    goals.append(Goal("successes whose warm-up never ended", n_warmup, None, ""))
    for title, lengths in (("padded to max_length", None), ("texts of LIAR", (19.0, 33.0, 66.0))):
        counted, n_lowered = count_rejections(lengths=lengths, families=("encoder", "decoder", "seq2seq"))
        for name in ("unsupported", "context_length", "steps", "memory", "time", "none"):
            what = "not rejected" if name == "none" else f"rejected by {name}"
            goals.append(Goal(f"{N_DRAWS} draws, {title}: {what}", counted[name], None, ""))
        goals.append(Goal(f"{N_DRAWS} draws, {title}: micro-batch lowered", n_lowered, None, ""))
    return goals


def memory_goals() -> list[Goal]:
    """Compare planned memory with what trainings on an H200 reserved."""
    ratios = [row["planned_reserved_gib"] / row["peak_reserved_gib"] for row in read_rows(H200_ROWS)]
    near = sum(abs(ratio - 1) <= NEAR for ratio in ratios) / len(ratios)
    return [
        Goal(f"{len(ratios)} trainings on an H200, memory reserved: within 15 %", near, 0.9, "", at_most=False),
        Goal("the lowest plan of them, as a share of what was reserved", min(ratios), 1 - NEAR, "", at_most=False),
    ]


def _trial(row: Mapping[str, object]) -> JudgedTrial | None:
    label = _label(row)
    if label is None:
        return None
    params: dict[str, Value] = dict(row["hp"])  # type: ignore[call-overload]
    if params.pop("use_early_stopping", True) is False:
        params["early_stopping_patience"] = params["epochs"]
    model = _find_model(str(row["model"]))
    params["max_length"] = min(int(params["max_length"]), model.context_length)
    method = _method(str(row["method"]), model, params=params)
    pipeline = Pipeline(
        task_kind="text-classification", model_id=model.id, model_revision=None, method=method, params=params
    )
    seconds = row["evaluation_time_s"] if label == "ok" else None
    return JudgedTrial(label, task_of(N_ROWS[str(row["task"])]), pipeline, model, seconds)  # type: ignore[arg-type]


def _label(row: Mapping[str, object]) -> str | None:
    if row["f1"] is not None:
        return "ok"
    error = str(row["error"])
    return "memory" if "CUDA out of memory" in error else "time" if "allowed time" in error else None


def _method(name: str, model: Model, *, params: dict[str, Value]) -> str:
    """Find what XAutoLM's method trained of a model; its T5 freezes encoder and decoder block by block together."""
    if not name.startswith("Partial"):
        return "lora" if name.startswith("Lora") else "full"
    per_index = 2 if "t5" in model.id else 1
    n_blocks = per_index * int(params["num_trainable_layers"])
    params["num_trainable_layers"] = n_blocks
    is_unknown = any(part in model.id.lower() for part in UNKNOWN_TO_FREEZING)
    return "full" if is_unknown or n_blocks >= model.n_layers else "partial"


def _find_model(key: str) -> Model:
    """Find a model by XAutoLM's name for it."""
    wanted = _letters(re.sub(r"^(WORD_EMB|TEXT_GEN)_", "", key))
    (found,) = (model for model in load_catalogue().values() if _letters(model.id) == wanted)
    return replace(found, keeps_attention_scores=found.keeps_attention_scores or "t5" in found.id)


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _never_warm(trial: JudgedTrial) -> bool:
    return int(trial.pipeline.params.get("warmup_steps", 0)) >= n_optimiser_steps(trial.pipeline, trial.task)


def _n_rows(trial: JudgedTrial) -> int:
    return trial.task.n_train + trial.task.n_validation


def _where(values: Iterable[bool], condition: Iterable[bool]) -> list[bool]:
    return [value and holds for value, holds in zip(values, condition, strict=True)]


def _scores(predicted: Sequence[bool], true: Sequence[bool]) -> tuple[float, float]:
    """Compute precision and recall."""
    n_right = sum(_where(predicted, true))
    return n_right / max(sum(predicted), 1), n_right / max(sum(true), 1)


if __name__ == "__main__":
    sys.exit(run(measure))
