"""Samples a second of our training beside XAutoLM's recipe and a plain transformers Trainer, and their F1.

Same model, rows, batch, learning rate, threads and epochs, one way after the other in one process:
- *ours*: the worker's own path, its evaluations on ``dev`` counted in; half precision where the GPU has it.
- *reference*: XAutoLM's recipe, every text padded to ``max_length`` and tokenised when it is drawn, single precision.
- *trainer*: transformers' Trainer on tokenised texts, each batch padded to its longest; precision as ours.

It also prints where the time of ours went: a table of its parts, of all epochs and of the last one.
On a GPU it also prints tokens a second, the share of the GPU's peak, energy, ours in single precision, and ours with
its steps captured in CUDA graphs, captures counted in.
``--model bert-base`` trains a BERT of that size with random weights, which needs no hub.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import transformers

from benchmarks.goals import Goal, table
from benchmarks.training_kinds import Labels, Spans, read_rows
from benchmarks.training_ways import (
    DEVICE,
    TrainingCase,
    TrainingCost,
    train_like_reference,
    train_ours,
    train_with_trainer,
)
from xautolm_hpc.catalogue import Model, load_catalogue
from xautolm_hpc.execution import StepMode
from xautolm_hpc.node import list_gpus
from xautolm_hpc.train.costs.parts import Part
from xautolm_hpc.train.pretrained import find_source

SHARED = Path(os.environ.get("XAUTOLM_SHARED", Path(__file__).parents[1] / ".." / "shared"))
DEV_SHARE = 8
"""For so many rows of train there is one of ``dev``."""

LEAST_RATIOS = {("sst2", 128): 3.0, ("squad", 384): 2.0}
"""Task and length -> least ratio of our samples a second to the reference's."""

LEAST_CAPTURED: Mapping[tuple[str, str, int], Mapping[str, float]] = {
    ("bert-base", "sst2", 64): {"reference": 4.5, "trainer": 4.5},
    ("bert-base", "sst2", 128): {"reference": 7.0},
    ("bert-base", "sst2", 512): {"reference": 15.0},
    ("bert-base", "squad", 384): {"reference": 4.0, "share": 0.35},
    ("minilm-l6", "sst2", 64): {"reference": 5.0, "trainer": 6.5},
    ("minilm-l6", "squad", 384): {"reference": 4.0},
}
"""Model, task and length -> least ratio of captured samples a second to those of other ways, on an H200; ``share`` is
the least share of large matrix products while replaying."""

MATRIX_TFLOPS: Mapping[float, float] = {9.0: 790}
"""Compute capability -> half-precision teraflop/s that large matrix products really reach there."""

CAPTURED = "ours, graph"
"""Name of our way with captured steps."""

HALF_PEAK_TFLOPS: Mapping[float, float] = {7.0: 125, 7.5: 65, 8.0: 312, 8.6: 150, 8.9: 181, 9.0: 990, 10.0: 2250}
"""Compute capability -> dense half-precision teraflop/s of the data-centre card that has it."""


WAYS: Mapping[str, Callable[[TrainingCase], TrainingCost]] = {
    "ours": train_ours,
    "reference": train_like_reference,
    "trainer": train_with_trainer,
    "ours, fp32": lambda case: train_ours(case, half=False),
    CAPTURED: lambda case: train_ours(case, step=StepMode.GRAPH),
}
ON_GPU = ("ours, fp32", CAPTURED)
"""Ways that make sense on a GPU only."""


def measure(
    cases: Sequence[TrainingCase], *, name: str, ways: Sequence[str], least: Mapping[str, float], others: int | None
) -> list[Goal]:
    """Train in some ways with every seed and compare them.

    Args:
        cases: The runs, one for each seed.
        name: Task and length.
        ways: Names of :data:`WAYS`.
        least: Way of ``ours`` and another, as in "ours / reference" -> their least ratio; a way and ``share``, as in
            "ours, graph / share" -> its least share of large matrix products.
        others: Rows of one epoch for all ways but the captured one, whose speed does not depend on them; or ``None``.
    """
    runs: dict[str, list[TrainingCost]] = {}
    trained: dict[str, TrainingCase] = {}
    for way in ways:
        if way in ON_GPU and DEVICE.type != "cuda":
            print(f"{name}: {way}: not run, this machine has no GPU that torch can use")
            continue
        chosen = [case if others is None or way == CAPTURED else _shortened(case, others) for case in cases]
        trained[way], runs[way] = chosen[0], [WAYS[way](case) for case in chosen]
    rate = {way: trained[way].n_samples / statistics.median(run.seconds for run in done) for way, done in runs.items()}
    goals = [Goal(f"{name}: samples a second, {way}", value, None, "1/s") for way, value in rate.items()]
    for own, other in product(("ours", CAPTURED), ("reference", "trainer", "ours")):
        if own in rate and other in rate and own != other:
            ratio = f"{own} / {other}"
            goals.append(Goal(f"{name}: {ratio}", rate[own] / rate[other], least.get(ratio), "times", at_most=False))
    if others is None:
        goals += _compare_f1(runs, name=name)
    print(parts_table(runs, name=name))
    return goals + (on_gpu(trained, runs, name=name, least=least) if DEVICE.type == "cuda" else [])


