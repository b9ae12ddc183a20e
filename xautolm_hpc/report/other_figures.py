"""The pictures of the best so far against time, of hyperparameters side by side, and of their importance."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xautolm_hpc.durable import write_bytes
from xautolm_hpc.report.figure import BASELINE, DOMINATED, DPI, FRONT, HEIGHT_PX, STYLE, WIDTH_PX
from xautolm_hpc.report.figure_numbers import axis_place
from xautolm_hpc.report.quantities import value_text
from xautolm_hpc.report.safe_text import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Numbers = Mapping[str, Any]

BEST = "#c2410c"
"""Colour of the best tenth of the trials."""


def draw_others(numbers: Mapping[str, Numbers], folder: Path) -> None:
    """Draw ``best.png``, ``parallel.png`` and ``importance.png``, each in one step; one without numbers is removed.

    Args:
        numbers: Result of :func:`xautolm_hpc.report.figure_numbers.figure_numbers`.
        folder: Folder of the pictures.

    Raises:
        OSError: A file cannot be written.
    """
    for name, draw in (("best", _best), ("parallel", _parallel), ("importance", _importance)):
        path = folder / f"{name}.png"
        if name in numbers:
            write_bytes(path, _picture(numbers[name], draw), flush=False)
        else:
            path.unlink(missing_ok=True)


def _picture(numbers: Numbers, draw: Callable[[Axes, Numbers], None]) -> bytes:
    """Draw one figure as PNG."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    image = io.BytesIO()
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.set_title(numbers["title"], loc="left", fontsize=10)
        draw(axes, numbers)
        canvas.print_png(image)  # type: ignore[no-untyped-call]
    return image.getvalue()


def _best(axes: Axes, numbers: Numbers) -> None:
    """Draw each trial at its end, and the best so far."""
    for is_best, colour in ((False, DOMINATED), (True, FRONT)):
        points = [point for point in numbers["points"] if point["is_best"] is is_best]
        label = f"{'best so far' if is_best else 'other trials'} ({len(points)})"
        axes.scatter([p["x"] for p in points], [p["y"] for p in points], s=28, color=colour, label=label, zorder=3)
    xs, ys = zip(*numbers["line"], strict=True)
    axes.plot(xs, ys, color=FRONT, linewidth=1.4, alpha=0.7)
    if numbers["majority"]["y"] is not None:
        axes.axhline(numbers["majority"]["y"], color=BASELINE, linestyle="--", linewidth=1.0, label="majority baseline")
    axes.set_xlabel(numbers["x_label"])
    axes.set_ylabel(numbers["y_label"])
    axes.legend(loc="best")


def _parallel(axes: Axes, numbers: Numbers) -> None:
    """Draw a line for each trial through the axes of its hyperparameters, the best tenth by F1 on top."""
    ranked = sorted(numbers["lines"], key=lambda line: float(line["values"][-1]))
    for rank, line in enumerate(ranked):
        is_best = (rank + 1) / len(ranked) > 0.9
        places = [axis_place(axis, value) for axis, value in zip(numbers["axes"], line["values"], strict=True)]
        ys = [float("nan") if place is None else place for place in places]
        axes.plot(range(len(ys)), ys, color=BEST if is_best else DOMINATED, linewidth=1.4 if is_best else 0.6)
    axes.set_xticks(
        range(len(numbers["axes"])), [_axis_text(axis) for axis in numbers["axes"]], rotation=60, ha="right"
    )
    axes.set_yticks([0, 1], ["lowest", "highest"])


def _axis_text(axis: Numbers) -> str:
    """Write the name of an axis and its ends."""
    if "categories" in axis:
        ends = [axis["categories"][0], axis["categories"][-1]]
    else:
        ends = [value_text(float(f"{axis[end]:.3g}")) for end in ("low", "high")]
    return f"{shortened(axis['name'], 24)}\n{shortened(ends[0], 14)} … {shortened(ends[1], 14)}"


def _importance(axes: Axes, numbers: Numbers) -> None:
    """Draw a bar for each hyperparameter, the greatest share on top."""
    bars = numbers["bars"][::-1]
    axes.barh([shortened(bar["name"], 32) for bar in bars], [bar["share"] for bar in bars], color=FRONT)
    axes.set_xlabel(f"Share of the importance (forest over {numbers['trials']} trials, R² {numbers['r2']:.2f})")
