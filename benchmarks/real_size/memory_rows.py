"""Memory and time of steps on a GPU beside what the plan foresees: models of real size with random weights.

Each case is prepared as a trial is and runs 3 steps of its own, whose peak is its row, then some more that are timed,
then one evaluation batch. A row is printed, and written to ``--json``, as soon as it is measured; after ``--seconds``
no further case begins. Without a GPU it says so and measures nothing. ``--again FILE`` measures nothing either: it
compares the rows of a file with what the plan foresees now.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from accelerate.state import AcceleratorState

from benchmarks.real_size.random_trials import RandomTrial, random_weights, write_inputs
from xautolm_hpc.catalogue import load_catalogue
from xautolm_hpc.execution import StepMode
from xautolm_hpc.sample.estimates import GIB
from xautolm_hpc.sample.memory_need import StepFacts, memory_need
from xautolm_hpc.train import prepare
from xautolm_hpc.train.costs.calibration import measure_speed
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.limit.trial_budget import Progress, TrialBudget
from xautolm_hpc.train.loop import TrainState, epoch_steps, evaluate
from xautolm_hpc.train.recipe import parse_recipe
from xautolm_hpc.train.stop import StopFlag

N_STEPS = 3
"""Steps whose peak is taken; in the first of them a graph is captured."""

N_TIMED, TIMED_S = 8, 2.0
"""Steps that are timed at most, and seconds of them after which no further one begins."""

HEADER = (
    f"{'case':84} {'steps':6} {'alloc.':>7} {'planned':>7} {'reserv.':>7} {'planned':>7} {'ratio':>5} {'ms/step':>7}"
)
TIME_LIMIT_S = 120.0
NEAR = 0.15
ERRORS = (RuntimeError, ValueError, TypeError, AttributeError, KeyError, NotImplementedError, ImportError, TrialError)
GRAPH, GENERATION = StepMode.GRAPH.value, "text-generation"
LARGE = (
    "roberta-large",
    "gpt2-medium",
    "microsoft/deberta-v3-base",
    "google-t5/t5-base",
    "answerdotai/ModernBERT-base",
)
SMALL = ("bert-base-uncased", "distilbert-base-uncased", "albert-base-v2", "facebook/bart-base")
DECODERS = ("meta-llama/Llama-3.2-1B", "Qwen/Qwen3-0.6B", "google/gemma-3-1b-pt", "HuggingFaceTB/SmolLM2-360M")
RANKS: Mapping[str, Any] = {"lora_r": 8, "lora_alpha": 16}
WIDE: Mapping[str, Any] = {**RANKS, "lora_targets": "all-linear", "lora_dropout": 0.1}
NF4: Mapping[str, Any] = {**RANKS, "quantization": "nf4"}
SINGLE: Mapping[str, Any] = {"use_mixed_precision": False}


def way(method: str, batch_size: int, *, tokens: int, params: Mapping[str, Any] | None = None, **others: Any) -> Any:
    """Write down how a case is trained; LoRA has a rank."""
    own = {**(RANKS if method == "lora" else {}), **(params or {})}
    return {"method": method, "batch_size": batch_size, "tokens": tokens, "params": own, **others}


CASES: Sequence[tuple[Sequence[str], Sequence[Mapping[str, Any]]]] = (
    (
        ("bert-base-uncased", *LARGE, "albert-base-v2"),
        (way("full", 32, tokens=128), way("lora", 8, tokens=512, step=GRAPH)),
    ),
    (DECODERS, (way("full", 8, tokens=128, step=GRAPH), way("lora", 8, tokens=512))),
    (DECODERS[:1], (way("lora", 8, tokens=512, params=NF4),)),
    (("facebook/bart-base", "google/electra-base-discriminator", "microsoft/phi-1_5"), (way("lora", 32, tokens=128),)),
    (
        ("bert-base-uncased", "gpt2-medium", "google-t5/t5-base", DECODERS[1]),
        (
            way("full", 8, tokens=512, gradient_checkpointing=True),
            way("partial", 32, tokens=64, params={"n_trainable_blocks": 4}),
        ),
    ),
    (
        ("bert-base-uncased", "answerdotai/ModernBERT-base", DECODERS[0]),
        (
            way("lora", 8, tokens=512, params=WIDE),
            way("lora", 8, tokens=512, params=WIDE, gradient_checkpointing=True),
        ),
    ),
    ((*LARGE[:4], "facebook/bart-base"), (way("full", 8, tokens=512, step=GRAPH),)),
    (
        DECODERS[:1],
        (
            way("lora", 32, tokens=128, params=NF4, gradient_checkpointing=True),
            way("lora", 8, tokens=512, params=NF4, step=GRAPH),
        ),
    ),
    (DECODERS[2:3], (way("lora", 8, tokens=512, params={**NF4, "lora_targets": "all-linear"}),)),
    (DECODERS[1:2], (way("lora", 8, tokens=256, kind=GENERATION),)),
    (("google-t5/t5-base",), (way("full", 8, tokens=256, kind=GENERATION),)),
    (("bert-base-uncased",), (way("full", 16, tokens=384, kind="question-answering"),)),
    (
        ("bert-base-uncased", DECODERS[3], "google-t5/t5-base"),
        (way("full", 8, tokens=512, params=SINGLE), way("lora", 8, tokens=512, params=SINGLE)),
    ),
    (
        (*SMALL, "microsoft/deberta-v3-base", DECODERS[3]),
        (
            way("partial", 32, tokens=128, params={"n_trainable_blocks": 2}),
            way("full", 32, tokens=64, step=GRAPH),
            way("head", 32, tokens=128),
        ),
    ),
    (
        ("bert-base-uncased", "gpt2-medium"),
        (way("dora", 8, tokens=512, params=RANKS), way("bitfit", 32, tokens=128), way("ia3", 32, tokens=128)),
    ),
    (
        ("roberta-large",),
        (
            way("full", 8, tokens=64, params={"optimizer": "sgd"}),
            way("full", 8, tokens=64, params={"optimizer": "adafactor"}),
            way("full", 8, tokens=64, params={"optimizer": "adagrad"}),
            way("full", 32, tokens=128, micro_batch=8),
            way("full", 32, tokens=128, micro_batch=8, step=GRAPH),
        ),
    ),
    (("albert-base-v2",), (way("full", 8, tokens=512, gradient_checkpointing=True),)),
)
"""Models, and how each of them is trained; the most telling cases first."""


def cases() -> list[RandomTrial]:
    """List the cases in their order."""
    return [RandomTrial(model=model, **one) for models, ways in CASES for model in models for one in ways]


def measure(trial: RandomTrial, folder: Path) -> dict[str, Any]:
    """Train a case and return its row.

    Args:
        trial: The case.
        folder: A new folder, for its data.
    """
    AcceleratorState._reset_state(reset_partial_state=True)  # each trial has a process of its own
    _forget()
    execution = trial.execution(load_catalogue()[trial.model])
    n_train = trial.batch_size * (N_STEPS + N_TIMED)
    n_dev = execution.evaluation_batch or trial.batch_size
    if trial.kind == GENERATION:
        n_dev = min(n_dev, trial.batch_size)  # answers are written token by token
    inputs = write_inputs(trial, folder, n_train=n_train, n_dev=n_dev, time_limit_s=TIME_LIMIT_S)
    recipe, progress = parse_recipe(trial.method, trial.pipeline.params), Progress()
    budget = TrialBudget(progress, StopFlag(), time_limit_s=TIME_LIMIT_S)
    with random_weights(trial.model):
        accelerator = prepare.start_torch(inputs, recipe)
        train_state = prepare.build_train_state(
            inputs, recipe, accelerator=accelerator, progress=progress, budget=budget
        )
    row: dict[str, Any] = {"weights_gib": _gib("allocated_bytes.all.current")}
    steps = epoch_steps(train_state, 0)
    _run(train_state, steps[:N_STEPS], limit_s=TIME_LIMIT_S)
    row |= {
        "peak_allocated_gib": _gib("allocated_bytes.all.peak"),
        "peak_reserved_gib": _gib("reserved_bytes.all.peak"),
    }
    n_timed, elapsed_s = _run(train_state, steps[N_STEPS:], limit_s=TIMED_S)
    row["step_s"] = elapsed_s / max(n_timed, 1)
    runner = train_state.runner
    row |= {"step_mode": runner.mode.value, "step_reason": runner.reason, "evaluation_batch": n_dev}
    began = time.monotonic()
    evaluate(train_state, "dev")
    row["evaluation_s"] = time.monotonic() - began
    row["peak_allocated_with_evaluation_gib"] = _gib("allocated_bytes.all.peak")
    row["peak_reserved_with_evaluation_gib"] = _gib("reserved_bytes.all.peak")
    return row


def _run(
    train_state: TrainState, steps: Sequence[Sequence[np.ndarray[Any, Any]]], *, limit_s: float
) -> tuple[int, float]:
    """Run steps to their end; return how many and how long they took."""
    began, n_run = time.monotonic(), 0
    for batches in steps:
        train_state.runner.start(batches)
        n_run += 1
        if time.monotonic() - began > limit_s:
            break
    train_state.runner.finish()
    torch.cuda.synchronize()
    return n_run, time.monotonic() - began


def planned(trial: RandomTrial, *, is_captured: bool, keeps_scores: bool) -> dict[str, float]:
    """Return what the plan foresees for a case, without the CUDA context, in GiB.

    Args:
        trial: The case.
        is_captured: Whether its steps are captured.
        keeps_scores: Whether the transformers that trains it computes attention score by score.
    """
    model = load_catalogue()[trial.model]
    measured = StepFacts(
        step=StepMode.GRAPH if is_captured else StepMode.EAGER,
        keeps_scores=frozenset([model.id] if keeps_scores else []),
        context_bytes=0,
    )
    need = memory_need(
        trial.pipeline, model, task=trial.task(1, 1), execution=trial.execution(model), measured=measured
    )
    return {"planned_gib": need.allocated_bytes / GIB, "planned_reserved_gib": need.reserved_bytes / GIB}


def keeps_scores(model_id: str, version: str) -> bool:
    """Check whether a version of transformers computes a model's attention score by score: T5's before 5.23."""
    return "t5" in model_id and tuple(map(int, version.split(".")[:2])) < (5, 23)


def trial_of(row: Mapping[str, Any]) -> RandomTrial:
    """Return the case of a row of a file."""
    return RandomTrial(**{one.name: row[one.name] for one in fields(RandomTrial) if one.name in row})


def describe(trial: RandomTrial) -> str:
    """Write a case in a few words."""
    params = ",".join(f"{name}={value}" for name, value in trial.params.items() if not name.startswith("lora_"))
    wide = "all-linear" if trial.params.get("lora_targets") == "all-linear" else ""
    again = "checkpointing" if trial.gradient_checkpointing else ""
    parts = "" if trial.micro_batch is None else f"micro-batch {trial.micro_batch}"
    kind = "" if trial.kind == "text-classification" else trial.kind
    extra = " ".join(text for text in (params, wide, again, parts, kind) if text)
    return f"{trial.model} {trial.method} {trial.batch_size}x{trial.tokens} {trial.step} {extra}".rstrip()


def print_row(trial: RandomTrial, row: Mapping[str, Any]) -> None:
    """Print a row of the table."""
    name = describe(trial)
    if "failed" in row:
        print(f"{name:84} {row['failed']}", flush=True)
        return
    allocated, reserved = row["peak_allocated_gib"], row["peak_reserved_gib"]
    ratio = row["planned_reserved_gib"] / reserved
    mark = "" if abs(ratio - 1) <= NEAR else "LOW" if ratio < 1 else "high"
    print(
        f"{name:84} {row.get('step_mode', ''):6} {allocated:7.2f} {row['planned_gib']:7.2f} "
        f"{reserved:7.2f} {row['planned_reserved_gib']:7.2f} {ratio:5.2f} {1e3 * row.get('step_s', 0):7.1f} {mark}",
        flush=True,
    )


def print_shares(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print how many rows the plan is near to."""
    measured = [row for row in rows if "failed" not in row]
    for name, foreseen in (("peak_allocated_gib", "planned_gib"), ("peak_reserved_gib", "planned_reserved_gib")):
        ratios = [row[foreseen] / row[name] for row in measured]
        near = sum(abs(ratio - 1) <= NEAR for ratio in ratios)
        low = sum(ratio < 1 - NEAR for ratio in ratios)
        print(f"{name}: {near} of {len(ratios)} within {NEAR:.0%}, {low} too low by more")