def _shortened(case: TrainingCase, n_rows: int) -> TrainingCase:
    """Return a run of one epoch over the first rows."""
    return replace(case, epochs=1, rows={**case.rows, "train": case.rows["train"][:n_rows]})


def _compare_f1(runs: Mapping[str, Sequence[TrainingCost]], *, name: str) -> list[Goal]:
    """Compare F1 and time of the CPU, of ways that trained on the same rows."""
    cpu_s = {way: statistics.median(run.cpu_s for run in done) for way, done in runs.items()}
    f1 = {way: statistics.mean(run.f1 for run in done) for way, done in runs.items()}
    goals = [Goal(f"{name}: F1, {way}", value, None, "") for way, value in f1.items()]
    if min(map(len, runs.values()), default=0) > 1:
        of_seeds = {way: statistics.stdev(run.f1 for run in done) for way, done in runs.items()}
        goals += [Goal(f"{name}: F1, {way}, SD of a seed", value, None, "") for way, value in of_seeds.items()]
    if "ours" in runs:
        goals += [
            Goal(f"{name}: CPU time, {other} / ours", cpu_s[other] / cpu_s["ours"], None, "times")
            for other in ("reference", "trainer")
            if other in runs
        ]
    if {"ours", "reference"} <= set(runs):
        spread = max(max(run.f1 for run in done) - min(run.f1 for run in done) for done in runs.values())
        goals.append(
            Goal(f"{name}: F1 of the reference above ours", f1["reference"] - f1["ours"], max(spread, 0.02), "")
        )
    return goals


def parts_table(runs: Mapping[str, Sequence[TrainingCost]], *, name: str) -> str:
    """Write where the time of ours went: seconds of each part, their median over seeds; other ways have no parts.

    Args:
        runs: Way -> its runs.
        name: Task and length.
    """
    rows = [("parts in seconds", "start", *Part, "sum")]
    for way, done in runs.items():
        for label, epochs in (("all epochs", slice(None)), ("last epoch", slice(-1, None))):
            if not all(run.epochs_s for run in done):
                continue
            parts_s = [
                statistics.median(sum(epoch.get(part, 0.0) for epoch in run.epochs_s[epochs]) for run in done)
                for part in Part
            ]
            start_s = statistics.median(run.start_s for run in done)
            start = f"{start_s:.3f}" if label == "all epochs" else ""
            rows.append((f"{name}: {way}, {label}", start, *(f"{part_s:.3f}" for part_s in (*parts_s, sum(parts_s)))))
    return "\n".join(" | ".join(row) for row in rows if len(rows) > 1)


def on_gpu(
    trained: Mapping[str, TrainingCase],
    runs: Mapping[str, Sequence[TrainingCost]],
    *,
    name: str,
    least: Mapping[str, float],
) -> list[Goal]:
    """Measure what the GPU did: real tokens a second, share of its peak, energy, and the last epoch's steps alone.

    Args:
        trained: Way -> what it trained.
        runs: Way -> its runs.
        name: Task and length.
        least: As for :func:`measure`.
    """
    capability = list_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"))[0][0].capability
    peak = HALF_PEAK_TFLOPS.get(capability, math.nan) * 1e12
    goals = []
    for way, done in runs.items():
        case = trained[way]
        tokens = case.epochs * _n_tokens(case) / statistics.median(run.seconds for run in done)
        flops = 6 * 12 * case.model.hidden_size**2 * case.model.n_layers  # for a token, forward and backward
        goals += [
            Goal(f"{name}: tokens a second, {way}", tokens, None, "1/s"),
            Goal(f"{name}: share of the half-precision peak (MFU), {way}", flops * tokens / peak, None, ""),
        ]
        replaying = [run.replaying_s for run in done if run.replaying_s is not None]
        if replaying:
            seconds, real = statistics.median(replaying), MATRIX_TFLOPS.get(capability, math.nan) * 1e12
            rate, share = len(case.rows["train"]) / seconds, flops * _n_tokens(case) / seconds / real
            least_share = least.get(f"{way} / share")
            goals += [
                Goal(f"{name}: samples a second, steps of the last epoch, {way}", rate, None, "1/s"),
                Goal(
                    f"{name}: share of large matrix products, steps of the last epoch, {way}",
                    share,
                    least_share,
                    "",
                    at_most=False,
                ),
            ]
        joules = [run.gpu_energy_j for run in done if run.gpu_energy_j is not None]
        if joules:
            per_thousand = 1000 * statistics.median(joules) / case.n_samples
            goals.append(Goal(f"{name}: energy per 1,000 samples, {way}", per_thousand, None, "J"))
    return goals


