"""The report's figure: the first objective against the second, or best so far where there is one objective.

It is drawn on a canvas of its own, without a window system and without pyplot, so no state outlives the call.
Matplotlib is imported only when a figure is drawn: the import is slow, and most commands draw none.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xautolm_hpc.durable import write_bytes
from xautolm_hpc.failures import FailureOrigin
from xautolm_hpc.report.figure_data import FigureData, Mark, build_figure_data
from xautolm_hpc.report.quantities import QUANTITIES
from xautolm_hpc.report.safe_text import one_line, shortened
from xautolm_hpc.report.sections import totals_line

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.figure import Figure

WIDTH_PX, HEIGHT_PX, DPI = 1440, 930, 150
FRONT, DOMINATED, BASELINE = "#1b5e9b", "#a3a3a3", "#444444"
ORIGINS = {FailureOrigin.PIPELINE: ("#b3261e", "x"), FailureOrigin.INFRASTRUCTURE: ("#c77700", "|")}
STYLE: Mapping[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.usetex": False,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


def draw_pareto(summary: Mapping[str, Any], path: Path) -> None:
    """Draw the Pareto set, dominated trials, failures and the majority baseline.

    With one objective: its value by trial, and the best so far.

    Args:
        summary: Result of :func:`xautolm_hpc.report.summary.summarise`.
        path: PNG file to write, in one step.

    Raises:
        OSError: The file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    data = build_figure_data(summary)
    image = io.BytesIO()
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        main = _draw(figure, data)
        _name_axes(figure, summary, data=data)
        figure.draw_without_rendering()  # settles the layout for the labels
        figure.set_layout_engine("none")
        _label(main, data, renderer=canvas.get_renderer())  # type: ignore[no-untyped-call]
        canvas.print_png(image)  # type: ignore[no-untyped-call]
    write_bytes(path, image.getvalue())


def _draw(figure: Figure, data: FigureData) -> Axes:
    """Draw the trials above and any failures in a strip below; return the axes of the trials."""
    kinds = data.failure_kinds()
    heights = [10.0, 0.6 + 0.55 * len(kinds)] if kinds else [1.0]
    rows: list[Axes] = list(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0])
    main = rows[0]
    handles = _draw_trials(main, data)
    for strip in rows[1:]:
        handles += _draw_failures(strip, data, kinds=kinds)
    handles += _rejections(data)
    _scale(rows[-1], data)
    if handles:
        figure.legend(handles=handles, loc="outside right upper", alignment="left", labelspacing=0.9)
    return main


