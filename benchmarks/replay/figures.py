"""The tables and the five kinds of figure of ``docs/evidence.md``, from a store and the parts that a replay wrote."""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.replay.__main__ import PARTS
from benchmarks.replay.search_methods import EVIDENCE, SHIPPED, UNIFORM
from benchmarks.replay.text import on_test, show
from benchmarks.replay.trials import TaskTable, build_space, build_tables
from xautolm_hpc.catalogue import load_catalogue
from xautolm_hpc.pareto import front_indices, oriented
from xautolm_hpc.priors import PriorSettings, distance_table, prior_content, task_distances
from xautolm_hpc.store import ExperienceStore
from xautolm_hpc.table import build_table

Floats = NDArray[np.float64]
Row = Mapping[str, Any]

SHOWN = (UNIFORM, "random", "xautolm high, beta 0.5", "nspe knn 25", "portfolio", EVIDENCE, SHIPPED)
KINDS = ("uniform", "xautolm", "knn", "evidence")
MOST_PANELS = 3


def draw_distances(names: Sequence[str], distances: Floats, *, path: Path) -> None:
    """Draw the task-distance matrix."""
    figure, axes = plt.subplots(figsize=(5, 4.5))
    image = axes.imshow(distances, cmap="viridis")
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    for (i, j), value in np.ndenumerate(distances):
        if np.isfinite(value):
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="white", fontsize=8)
    figure.colorbar(image, label="distance of the column's task, seen from the row's")
    _save(figure, path)


def draw_convergence(rows: Sequence[Row], path: Path) -> None:
    """Draw the best F1 so far over the trials, mean over seeds with a band of one standard deviation, by task."""
    names = sorted({row["task"] for row in rows})
    n_rows, n_columns = math.ceil(len(names) / MOST_PANELS), min(len(names), MOST_PANELS)
    figure, panels = plt.subplots(n_rows, n_columns, figsize=(3.6 * n_columns, 3.2 * n_rows), squeeze=False)
    for axes in panels.flat[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(panels.flat, names, strict=False):
        for method in [m for m in SHOWN if any(row["method"] == m for row in rows)]:
            curves = [row["curve"] for row in rows if row["task"] == name and row["method"] == method]
            length = min(map(len, curves))
            array = np.array([curve[:length] for curve in curves])
            mean, spread, x = array.mean(axis=0), array.std(axis=0), np.arange(1, length + 1)
            axes.plot(x, mean, label=method)
            axes.fill_between(x, mean - spread, mean + spread, alpha=0.15)
        axes.set(title=name, xlabel="trials", ylabel="best F1 so far")
    panels.flat[len(names) - 1].legend(fontsize=6)
    _save(figure, path)


def draw_fronts(tables: Mapping[str, TaskTable], path: Path) -> None:
    """Draw the Pareto front of every task's trials."""
    figure, axes = plt.subplots(figsize=(5, 4))
    for name, table in tables.items():
        known = ~np.isnan(table.f1)
        points = np.column_stack([table.f1[known], table.cost_s[known]])
        on_front = points[front_indices(oriented(points, ("f1", "evaluation_time_s"))) == 0]
        order = np.argsort(on_front[:, 1])
        axes.plot(on_front[order, 1], on_front[order, 0], marker="o", label=name)
    axes.set(xscale="log", xlabel="training and evaluation (s)", ylabel="F1")
    axes.legend(fontsize=7)
    _save(figure, path)


def above_uniform(rows: Sequence[Row]) -> dict[str, float]:
    """Compute the share of searches of each method that reach more hypervolume than the mean of NSPE uniform.

    Args:
        rows: Searches: task, method and hypervolume of each; NSPE uniform is among the methods.

    Returns:
        Method -> share in 0..1, the highest first, equal ones by name.
    """
    level = {
        name: float(np.mean([r["hypervolume"] for r in rows if r["task"] == name and r["method"] == UNIFORM]))
        for name in {row["task"] for row in rows}
    }
    shares = {
        method: float(np.mean([r["hypervolume"] > level[r["task"]] for r in rows if r["method"] == method]))
        for method in {row["method"] for row in rows}
    }
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


def plot_above_uniform(rows: Sequence[Row]) -> Figure:
    """Plot :func:`above_uniform`, the best method on top, with the share of NSPE uniform itself as reference."""
    shares = above_uniform(rows)
    figure, axes = plt.subplots(figsize=(7, 0.3 * len(shares) + 1.6))
    bars = axes.barh(
        list(shares), list(shares.values()), color=["#a3a3a3" if m == UNIFORM else "#1b5e9b" for m in shares]
    )
    axes.bar_label(bars, [f"{share:.2f}" for share in shares.values()], padding=3, fontsize=8)
    axes.axvline(shares[UNIFORM], color="#444444", linestyle="--", linewidth=1.0, label=f"{UNIFORM} itself")
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.08), xlabel=f"share of searches above the mean front of {UNIFORM}, by hypervolume")
    axes.set_title(f"Searches that beat the average search of {UNIFORM}", loc="left")
    axes.legend(loc="lower right", fontsize=8)
    return figure


