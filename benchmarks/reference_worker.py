"""A worker whose trials train by XAutoLM's recipe, everything else being the product's: jobs, limits, outcomes, energy.

``python benchmarks/reference_worker.py -m xautolm_hpc.train trial ATTEMPT_DIR`` is called as an interpreter would be.
The recipe: every text is tokenised when it is drawn and padded to
``max_length``, single precision, kernel by kernel; the schedule ignores accumulation; training ends by the training
loss; nothing is held out of ``train``, and a trial out of memory has failed. Where the recipe is slower than need be,
this is kinder: one split instead of two, and the validation is padded to the longest text of a batch.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.training_kinds import Labels, Rows, Spans, TrainedTask, load
from xautolm_hpc.execution import StepMode
from xautolm_hpc.train import __main__ as worker_command
from xautolm_hpc.train import finetune, worker
from xautolm_hpc.train.data import read_rows
from xautolm_hpc.train.energy import EnergyReader
from xautolm_hpc.train.heartbeat import HeartbeatWriter
from xautolm_hpc.train.limit.trial_budget import Progress, TrialBudget
from xautolm_hpc.train.methods import apply_method
from xautolm_hpc.train.prepare import AttemptInputs, start_torch
from xautolm_hpc.train.pretrained import find_source
from xautolm_hpc.train.recipe import Recipe, parse_recipe

OPTIMIZERS: Mapping[str, Any] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
}


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What a trial learns with.

    Attributes:
        kind: What is learnt.
        recipe: Hyperparameters.
        model: The model, on the device.
        tokenizer: Its tokeniser.
        max_length: Tokens that every text is padded to.
        seed: Seed of the order.
    """

    kind: TrainedTask
    recipe: Recipe
    model: Any
    tokenizer: Any
    max_length: int
    seed: int

    def collate(self, rows: Rows) -> dict[str, Tensor]:
        """Build a batch, its rows tokenised one by one."""
        encoded = [
            sample
            for row in rows
            for sample in self.kind.encode(self.tokenizer, [row], max_length=self.max_length, padding="max_length")
        ]
        device = next(self.model.parameters()).device
        return {name: torch.tensor([one[name] for one in encoded]).to(device) for name in encoded[0]}


def finetune_like_reference(
    inputs: AttemptInputs,
    progress: Progress,
    *,
    budget: TrialBudget,
    heartbeat_writer: HeartbeatWriter,
    energy: EnergyReader,
) -> None:
    """Train one pipeline and measure it, in the place of :func:`xautolm_hpc.train.finetune.finetune`.

    Args:
        inputs: Files of the attempt folder.
        progress: Filled while the trial runs; the metrics on success.
        budget: Ends the trial between two steps.
        heartbeat_writer: Writes the phases.
        energy: Counts from the first step to the end of the evaluation.

    Raises:
        StopRequestedError: A signal asked to stop.
        TrialError: The pipeline failed in a foreseen way.
    """
    trial = inputs.trial
    rows = {name: read_rows(Path(trial.data_dir), name, sha256=trial.sha256.get(name)) for name in trial.sha256}
    with progress.load:
        learning = _load(inputs)
    try:
        energy.begin()
        budget.begin()
        heartbeat_writer.enter("train")
        with progress.train:
            train(learning, [*rows["train"], *rows.get("dev", [])], progress=progress, budget=budget)
        heartbeat_writer.enter("eval")
        with progress.eval, torch.no_grad():
            learning.model.eval()
            progress.metrics["f1"] = learning.kind.f1(
                learning.model, learning.tokenizer, rows=rows["validation"], max_length=learning.max_length
            )
            budget.check()
    finally:
        energy.end()
        finetune.measure_gpu_memory(progress)


