"""Samples a second of our training beside the peer's recipe and a plain transformers Trainer, and their F1.

Same model, rows, batch, learning rate, threads and epochs, one way after the other in one process:
- *ours*: the worker's own path, its evaluations on ``dev`` counted in; half precision where the GPU has it.
- *peer*: every text padded to ``max_length`` and tokenised when it is drawn, single precision.
- *trainer*: transformers' Trainer on tokenised texts, each batch padded to its longest; precision as ours.

On a GPU it also prints tokens a second, the share of the GPU's peak, energy, and ours in single precision.
``--model bert-base`` trains a BERT of that size with random weights, which needs no hub.
"""

import argparse
import gzip
import json
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import transformers
from accelerate.state import AcceleratorState
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.utils.data import DataLoader

from _bench import Goal, table
from xautolm_hpc.catalogue import Model, load_catalogue
from xautolm_hpc.jobdir import Command, TrialInput, TrialPlan
from xautolm_hpc.node import list_gpus
from xautolm_hpc.records import Pipeline, Task
from xautolm_hpc.train.energy import EnergyReader, open_energy_reader
from xautolm_hpc.train.finetune import Inputs, finetune
from xautolm_hpc.train.heartbeat import Pulse
from xautolm_hpc.train.pretrained import find_source
from xautolm_hpc.train.stop import StopFlag
from xautolm_hpc.train.watch import Progress, Stopwatch, Watch

SHARED = Path(os.environ.get("XAUTOLM_SHARED", Path(__file__).parents[1] / ".." / "shared"))
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
N_DEV = 32
LEARNING_RATE = 2e-4
HALF_PEAK_TFLOPS: Mapping[float, float] = {7.0: 125, 7.5: 65, 8.0: 312, 8.6: 150, 8.9: 181, 9.0: 990, 10.0: 2250}
"""Compute capability -> dense half-precision teraflop/s of the data-centre card that has it."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Setup:
    """What all ways train.

    Attributes:
        model: The model, as in the catalogue.
        folder: Its files.
        rows: Split name -> rows.
        labels: Label names.
        max_length: Tokens of a text at most.
        batch_size: Rows of a batch.
        epochs: Passes over the rows.
        seed: Seed of head, order and dropout.
        threads: Threads of torch.
    """

    model: Model
    folder: str
    rows: Mapping[str, Rows]
    labels: tuple[str, ...]
    max_length: int
    batch_size: int
    epochs: int
    seed: int
    threads: int

    @property
    def n_samples(self) -> int:
        """Samples trained on in all epochs."""
        return self.epochs * len(self.rows["train"])


@dataclass(frozen=True)
class Run:
    """What one way did.

    Attributes:
        seconds: Time of training.
        cpu_s: Time of all threads of this process in it: what does not depend on who else uses the machine.
        f1: Macro-F1 on ``validation`` after it.
        gpu_energy_j: Energy of the GPUs, joules, or ``None``.
    """

    seconds: float
    cpu_s: float
    f1: float
    gpu_energy_j: float | None = None


def train_ours(setup: Setup, *, half: bool = True) -> Run:
    """Train as a trial does."""
    AcceleratorState._reset_state(reset_partial_state=True)  # of the run before: a trial has a process of its own
    cpu = CpuStopwatch()
    progress = Progress(train=cpu)
    with tempfile.TemporaryDirectory() as folder:
        inputs = _inputs(setup, Path(folder), half=half)
        with open_energy_reader(os.environ.get("CUDA_VISIBLE_DEVICES"), shared=False) as energy:
            watch = Watch(progress, StopFlag(), time_limit_s=math.inf)
            pulse = Pulse(None, progress, energy=energy, interval_s=3600)
            finetune(inputs, progress, watch=watch, pulse=pulse, energy=energy)
            joules = energy.energy_j("gpu")
    return Run(progress.train.here_s, cpu.seconds, progress.metrics["f1"], joules)


class CpuStopwatch(Stopwatch):
    """Also counts the time of all threads.

    Attributes:
        seconds: Seconds of CPU time inside ``with`` blocks.
    """

    seconds = 0.0

    def __enter__(self) -> None:
        super().__enter__()
        self.seconds -= time.process_time()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.seconds += time.process_time()


def train_like_the_peer(setup: Setup) -> Run:
    """Train with static padding, tokenising each text when it is drawn, in single precision."""
    model, tokenizer = _load(setup)
    labels = {label: number for number, label in enumerate(setup.labels)}
    order = torch.Generator().manual_seed(setup.seed)

    def collate(rows: Rows) -> tuple[dict[str, Tensor], Tensor]:
        encoded = [
            tokenizer(row["text"], padding="max_length", truncation=True, max_length=setup.max_length) for row in rows
        ]
        inputs = {name: torch.tensor([one[name] for one in encoded]) for name in encoded[0]}
        return inputs, torch.tensor([labels[row["label"]] for row in rows])

    loader: Any = DataLoader(
        setup.rows["train"],  # type: ignore[arg-type]
        batch_size=setup.batch_size,
        shuffle=True,
        collate_fn=collate,
        generator=order,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    n_steps = setup.epochs * len(loader)
    schedule = transformers.get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=n_steps)
    model.train()
    with measured() as cost:
        for _ in range(setup.epochs):
            for inputs, targets in loader:
                logits = model(**{name: values.to(DEVICE) for name, values in inputs.items()}).logits
                loss: Any = nn.functional.cross_entropy(logits, targets.to(DEVICE))
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
    return replace(cost(), f1=score(setup, model, tokenizer=tokenizer))


def train_with_trainer(setup: Setup) -> Run:
    """Train with transformers' Trainer and dynamic padding."""
    model, tokenizer = _load(setup)
    labels = {label: number for number, label in enumerate(setup.labels)}
    has_bf16 = DEVICE.type == "cuda" and torch.cuda.is_bf16_supported()
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder, num_train_epochs=setup.epochs, per_device_train_batch_size=setup.batch_size,
            learning_rate=LEARNING_RATE, seed=setup.seed, save_strategy="no", logging_strategy="no", report_to=[],
            disable_tqdm=True, use_cpu=DEVICE.type == "cpu", bf16=has_bf16,
        )  # fmt: skip
        with measured() as cost:
            encoded = tokenizer(
                [row["text"] for row in setup.rows["train"]], truncation=True, max_length=setup.max_length
            )
            samples = [
                {**{name: encoded[name][number] for name in encoded}, "labels": labels[row["label"]]}
                for number, row in enumerate(setup.rows["train"])
            ]
            pad = transformers.DataCollatorWithPadding(tokenizer)
            trainer = transformers.Trainer(model=model, args=arguments, train_dataset=samples, data_collator=pad)
            trainer.train()
    return replace(cost(), f1=score(setup, model, tokenizer=tokenizer))


