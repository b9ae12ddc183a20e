"""The whole grid of architectures, kinds of task and methods; ``make test-families`` runs it and writes its table."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT_DIR
from tests.train.families import FAMILY
from tests.train.test_families import PARAMS, memorise

TABLE = ROOT_DIR / "build" / "families.md"
NO_QUESTION_HEAD = ("phi", "phi3")
NO_BIASES = ("llama", "mistral", "qwen3", "phi3", "t5", "modernbert")
KINDS = ("text-classification", "question-answering", "text-generation")

LONG: dict[str, Any] = {"epochs": 120, "early_stopping_patience": 120}
SLOW: dict[tuple[str, str], dict[str, Any]] = {
    ("albert", "full"): LONG,
    ("electra", "lora"): {**LONG, "learning_rate": 3e-3},
    ("electra", "bitfit"): {**LONG, "learning_rate": 1e-2},
}
"""Architecture and method -> what lets them learn to classify by heart where the usual hyperparameters stop short."""

pytestmark = pytest.mark.families


def cells() -> list[tuple[str, str, str]]:
    """List every combination that an architecture supports."""
    return [
        (architecture, kind, method)
        for architecture, family in FAMILY.items()
        for kind in KINDS
        for method in PARAMS
        if not (kind == "text-generation" and family == "encoder")
        if not (kind == "question-answering" and architecture in NO_QUESTION_HEAD)
        if not (method == "bitfit" and architecture in NO_BIASES)
        # Scales and biases of random weights are too few to write with; on pretrained ones they learn.
        if not (kind == "text-generation" and method in ("ia3", "bitfit"))
    ]


@pytest.fixture(scope="module")
def table() -> Iterator[dict[tuple[str, str], dict[str, str]]]:
    """Collect the results and write them as a table of Markdown."""
    found: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    yield found
    lines = [f"| architecture | task | {' | '.join(PARAMS)} |", "|---" * (2 + len(PARAMS)) + "|"]
    for (architecture, kind), row in found.items():
        lines.append(f"| {architecture} | {kind} | {' | '.join(row.get(method, '–') for method in PARAMS)} |")
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(("architecture", "kind", "method"), cells())
def test_a_cell_of_the_grid(
    tmp_path: Path, table: dict[tuple[str, str], dict[str, str]], architecture: str, kind: str, method: str
) -> None:
    row = table[architecture, kind]
    row[method] = "failed"

    changes = SLOW.get((architecture, method), {}) if kind == "text-classification" else {}
    found = memorise(tmp_path, architecture=architecture, kind=kind, method=method, **changes)

    fall = 1 - found["last_loss"] / found["first_loss"]
    row[method] = f"{found['f1']:.2f}, −{fall:.0%}"
