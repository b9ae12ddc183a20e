"""Which architectures can be captured: trains a tiny model of each, eagerly and in graphs, and prints a table.

One call on a machine with a GPU: ``python -m benchmarks.step_capture``. A cell says ``captured`` with the largest
difference between the losses of graph and eager steps, or why not.
"""

import argparse
import math
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers

from tests.gpu.step_cases import build, losses, without_dropout
from tests.train.tiny import CONFIGS
from xautolm_hpc.execution import StepMode
from xautolm_hpc.train.loop import train

METHODS = ("full", "lora", "partial")


def cell(folder: Path, architecture: str, *, method: str, params: dict[str, bool | int | float | str]) -> str:
    """Train one architecture with one method in both ways and say what came of it."""
    seen: dict[StepMode, list[float]] = {}
    for step in StepMode:
        train_state = without_dropout(build(folder / step, architecture, step=step, method=method, params=params))
        seen[step] = losses(train_state)
        train(train_state, save=lambda: None)
        if train_state.runner.mode is not step:
            return f"not captured: {train_state.runner.reason}"
    pairs = zip(seen[StepMode.EAGER], seen[StepMode.GRAPH], strict=True)
    apart = max((abs(one - other) for one, other in pairs), default=math.nan)
    return f"captured, losses apart by {apart:.0e}"


def row(architecture: str, methods: Sequence[str], *, half: bool) -> list[str]:
    """Return the cells of one architecture; an error of any kind is its cell's text."""
    cells = []
    for method in methods:
        params: dict[str, bool | int | float | str] = {
            "optimizer": "sgd", "learning_rate": 0.05, "use_mixed_precision": half
        }  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            try:
                cells.append(cell(Path(folder), architecture, method=method, params=params))
            except (RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:
                traceback.print_exc(limit=3)
                cells.append(f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    return cells


def main() -> int:
    """Print the table; 0 if there is no GPU, too, after saying so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", nargs="*", default=list(CONFIGS), choices=list(CONFIGS), metavar="NAME")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), metavar="NAME")
    parser.add_argument("--half", action="store_true", help="in bf16")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    if not torch.cuda.is_available():
        print("not run: this machine has no GPU that torch can use")
        return 0
    print(f"{torch.cuda.get_device_name()}\n")
    print(f"| architecture | {' | '.join(arguments.methods)} |\n{'|---' * (1 + len(arguments.methods))}|")
    for architecture in arguments.architectures:
        cells = row(architecture, arguments.methods, half=arguments.half)
        print(f"| {architecture} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
