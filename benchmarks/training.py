"""Samples a second of our training beside XAutoLM's recipe and a plain transformers Trainer, and their F1.

Same model, rows, batch, learning rate, threads and epochs, one way after the other in one process:
- *ours*: the worker's own path, its evaluations on ``dev`` counted in; half precision where the GPU has it.
- *reference*: XAutoLM's recipe, every text padded to ``max_length`` and tokenised when it is drawn, single precision.
- *trainer*: transformers' Trainer on tokenised texts, each batch padded to its longest; precision as ours.

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
from xautolm_hpc.train.pretrained import find_source

SHARED = Path(os.environ.get("XAUTOLM_SHARED", Path(__file__).parents[1] / ".." / "shared"))
DEV_SHARE = 8
"""For so many rows of train there is one of ``dev``."""

LEAST_RATIOS = {("sst2", 128): 3.0, ("squad", 384): 2.0}
"""Task and length -> least ratio of our samples a second to the reference's."""

CAPTURED = "ours, graph"
"""Name of our way with captured steps."""

HALF_PEAK_TFLOPS: Mapping[float, float] = {7.0: 125, 7.5: 65, 8.0: 312, 8.6: 150, 8.9: 181, 9.0: 990, 10.0: 2250}
"""Compute capability -> dense half-precision teraflop/s of the data-centre card that has it."""


def measure(cases: Sequence[TrainingCase], *, name: str, least_ratio: float | None) -> list[Goal]:
    """Train every way with every seed and compare them."""
    ways: dict[str, Callable[[TrainingCase], TrainingCost]] = {
        "ours": train_ours, "reference": train_like_reference, "trainer": train_with_trainer
    }  # fmt: skip
    if DEVICE.type == "cuda":
        ways["ours, fp32"] = lambda case: train_ours(case, half=False)
        ways[CAPTURED] = lambda case: train_ours(case, step=StepMode.GRAPH)
    else:
        print(f"{name}: {CAPTURED}: not run, this machine has no GPU that torch can use")
    runs: dict[str, list[TrainingCost]] = {way: [] for way in ways}
    for case in cases:
        for way, train in ways.items():
            runs[way].append(train(case))
    n_samples = cases[0].n_samples
    rate = {way: n_samples / statistics.median(run.seconds for run in done) for way, done in runs.items()}
    cpu_s = {way: statistics.median(run.cpu_s for run in done) for way, done in runs.items()}
    f1 = {way: statistics.mean(run.f1 for run in done) for way, done in runs.items()}
    spread = max(max(run.f1 for run in done) - min(run.f1 for run in done) for done in runs.values())
    goals = [Goal(f"{name}: samples a second, {way}", value, None, "1/s") for way, value in rate.items()]
    goals += [Goal(f"{name}: F1, {way}", value, None, "") for way, value in f1.items()]
    if len(cases) > 1:
        of_seeds = {way: statistics.stdev(run.f1 for run in done) for way, done in runs.items()}
        goals += [Goal(f"{name}: F1, {way}, SD of a seed", value, None, "") for way, value in of_seeds.items()]
    goals += [
        Goal(f"{name}: ours / reference", rate["ours"] / rate["reference"], least_ratio, "times", at_most=False),
        Goal(f"{name}: ours / trainer", rate["ours"] / rate["trainer"], 1.0, "times", at_most=False),
        Goal(f"{name}: CPU time, reference / ours", cpu_s["reference"] / cpu_s["ours"], None, "times"),
        Goal(f"{name}: CPU time, trainer / ours", cpu_s["trainer"] / cpu_s["ours"], None, "times"),
        Goal(f"{name}: F1 of the reference above ours", f1["reference"] - f1["ours"], max(spread, 0.02), ""),
    ]
    if CAPTURED in rate:
        goals += [
            Goal(f"{name}: {CAPTURED} / {way}", rate[CAPTURED] / rate[way], None, "times")
            for way in ("ours", "reference", "trainer")
        ]
    return goals + (on_gpu(cases[0], runs, name=name) if DEVICE.type == "cuda" else [])


def on_gpu(case: TrainingCase, runs: Mapping[str, Sequence[TrainingCost]], *, name: str) -> list[Goal]:
    """Measure what the GPU did: real tokens a second, share of its peak, energy."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(case.folder, local_files_only=True)
    samples = case.kind.encode(tokenizer, case.rows["train"], max_length=case.max_length, padding=False)
    lengths = [len(sample["input_ids"]) for sample in samples]
    n_tokens = case.epochs * sum(lengths)
    weights = 12 * case.model.hidden_size**2 * case.model.n_layers
    capability = list_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"))[0][0].capability
    peak = HALF_PEAK_TFLOPS.get(capability, math.nan) * 1e12
    goals = []
    for way, done in runs.items():
        seconds = statistics.median(run.seconds for run in done)
        joules = [run.gpu_energy_j for run in done if run.gpu_energy_j is not None]
        goals += [
            Goal(f"{name}: tokens a second, {way}", n_tokens / seconds, None, "1/s"),
            Goal(
                f"{name}: share of the half-precision peak (MFU), {way}",
                6 * weights * n_tokens / seconds / peak,
                None,
                "",
            ),
        ]
        if joules:
            per_thousand = 1000 * statistics.median(joules) / case.n_samples
            goals.append(Goal(f"{name}: energy per 1,000 samples, {way}", per_thousand, None, "J"))
    return goals


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
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the values to FILE")
    parser.add_argument("--check", action="store_true", help="exit 1 when a goal is missed")
    arguments = parser.parse_args()
    goals: list[Goal] = []
    benchmarked = [("sst2", length) for length in arguments.lengths] + [("squad", n) for n in arguments.squad_lengths]
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        for task, max_length in benchmarked:
            cases = list(_cases(arguments, Path(folder), task=task, max_length=max_length))
            least_ratio = LEAST_RATIOS.get((task, max_length))
            measured_now = measure(cases, name=f"{task}, {max_length}", least_ratio=least_ratio)
            print(table(measured_now), flush=True)
            goals += measured_now
    if arguments.json:
        arguments.json.write_text(
            json.dumps([{**vars(goal), "is_met": goal.is_met} for goal in goals], indent=2) + "\n"
        )
    return int(arguments.check and not all(goal.is_met for goal in goals))


if __name__ == "__main__":
    sys.exit(main())
