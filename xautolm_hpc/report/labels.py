"""Placement of labels in a figure, so that no label covers a point, the line or another label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

RADII_PT = (9.0, 17.0, 27.0, 40.0, 56.0, 74.0)
N_DIRECTIONS = 12
MARK_PX, LINE_PX = 7.0, 4.0
"""Half the width kept free around a point and along the line, in pixels."""

OUTSIDE_COST, LABEL_COST, MARK_COST = 20.0, 5.0, 2.0
"""Cost of a square pixel of a label outside the axes, on another label, and on a point or the line."""

DISTANCE_COST = 6.0
"""Cost of one typographic point of distance between a label and its point."""

Point = tuple[float, float]

CORNERS: tuple[Point, ...] = ((-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0))
"""Offsets at which a label is measured, one for each side it is aligned to; elsewhere it is as large."""


def place_labels(
    axes: Axes,
    points: Sequence[Point],
    *,
    texts: Sequence[str],
    avoid: tuple[Sequence[Point], Sequence[Point]],
    renderer: RendererAgg,
) -> None:
    """Write a text beside each point, with a thin line to it; the layout of the figure must be final.

    Args:
        axes: Axes with all points drawn.
        points: Points to label, in data coordinates.
        texts: One text per point.
        avoid: All points, and the corners of the line, that no text should cover, in data coordinates.
        renderer: Renderer of the figure.
    """
    marks, corners = ([_pixel(axes, point) for point in part] for part in avoid)
    on_line = [spot for start, end in pairwise(corners) for spot in _spots(start, end)]
    boxes = [_box_around(mark, MARK_PX) for mark in marks] + [_box_around(spot, LINE_PX) for spot in on_line]
    extents = np.array([box.extents for box in boxes]).reshape(-1, 4).T  # (4, n_boxes)
    placed: list[Bbox] = []
    for point, text in zip(points, texts, strict=True):
        placed.append(_place(axes, point, text=text, renderer=renderer, obstacles=(extents, placed)))


def _place(
    axes: Axes, point: Point, *, text: str, renderer: RendererAgg, obstacles: tuple[NDArray[np.float64], list[Bbox]]
) -> Bbox:
    """Write one label where its cost is least; return the box it fills, in pixels."""
    label = axes.annotate(
        text,
        point,
        xytext=(0, 0),
        textcoords="offset points",
        fontsize=7.5,
        zorder=5,
        arrowprops={"arrowstyle": "-", "color": "#7a7a7a", "linewidth": 0.6, "shrinkA": 1, "shrinkB": 4},
        bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
    )
    label.set_in_layout(False)
    marks, labels = obstacles
    costs = []
    boxes = {corner: _move(label, corner, renderer=renderer) for corner in CORNERS}
    px_per_pt = renderer.points_to_pixels(1.0)  # type: ignore[no-untyped-call]
    for number, offset in enumerate(_offsets()):
        corner = (math.copysign(1.0, offset[0]), math.copysign(1.0, offset[1]))
        box = boxes[corner].translated(*(px_per_pt * (a - b) for a, b in zip(offset, corner, strict=True)))
        cost = OUTSIDE_COST * (_area(box) - _overlap(box, axes.bbox)) + DISTANCE_COST * math.hypot(*offset)
        cost += LABEL_COST * sum(_overlap(box, other) for other in labels)
        cost += MARK_COST * _overlaps(box, marks)
        costs.append((cost, number, offset))
    return _move(label, min(costs)[2], renderer=renderer)


def _pixel(axes: Axes, point: Point) -> Point:
    x, y = axes.transData.transform(point)
    return float(x), float(y)


def _spots(start: Point, end: Point) -> list[Point]:
    """List pixels along a straight line, close enough that boxes around them touch."""
    (x0, y0), (x1, y1) = start, end
    n = 1 + int(math.hypot(x1 - x0, y1 - y0) / (2 * LINE_PX))
    return [(x0 + (x1 - x0) * i / n, y0 + (y1 - y0) * i / n) for i in range(n)]


def _box_around(pixel: Point, half_px: float) -> Bbox:
    from matplotlib.transforms import Bbox

    return Bbox.from_bounds(pixel[0] - half_px, pixel[1] - half_px, 2 * half_px, 2 * half_px)


def _offsets() -> list[Point]:
    angles = [2 * math.pi * (i + 0.5) / N_DIRECTIONS for i in range(N_DIRECTIONS)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for radius in RADII_PT for angle in angles]


def _move(label: Annotation, offset: Point, *, renderer: RendererAgg) -> Bbox:
    from matplotlib.text import Text

    label.set_position(offset)
    label.set_horizontalalignment("left" if offset[0] >= 0 else "right")
    label.set_verticalalignment("bottom" if offset[1] >= 0 else "top")
    label.update_positions(renderer)
    return Text.get_window_extent(label, renderer)  # the text alone, without the line to the point


def _overlap(box: Bbox, other: Bbox) -> float:
    width = min(box.x1, other.x1) - max(box.x0, other.x0)
    height = min(box.y1, other.y1) - max(box.y0, other.y0)
    return float(max(width, 0.0) * max(height, 0.0))


def _overlaps(box: Bbox, extents: NDArray[np.float64]) -> float:
    """Sum the overlaps of a box with others, given as (x0, y0, x1, y1) by (n_boxes)."""
    x0, y0, x1, y1 = extents
    widths = np.minimum(box.x1, x1) - np.maximum(box.x0, x0)
    heights = np.minimum(box.y1, y1) - np.maximum(box.y0, y0)
    return float((widths.clip(0) * heights.clip(0)).sum())


def _area(box: Bbox) -> float:
    return float(box.width * box.height)