def _draw_trials(axes: Axes, data: FigureData) -> list[Artist]:
    """Draw front, other trials and baseline, or a text if there is no front; return the legend's entries."""
    handles: list[Artist] = []
    if data.step:
        xs, ys = zip(*data.step, strict=True)
        axes.plot(xs, ys, drawstyle="steps-post", color=FRONT, linewidth=1.4, alpha=0.7, zorder=2)
    if data.front:
        handles.append(_draw_front(axes, data))
    if data.dominated:
        label = f"{data.rest_name} ({len(data.dominated)})"
        xs, ys = zip(*((mark.x, mark.y) for mark in data.dominated), strict=True)
        handles.append(axes.scatter(xs, ys, s=22, color=DOMINATED, linewidths=0, zorder=1, label=label))
    if not data.front:
        axes.annotate(data.empty_reason, (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", fontsize=11)
    if data.majority_y is not None:
        label = f"majority baseline (F1 {data.majority_y:.3f})"
        handles.append(axes.axhline(data.majority_y, color=BASELINE, linestyle="--", linewidth=1.0, label=label))
    if data.majority_x is not None:
        label = f"majority baseline (F1 {data.majority_x:.3f})"
        handles.append(axes.axvline(data.majority_x, color=BASELINE, linestyle="--", linewidth=1.0, label=label))
    return handles


def _draw_front(axes: Axes, data: FigureData) -> Artist:
    """Draw the Pareto set; a third objective is its colour."""
    xs, ys = zip(*((mark.x, mark.y) for mark in data.front), strict=True)
    label = f"{data.front_name} ({len(data.front)})"
    if data.third is None:
        return axes.scatter(xs, ys, s=44, color=FRONT, edgecolors="white", linewidths=0.8, zorder=3, label=label)
    colours = [mark.third or 0.0 for mark in data.front]
    drawn = axes.scatter(xs, ys, s=52, c=colours, cmap="viridis", edgecolors="black", linewidths=0.7, zorder=3)
    bar = axes.figure.colorbar(drawn, ax=axes, location="top", shrink=0.5, aspect=40, pad=0.02, anchor=(1.0, 0.0))
    bar.set_label(f"{QUANTITIES[data.third].heading} of the Pareto set", fontsize=8)
    bar.outline.set_visible(False)
    return axes.scatter([], [], s=52, color=FRONT, edgecolors="black", linewidths=0.7, label=label)


def _draw_failures(axes: Axes, data: FigureData, *, kinds: Sequence[tuple[FailureOrigin, str]]) -> list[Artist]:
    """Draw each failed trial at the cost it had reached, one row per failure kind."""
    handles: dict[str, Artist] = {}
    for row, (origin, kind) in enumerate(kinds):
        marks = [mark for mark in data.failures if (mark.origin, mark.kind) == (origin, kind)]
        known = [mark.x for mark in marks if mark.x is not None]
        colour, marker = ORIGINS[origin]
        drawn = axes.scatter(known, [row] * len(known), marker=marker, color=colour, s=34, linewidths=1.3)
        if origin not in handles:
            n_failed = sum(mark.origin is origin for mark in data.failures)
            drawn.set_label(f"failed: {origin} ({n_failed})")
            handles[origin] = drawn
        if len(known) < len(marks):
            text = f"{len(marks) - len(known)} at unknown cost"
            place: Any = {"xycoords": ("axes fraction", "data"), "va": "center"}
            axes.annotate(text, (1.01, row), fontsize=7.5, color=colour, **place).set_in_layout(False)
    axes.set_yticks(range(len(kinds)), [kind for _, kind in kinds], fontsize=8)
    axes.set_ylim(len(kinds) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_title("failed trials", loc="left", fontsize=8, color=BASELINE, pad=2)
    return list(handles.values())


def _rejections(data: FigureData) -> list[Artist]:
    """Build legend entries for constraints that rejected pipelines; rejected pipelines have no point on the axes."""
    from matplotlib.lines import Line2D

    empty: Any = {"linestyle": "none", "marker": "s", "fillstyle": "none", "color": DOMINATED}
    return [Line2D([], [], label=f"rejected: {name} ({count:,})", **empty) for name, count in data.rejections]


def _name_axes(figure: Figure, summary: Mapping[str, Any], *, data: FigureData) -> None:
    main, bottom = figure.axes[0], figure.axes[1 if data.failures else 0]
    main.set_ylabel(data.y_label)
    bottom.set_xlabel(data.x_label)
    run = shortened(one_line(summary["run"]["name"]), 60)
    figure.suptitle(f"{run}: {data.title}", x=0.01, ha="left", fontsize=12, fontweight="bold")
    figure.supxlabel(totals_line(summary), x=0.01, ha="left", fontsize=8, color=BASELINE)


def _scale(axes: Axes, data: FigureData) -> None:
    """Choose the ticks of the horizontal axis: whole numbers for trials, 1-2-5 on a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    if data.spans_decades():
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif data.x_is_trial:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _label(axes: Axes, data: FigureData, *, renderer: RendererAgg) -> None:
    """Name the points of the front by trial number, model and method."""
    from xautolm_hpc.report.labels import place_labels

    points = [(mark.x, mark.y) for mark in data.labelled()]
    marks: list[Mark] = [*data.front, *data.dominated]
    texts, avoid = [mark.text for mark in data.labelled()], [(mark.x, mark.y) for mark in marks]
    place_labels(axes, points, texts=texts, avoid=(avoid, data.corners()), renderer=renderer)