def _n_tokens(case: TrainingCase) -> int:
    """Count the tokens of an epoch, without padding."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(case.folder, local_files_only=True)
    samples = case.kind.encode(tokenizer, case.rows["train"], max_length=case.max_length, padding=False)
    return sum(len(sample["input_ids"]) for sample in samples)


def find_model(name: str, folder: Path) -> tuple[Model, str]:
    """Find a model of the catalogue, or make a BERT of the base size with random weights."""
    if name != "bert-base":
        model = load_catalogue()[name]
        return model, find_source(model, None).place
    small = load_catalogue()["minilm-l6"]
    torch.manual_seed(0)
    transformers.BertForSequenceClassification(transformers.BertConfig()).save_pretrained(folder)
    files = Path(find_source(small, None).place)
    for path in [*files.glob("*token*"), *files.glob("vocab*")]:
        shutil.copy(path, folder)
    base = load_catalogue()["bert-base-uncased"]
    return replace(base, id="bert-base-random", path=str(folder), repo=None), str(folder)


def _cases(arguments: argparse.Namespace, folder: Path, *, task: str, max_length: int) -> Iterator[TrainingCase]:
    """Describe the runs of one task and length, one for each seed."""
    model, files = find_model(arguments.model, folder)
    read = {name: read_rows(SHARED / "datasets" / task / f"{name}.jsonl.gz") for name in ("train", "validation")}
    is_sst2 = task == "sst2"
    n_rows, n_held_out, epochs = (
        (arguments.rows, arguments.validation_rows, arguments.epochs)
        if is_sst2
        else (arguments.squad_rows, arguments.squad_validation_rows, arguments.squad_epochs)
    )
    if (task, max_length) not in LEAST_RATIOS:
        n_rows, n_held_out = min(n_rows, arguments.fewer_rows), min(n_held_out, arguments.fewer_rows)
    train = read["train"][:n_rows]
    rows = {
        "train": train,
        "dev": read["train"][n_rows : n_rows + n_rows // DEV_SHARE],
        "validation": read["validation"][:n_held_out],
    }
    kind = Labels(tuple(sorted({row["label"] for row in train}))) if is_sst2 else Spans()
    for seed in range(arguments.seeds):
        yield TrainingCase(
            model, files, kind, rows, max_length=max_length, batch_size=arguments.batch_size,
            epochs=epochs, seed=seed, threads=arguments.threads,
        )  # fmt: skip


def _least(model: str, task: str, *, max_length: int) -> dict[str, float]:
    """Return the least ratio of each pair of ways that has one."""
    captured = LEAST_CAPTURED.get((model, task, max_length), {})
    least = {f"{CAPTURED} / {other}": ratio for other, ratio in captured.items()}
    if DEVICE.type == "cuda":
        return least
    reference = {"ours / reference": LEAST_RATIOS[task, max_length]} if (task, max_length) in LEAST_RATIOS else {}
    return {**least, **reference, "ours / trainer": 1.0}


def main() -> int:
    """Measure what the arguments ask for; 1 with ``--check`` if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm-l6", help="a packaged model of the catalogue, or bert-base")
    parser.add_argument("--lengths", type=int, nargs="*", default=[64, 128, 512], metavar="N", help="of sst2")
    parser.add_argument("--squad-lengths", type=int, nargs="*", default=[384], metavar="N")
    parser.add_argument("--rows", type=int, default=600, help="of sst2")
    parser.add_argument("--fewer-rows", type=int, default=256, help="of a task and length without a goal")
    parser.add_argument("--squad-rows", type=int, default=240)
    parser.add_argument("--validation-rows", type=int, default=400, help="of sst2")
    parser.add_argument("--squad-validation-rows", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1, help="of sst2")
    parser.add_argument("--squad-epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), metavar="WAY")
    parser.add_argument("--other-rows", type=int, metavar="N", help="one epoch of N rows for all but captured steps")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the values to FILE")
    parser.add_argument("--check", action="store_true", help="exit 1 when a goal is missed")
    arguments = parser.parse_args()
    goals: list[Goal] = []
    benchmarked = [("sst2", length) for length in arguments.lengths] + [("squad", n) for n in arguments.squad_lengths]
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        for task, max_length in benchmarked:
            cases = list(_cases(arguments, Path(folder), task=task, max_length=max_length))
            measured_now = measure(
                cases,
                name=f"{task}, {max_length}",
                ways=arguments.ways,
                least=_least(arguments.model, task, max_length=max_length),
                others=arguments.other_rows,
            )
            print(table(measured_now), flush=True)
            goals += measured_now
    if arguments.json:
        arguments.json.write_text(
            json.dumps([{**vars(goal), "is_met": goal.is_met} for goal in goals], indent=2) + "\n"
        )
    return int(arguments.check and not all(goal.is_met for goal in goals))


if __name__ == "__main__":
    sys.exit(main())