def measure_all(trials: Iterable[RandomTrial], *, seconds: float, save: Callable[[list[dict[str, Any]]], None]) -> None:
    """Measure cases until the time is up, printing and saving each row.

    Args:
        trials: The cases.
        seconds: Seconds after which no further case begins.
        save: Writes all rows there are.
    """
    rows: list[dict[str, Any]] = []
    began = time.monotonic()
    for trial in trials:
        if time.monotonic() - began > seconds:
            print(f"{seconds:g} s are over")
            break
        started = time.monotonic()
        try:
            with tempfile.TemporaryDirectory() as folder:
                row = measure(trial, Path(folder))
        except ERRORS as error:
            row = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]}
        row = {**asdict(trial), **row, "wall_s": time.monotonic() - started}
        row |= planned(
            trial,
            is_captured=row.get("step_mode", trial.step) == StepMode.GRAPH.value,
            keeps_scores=keeps_scores(trial.model, transformers.__version__),
        )
        rows.append(row)
        print_row(trial, row)
        save(rows)
    print_shares(rows)


def machine() -> dict[str, Any]:
    """Describe the GPU and what it takes before anything is allocated."""
    torch.zeros((), device="cuda").item()
    free, total = torch.cuda.mem_get_info()
    return {
        "device": torch.cuda.get_device_name(),
        "capability": list(torch.cuda.get_device_capability()),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "has_bitsandbytes": find_spec("bitsandbytes") is not None,
        "total_gib": total / GIB,
        "taken_by_context_gib": (total - free - torch.cuda.memory_reserved()) / GIB,
        "speed": asdict(measure_speed(torch.device("cuda"))),
    }