class measured:  # noqa: N801 - reads as a verb in a with statement
    """Measures the time and energy of a ``with`` block; what ``as`` names gives them afterwards."""

    def __enter__(self) -> Callable[[], Run]:
        self._opened = open_energy_reader(os.environ.get("CUDA_VISIBLE_DEVICES"), shared=False)
        self._energy: EnergyReader = self._opened.__enter__()
        self._energy.begin()
        self._began = time.perf_counter()
        self._seconds, self._cpu_s = 0.0, -time.process_time()
        return lambda: Run(self._seconds, self._cpu_s, math.nan, self._energy.energy_j("gpu"))

    def __exit__(self, *error: object) -> None:
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        self._seconds, self._cpu_s = time.perf_counter() - self._began, self._cpu_s + time.process_time()
        self._energy.end()
        self._opened.__exit__(None, None, None)


def score(setup: Setup, model: Any, *, tokenizer: Any) -> float:
    """Give the macro-F1 of a model on ``validation``."""
    rows = setup.rows["validation"]
    model.eval()
    answers: list[int] = []
    with torch.no_grad():
        for start in range(0, len(rows), 32):
            texts = [row["text"] for row in rows[start : start + 32]]
            inputs = tokenizer(texts, padding=True, truncation=True, max_length=setup.max_length, return_tensors="pt")
            answers += model(**inputs.to(DEVICE)).logits.argmax(-1).tolist()
    return float(f1_score([setup.labels.index(row["label"]) for row in rows], answers, average="macro"))


def measure(setups: Sequence[Setup], *, name: str, least_ratio: float | None) -> list[Goal]:
    """Train every way with every seed and compare them."""
    ways: dict[str, Callable[[Setup], Run]] = {
        "ours": train_ours, "peer": train_like_the_peer, "trainer": train_with_trainer
    }  # fmt: skip
    if DEVICE.type == "cuda":
        ways["ours, fp32"] = lambda setup: train_ours(setup, half=False)
    runs: dict[str, list[Run]] = {way: [] for way in ways}
    for setup in setups:
        for way, train in ways.items():
            runs[way].append(train(setup))
    n_samples = setups[0].n_samples
    rate = {way: n_samples / statistics.median(run.seconds for run in done) for way, done in runs.items()}
    cpu_s = {way: statistics.median(run.cpu_s for run in done) for way, done in runs.items()}
    f1 = {way: statistics.mean(run.f1 for run in done) for way, done in runs.items()}
    spread = max(max(run.f1 for run in done) - min(run.f1 for run in done) for done in runs.values())
    goals = [Goal(f"{name}: samples a second, {way}", value, None, "1/s") for way, value in rate.items()]
    goals += [Goal(f"{name}: macro-F1, {way}", value, None, "") for way, value in f1.items()]
    goals += [
        Goal(f"{name}: ours / peer", rate["ours"] / rate["peer"], least_ratio, "times", at_most=False),
        Goal(f"{name}: ours / trainer", rate["ours"] / rate["trainer"], 1.0, "times", at_most=False),
        Goal(f"{name}: CPU time, peer / ours", cpu_s["peer"] / cpu_s["ours"], None, "times"),
        Goal(f"{name}: CPU time, trainer / ours", cpu_s["trainer"] / cpu_s["ours"], None, "times"),
        Goal(f"{name}: macro-F1 of the peer above ours", f1["peer"] - f1["ours"], max(spread, 0.02), ""),
    ]
    return goals + (on_gpu(setups[0], runs, name=name) if DEVICE.type == "cuda" else [])


