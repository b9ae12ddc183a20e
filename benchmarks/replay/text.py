"""The tables of ``docs/evidence.md``, from the parts that a replay wrote."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.replay.search_methods import UNIFORM

NAMES = {
    "time_to_target_s": "seconds to 95 % of the best F1",
    "failure_rate": "failure rate",
    "hypervolume": "hypervolume",
    "area": "area under the best F1",
}


def show(part: str, content: Mapping[str, Any]) -> str:
    """Write all tables of a part as Markdown."""
    seeds, pooled = content["seeds"], content["pooled"]
    blocks = [
        f"## {part}",
        f"Seeds {seeds[0]} to {seeds[-1]}. Pooled over {', '.join(pooled)}.",
        ratio_table(content["summary"]),
        *(task_table(content["rows"], key) for key in NAMES),
        reached_table(content["rows"], pooled),
    ]
    chosen = [
        f"| {name} | {' | '.join(f'{value:g}' for value in acquisition.values())} |"
        for name, acquisition in content["acquisition"].items()
    ]
    if chosen:
        names = list(next(iter(content["acquisition"].values())))
        head = [f"| selected on the others for | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        blocks.append("\n".join([*head, *chosen]))
    return "\n\n".join(blocks)


def ratio_table(summary: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Write a summary as ratios to NSPE uniform; a star is p < .05, Holm-adjusted but for the primary comparisons."""
    lines = ["| method | " + " | ".join(NAMES[key] for key in summary) + " |", "|---" * (len(summary) + 1) + "|"]
    for method in next(iter(summary.values())):
        cells = [summary[key][method] for key in summary]
        shown = [
            f"{cell['ratio']:.2f} ({cell['low']:.2f}–{cell['high']:.2f})"
            + ("\\*" if cell.get("p_holm", cell["p"]) < 0.05 and method != UNIFORM else "")
            + (f", {cell['name']}" if "name" in cell else "")
            for cell in cells
        ]
        lines.append(f"| {'evidence to the best other' if method == 'best other' else method} | {' | '.join(shown)} |")
    return "\n".join(lines)


def task_table(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    """Write one measure of each method by task, as a ratio to NSPE uniform."""
    tasks, methods = sorted({r["task"] for r in rows}), sorted({r["method"] for r in rows})
    mean = {
        (t, m): float(np.mean([r[key] for r in rows if r["task"] == t and r["method"] == m]))
        for t in tasks
        for m in methods
    }
    lines = [f"| {NAMES[key]}, by task | " + " | ".join(tasks) + " |", "|---" * (len(tasks) + 1) + "|"]
    lines += [f"| {m} | " + " | ".join(f"{mean[t, m] / mean[t, UNIFORM]:.3f}" for t in tasks) + " |" for m in methods]
    return "\n".join(lines)


def reached_table(rows: Sequence[Mapping[str, Any]], pooled: Sequence[str]) -> str:
    """Write how many searches of each method reached 95 % of the best F1, and the plain mean of each measure."""
    lines = ["| method, plain means | reached | " + " | ".join(NAMES.values()) + " |", "|---" * (len(NAMES) + 2) + "|"]
    for method in sorted({r["method"] for r in rows}):
        kept = [r for r in rows if r["method"] == method and r["task"] in pooled]
        means = [f"{np.mean([r[key] for r in kept]):.3g}" for key in NAMES]
        lines.append(f"| {method} | {np.mean([r['reached'] for r in kept]):.0%} | {' | '.join(means)} |")
    return "\n".join(lines)


def on_test(rows: Sequence[Mapping[str, Any]], path: Path) -> str:
    """Write the mean F1 on ``test`` of the pipelines that searches ended with, and the share for which it is known.

    Args:
        rows: One a search.
        path: JSON lines of ``task``, ``pipeline`` (canonical text) and ``test_f1``.
    """
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    known = {(line["task"], line["pipeline"]): line["test_f1"] for line in lines}
    tasks = sorted({line["task"] for line in lines})
    table = ["| F1 on test (share known) | " + " | ".join(tasks) + " |", "|---" * (len(tasks) + 1) + "|"]
    for method in sorted({r["method"] for r in rows}):
        cells = []
        for task in tasks:
            ended = [(task, r["incumbent"]) for r in rows if r["task"] == task and r["method"] == method]
            found = [known[end] for end in ended if end in known]
            cells.append(f"{np.mean(found):.3f} ({len(found) / len(ended):.0%})" if found else "")
        table.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(table)