def _forget() -> None:
    """Drop what the case before left, so that each begins with an empty allocator."""
    gc.collect()
    torch.cuda.synchronize()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def _gib(name: str) -> float:
    return float(torch.cuda.memory_stats()[name]) / GIB


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a file, with what the plan foresees now."""
    written = json.loads(path.read_text())
    version = written["machine"]["transformers"]
    return [
        row
        | planned(
            trial_of(row),
            is_captured=row.get("step_mode") == StepMode.GRAPH.value,
            keeps_scores=keeps_scores(row["model"], version),
        )
        for row in written["rows"]
    ]


def compare_again(path: Path) -> None:
    """Compare the rows of a file with what the plan foresees now."""
    rows = read_rows(path)
    for row in rows:
        print_row(trial_of(row), row)
    print_shares(rows)


def main() -> int:
    """Measure the cases, or compare those of a file again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    parser.add_argument("--seconds", type=float, default=240.0, help="begin no case after so many seconds")
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="leave the first N cases out")
    parser.add_argument("--again", type=Path, metavar="FILE", help="compare the rows of FILE, without a GPU")
    arguments = parser.parse_args()
    if arguments.again:
        compare_again(arguments.again)
        return 0
    if not torch.cuda.is_available():
        print("memory_rows: this machine has no GPU that torch can use; nothing was measured")
        return 0
    facts = machine()
    print(json.dumps(facts))
    print(
        f"{'case':84} {'steps':6} {'alloc.':>7} {'reserv.':>7} {'planned':>7} {'/alloc':>5} {'/res.':>5} {'ms/step':>7}"
    )

    def save(rows: list[dict[str, Any]]) -> None:
        if arguments.json:
            arguments.json.write_text(json.dumps({"machine": facts, "rows": rows}, indent=1) + "\n")

    measure_all(cases()[arguments.skip :], seconds=arguments.seconds, save=save)
    return 0


if __name__ == "__main__":
    sys.exit(main())
