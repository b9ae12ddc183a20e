"""The figure of the learning curves: F1 on ``dev`` against seconds of training, or epochs where times are unknown."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xautolm_hpc.durable import write_bytes
from xautolm_hpc.failures import OutcomeStatus
from xautolm_hpc.report.curves import Curve, find_curves
from xautolm_hpc.report.figure import BASELINE, DOMINATED, DPI, HEIGHT_PX, STYLE, WIDTH_PX
from xautolm_hpc.report.safe_text import one_line, shortened

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

N_NAMED = 6
"""Curves with a colour and a name; the others are grey."""

LONGEST_NAME = 48


def draw_curves(summary: Mapping[str, Any], path: Path) -> bool:
    """Draw the learning curves of all trials; the end of one that failed is marked by a cross.

    Args:
        summary: Result of :func:`xautolm_hpc.report.summary.summarise`.
        path: PNG file to write, in one step.

    Returns:
        Whether there was a curve to draw; without one there is no such file afterwards.

    Raises:
        OSError: The file cannot be written.
    """
    curves = find_curves(summary)
    if not curves:
        path.unlink(missing_ok=True)
        return False
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    image = io.BytesIO()
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots()
        handles = _draw(axes, curves)
        axes.set_title(f"Learning curves of {one_line(summary['run']['name'])}", loc="left", fontsize=10)
        figure.legend(handles=handles, loc="outside lower left", ncols=2)
        canvas.print_png(image)  # type: ignore[no-untyped-call]
    write_bytes(path, image.getvalue())
    return True


def _draw(axes: Axes, curves: Sequence[Curve]) -> list[Artist]:
    """Draw the curves, the best on top; return the legend's entries."""
    has_times = all(curve.seconds is not None for curve in curves)
    handles: list[Artist] = []
    for place, curve in enumerate(curves):
        xs = list(curve.seconds) if has_times and curve.seconds is not None else list(range(1, len(curve.f1) + 1))
        is_named = place < N_NAMED
        colour, width = (f"C{place}", 1.6) if is_named else (DOMINATED, 0.8)
        name = shortened(one_line(f"trial {curve.trial}: {curve.name}"), LONGEST_NAME)
        (line,) = axes.plot(
            xs, curve.f1, marker=".", markersize=4, color=colour, linewidth=width, zorder=3 - place / len(curves),
            label=name,
        )  # fmt: skip
        if is_named:
            handles.append(line)
        if has_failed(curve):
            axes.plot(xs[-1:], curve.f1[-1:], marker="x", color=colour, markersize=7, linestyle="")
    if len(curves) > N_NAMED:
        label = f"other trials ({len(curves) - N_NAMED})"
        handles += axes.plot([], [], color=DOMINATED, linewidth=0.8, label=label)
    if any(map(has_failed, curves)):
        handles += axes.plot([], [], marker="x", color=BASELINE, linestyle="", label="ended by a failure")
    axes.set_xlabel("seconds of training" if has_times else "epochs")
    axes.set_ylabel("F1 on dev")
    return handles


def has_failed(curve: Curve) -> bool:
    """Check whether a failure ended a trial."""
    return curve.end not in (OutcomeStatus.SUCCEEDED, OutcomeStatus.STOPPED)