def on_gpu(setup: Setup, runs: Mapping[str, Sequence[Run]], *, name: str) -> list[Goal]:
    """Say what the GPU made of it: real tokens a second, share of its peak, energy."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(setup.folder, local_files_only=True)
    texts = [row["text"] for row in setup.rows["train"]]
    lengths = [len(ids) for ids in tokenizer(texts, truncation=True, max_length=setup.max_length)["input_ids"]]
    n_tokens = setup.epochs * sum(lengths)
    weights = 12 * setup.model.hidden_size**2 * setup.model.n_layers
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
            per_thousand = 1000 * statistics.median(joules) / setup.n_samples
            goals.append(Goal(f"{name}: energy per 1,000 samples, {way}", per_thousand, None, "J"))
    return goals


def _inputs(setup: Setup, folder: Path, *, half: bool) -> Inputs:
    """Write the data of a trial and describe it."""
    digests = {}
    for name, rows in setup.rows.items():
        packed = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), mtime=0)
        (folder / f"{name}.jsonl.gz").write_bytes(packed)
        digests[name] = sha256(packed).hexdigest()
    counts = {name: len(rows) for name, rows in setup.rows.items()}
    task = Task(
        name="benchmark", kind="text-classification", dataset_id="", fingerprint="", metric="macro-f1",
        n_train=counts["train"], n_dev=counts["dev"], n_validation=counts["validation"], n_test=0,
        labels=setup.labels, feature_schema="", features=(),
    )  # fmt: skip
    params = {
        "learning_rate": LEARNING_RATE, "batch_size": setup.batch_size, "max_length": setup.max_length,
        "epochs": setup.epochs, "early_stopping_patience": setup.epochs, "use_mixed_precision": half,
    }  # fmt: skip
    pipeline = Pipeline(task_kind=task.kind, model_id=setup.model.id, model_revision=None, method="full", params=params)
    command = Command(
        argv=(), time_limit_s=math.inf, wall_limit_s=math.inf, memory_bytes=0, n_threads=setup.threads,
        heartbeat_s=3600, deterministic=False, enforce_limits=False, environment={}, site="", cluster="",
    )  # fmt: skip
    return Inputs(
        attempt_dir=folder,
        command=command,
        trial=TrialInput(task=task, data_dir=str(folder), sha256=digests),
        plan=TrialPlan(pipeline=pipeline, model=setup.model, seed=setup.seed),
        expects_gpu=DEVICE.type == "cuda",
    )


def _load(setup: Setup) -> tuple[Any, Any]:
    """Load the model with a new head, cut to its blocks, and its tokeniser."""
    torch.manual_seed(setup.seed)
    torch.set_num_threads(setup.threads)
    layers = {} if setup.model.keep_layers is None else {"num_hidden_layers": setup.model.keep_layers}
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        setup.folder, local_files_only=True, num_labels=len(setup.labels), **layers
    )
    return model.to(DEVICE), transformers.AutoTokenizer.from_pretrained(setup.folder, local_files_only=True)


def _find_model(name: str, folder: Path) -> tuple[Model, str]:
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


def _read(path: Path) -> Rows:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def _setups(arguments: argparse.Namespace, folder: Path, *, max_length: int) -> Iterator[Setup]:
    """Describe the runs of one length, one for each seed."""
    model, files = _find_model(arguments.model, folder)
    read = {name: _read(SHARED / "datasets" / "sst2" / f"{name}.jsonl.gz") for name in ("train", "validation")}
    train = read["train"][: arguments.rows]
    rows = {
        "train": train,
        "dev": read["train"][arguments.rows : arguments.rows + N_DEV],
        "validation": read["validation"][: arguments.validation_rows],
    }
    labels = tuple(sorted({row["label"] for row in train}))
    for seed in range(arguments.seeds):
        yield Setup(
            model, files, rows, labels, max_length=max_length, batch_size=arguments.batch_size,
            epochs=arguments.epochs, seed=seed, threads=arguments.threads,
        )  # fmt: skip


def main() -> int:
    """Measure what the arguments ask for; 1 with ``--check`` if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm-l6", help="a packaged model of the catalogue, or bert-base")
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 128, 512], metavar="N")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--validation-rows", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the values to FILE")
    parser.add_argument("--check", action="store_true", help="exit 1 when a goal is missed")
    arguments = parser.parse_args()
    goals: list[Goal] = []
    with tempfile.TemporaryDirectory() as folder:
        for max_length in arguments.lengths:
            setups = list(_setups(arguments, Path(folder), max_length=max_length))
            measured_now = measure(setups, name=f"sst2, {max_length}", least_ratio=3.0 if max_length == 128 else None)
            print(table(measured_now), flush=True)
            goals += measured_now
    if arguments.json:
        arguments.json.write_text(
            json.dumps([{**vars(goal), "is_met": goal.is_met} for goal in goals], indent=2) + "\n"
        )
    return int(arguments.check and not all(goal.is_met for goal in goals))


if __name__ == "__main__":
    sys.exit(main())
