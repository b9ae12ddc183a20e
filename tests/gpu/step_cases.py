"""Train states on a GPU whose steps are captured, beside eager ones of the same trial."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState
from torch import nn

from tests.train.families import load_train_state, write_family_attempt
from xautolm_hpc.execution import StepMode
from xautolm_hpc.records import Value
from xautolm_hpc.train.loop import TrainState
from xautolm_hpc.train.stop import StopFlag

PARAMS: Mapping[str, Value] = {
    "learning_rate": 1e-3,
    "batch_size": 3,
    "max_length": 36,
    "epochs": 5,
    "early_stopping_patience": 9,
    "warmup_ratio": 0.1,
    "use_mixed_precision": False,
}
"""30 steps over 16 rows, the last of each epoch with one row, in single precision."""

RATES = ("attention_dropout", "dropout_prob", "dropout", "activation_dropout", "attention_probs_dropout_prob")


def build(
    folder: Path,
    architecture: str,
    *,
    step: StepMode,
    method: str = "full",
    kind: str = "text-classification",
    params: Mapping[str, Value] | None = None,
) -> TrainState:
    """Build a train state in a folder that is new, or the same again in one that is not."""
    AcceleratorState._reset_state(reset_partial_state=True)  # each trial has a process of its own
    attempt_dir = folder / "attempt-0"
    if not attempt_dir.exists():
        given = {**PARAMS, **(params or {})}
        write_family_attempt(folder, architecture, kind=kind, method=method, params=given)
    return load_train_state(attempt_dir, step=step, deterministic=False)


def rebuild(folder: Path, *, step: StepMode, stop: StopFlag, time_limit_s: float = 600.0) -> TrainState:
    """Build the train state of a folder that is there already, with another stop or budget."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return load_train_state(folder / "attempt-0", step=step, deterministic=False, stop=stop, time_limit_s=time_limit_s)


def without_dropout(train_state: TrainState) -> TrainState:
    """Set every rate of dropout to 0, that of models whose configuration has another name for it too."""
    for module in train_state.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in RATES:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return train_state


def losses(train_state: TrainState) -> list[float]:
    """List the loss of each step, from the results of the runner, while the training goes on."""
    seen: list[float] = []
    start, finish = train_state.runner.start, train_state.runner.finish

    def note(results: Any) -> Any:
        seen.extend(result.loss for result in results)
        return results

    runner: Any = train_state.runner
    runner.start = lambda batches: note(start(batches))
    runner.finish = lambda: note(finish())
    return seen