def draw_priors(tables: Mapping[str, TaskTable], path: Path) -> None:
    """Draw p(model) and p(method) of each prior, on the first task of the most frequent kind."""
    kinds = [table.task.kind for table in tables.values()]
    kind = max(sorted(set(kinds)), key=kinds.count)
    alike = [name for name in sorted(tables) if tables[name].task.kind == kind]
    current, others = tables[alike[0]], [tables[name] for name in alike[1:]]
    space = build_space([current, *others])
    past = build_table([e for table in others for group in table.experiences for e in group])
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2))
    for offset, name in enumerate(KINDS):
        content = prior_content(past, space, task=current.task, system=current.system,
                                settings=PriorSettings(kind=name), models=load_catalogue())  # fmt: skip
        for axes, group in zip(panels, ("models", "methods"), strict=True):
            p = [member["prior"] for member in content[group].values()]
            axes.bar(np.arange(len(p)) + offset * 0.2, p, width=0.2, label=name)
            axes.set_xticks(np.arange(len(p)) + 0.3, list(content[group]), rotation=30)
            axes.set(title=f"{alike[0]}: p({group[:-1]})")
    panels[0].legend(fontsize=7)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=120, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """Write all tables and draw all figures."""
    parser = argparse.ArgumentParser(description="Write the tables and draw the figures of docs/evidence.md.")
    parser.add_argument("store", type=Path)
    parser.add_argument("replays", type=Path, help="folder that the replay wrote its parts to")
    parser.add_argument("folder", type=Path, help="folder to write to")
    parser.add_argument("--tests", type=Path, metavar="FILE", help="F1 of pipelines on test, as JSON lines")
    given = parser.parse_args(argv)
    given.folder.mkdir(parents=True, exist_ok=True)
    parts = {part: given.replays / f"{part}.json" for part in PARTS}
    found = {part: json.loads(path.read_text()) for part, path in parts.items() if path.exists()}
    experiences = list(ExperienceStore(given.store).read())
    tables, rows = build_tables(experiences), found["one"]["rows"]
    names, distances = task_distances(experiences)
    written = [show(part, content) for part, content in found.items()]
    written += [on_test(rows, given.tests)] if given.tests else []
    written.append("Distances of the tasks:\n\n" + distance_table(names, distances))
    (given.folder / "tables.md").write_text("\n\n".join(written) + "\n")
    draw_convergence(rows, given.folder / "convergence.png")
    draw_fronts(tables, given.folder / "fronts.png")
    _save(plot_above_uniform(rows), given.folder / "above-uniform.png")
    draw_distances(names, distances, path=given.folder / "distances.png")
    draw_priors(tables, given.folder / "priors.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