def _load(inputs: AttemptInputs) -> Learning:
    plan, labels = inputs.plan, inputs.trial.task.labels
    recipe = replace(parse_recipe(plan.pipeline.method, plan.pipeline.params), use_mixed_precision=False)
    device = start_torch(inputs, recipe).device
    kind = Labels(tuple(labels)) if labels else Spans()
    place = find_source(plan.model, plan.hf_home).place
    loaded, tokenizer = load(
        kind, place, layers=plan.model.keep_layers, seed=plan.seed, dropout_rate=recipe.dropout_rate
    )
    return Learning(
        kind=kind,
        recipe=recipe,
        model=apply_method(loaded, plan.pipeline.method, recipe=recipe).to(device),
        tokenizer=tokenizer,
        max_length=min(recipe.max_length, plan.model.context_length, tokenizer.model_max_length),
        seed=plan.seed,
    )


def train(learning: Learning, rows: Rows, *, progress: Progress, budget: TrialBudget) -> None:
    """Train until the epochs are over, or the training loss no longer falls.

    Args:
        learning: What to learn with.
        rows: What to learn from.
        progress: Counts steps and samples.
        budget: Asked before every step.

    Raises:
        StopRequestedError: A signal asked to stop.
        TrialError: The budget is used up.
    """
    recipe, model = learning.recipe, learning.model
    data: Any = rows  # a list does for a Dataset
    loader: Any = DataLoader(
        data,
        batch_size=recipe.batch_size,
        shuffle=True,
        collate_fn=learning.collate,
        generator=torch.Generator().manual_seed(learning.seed),
    )
    n_all = recipe.epochs * len(loader)  # of batches, whatever is accumulated
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = OPTIMIZERS[recipe.optimizer](parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    n_warmup = recipe.warmup_steps if recipe.warmup_steps is not None else round(recipe.warmup_ratio * n_all)
    schedule = transformers.get_scheduler(recipe.lr_scheduler, optimizer, n_warmup, n_all)
    weights = _class_weights(learning, rows)
    progress.epochs, progress.step_mode = recipe.epochs, StepMode.EAGER
    progress.n_steps = recipe.epochs * -(-len(loader) // recipe.gradient_accumulation_steps)
    losses: list[float] = []
    model.train()
    for _ in range(recipe.epochs):
        sum_loss = 0.0
        for number, inputs in enumerate(loader, start=1):
            budget.check()
            loss = _loss(model, inputs, weights=weights)
            (loss / recipe.gradient_accumulation_steps).backward()
            sum_loss += loss.item()
            progress.n_samples += len(inputs["input_ids"])
            if number % recipe.gradient_accumulation_steps == 0 or number == len(loader):
                if recipe.max_grad_norm is not None:
                    nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                progress.step += 1
        losses.append(sum_loss / len(loader))
        if has_stalled(losses, delta=recipe.early_stopping_delta, patience=recipe.early_stopping_patience):
            break


def has_stalled(losses: Sequence[float], *, delta: float, patience: int) -> bool:
    """Check whether the training loss has fallen by less than ``delta`` in each of the last ``patience`` epochs.

    Args:
        losses: Mean training loss of each epoch so far.
        delta: Least fall that counts.
        patience: Epochs.
    """
    n_without, best = 0, float("inf")
    for loss in losses:
        is_gain = loss < best - delta
        n_without = 0 if is_gain else n_without + 1
        best = loss if is_gain else best
    return n_without >= patience


def _class_weights(learning: Learning, rows: Rows) -> Tensor | None:
    """Compute 1 / count of each class, as the recipe has it; ``None`` where all classes weigh the same."""
    if not learning.recipe.class_weighted_loss or not learning.kind.labels:
        return None
    counts = [sum(row["label"] == label for row in rows) for label in learning.kind.labels]
    return torch.tensor([1 / count for count in counts], device=next(learning.model.parameters()).device)


def _loss(model: Any, inputs: Mapping[str, Tensor], *, weights: Tensor | None) -> Any:
    output = model(**inputs)
    return (
        output.loss if weights is None else nn.functional.cross_entropy(output.logits, inputs["labels"], weight=weights)
    )


def main(argv: Sequence[str]) -> int:
    """Run a trial by the recipe; arguments are those of the interpreter that this stands for."""
    finetune.finetune = finetune_like_reference
    worker._may_retry = lambda *_, **__: False
    return worker_command.main(argv[argv.index("trial") :])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
