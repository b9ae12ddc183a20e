"""The charts of the page, as SVG: drawn from the numbers of the figures, without a library and without a script."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xautolm_hpc.report.figure_numbers import axis_place
from xautolm_hpc.report.page.elements import Markup, tag
from xautolm_hpc.report.page.scales import Scale, make_scale, tick_text
from xautolm_hpc.report.quantities import value_text
from xautolm_hpc.report.safe_text import shortened

Numbers = Mapping[str, Any]

WIDTH, HEIGHT = 720.0, 380.0
LEFT, RIGHT, TOP, BOTTOM = 92.0, 16.0, 18.0, 46.0
FAILURE_ROW, CROSS = 14.0, 8.0
"""Height of the row of failures of one kind, and room of one failure in it, in pixels."""

MOST_LANES = 6
"""Lanes of a row at most: failures at one cost stand one below the other, and on each other only if they are more."""

N_COLOURED = 6
"""Curves with a colour of their own, the best ones."""

LONGEST_LABEL = 16


def draw_chart(name: str, numbers: Numbers) -> Markup:
    """Draw a figure of the page.

    Args:
        name: One of :data:`xautolm_hpc.report.figure_numbers.FIGURES`.
        numbers: Its numbers.
    """
    return CHARTS[name](numbers)


def _pareto(numbers: Numbers) -> Markup:
    """Draw the Pareto set with its trial numbers, the other trials, the line and a row for each kind of failure."""
    points, failures = numbers["points"], numbers["failures"]
    bottom = HEIGHT - BOTTOM - 3 * FAILURE_ROW
    xs = [point["x"] for point in points] + [f["x"] for f in failures if f["x"] is not None]
    x = make_scale(
        [*xs, *_known(numbers["majority"]["x"])],
        LEFT,
        end_px=WIDTH - RIGHT,
        is_log=numbers["is_log"],
        is_count=numbers["x_is_count"],
    )
    y = make_scale([p["y"] for p in points] + _known(numbers["majority"]["y"]), bottom, end_px=TOP)
    rows, crosses, floor = _failure_rows(failures, x, top=bottom)
    drawn = [
        _frame(x, y, numbers=numbers, floor=floor),
        _baseline(x, y, numbers=numbers),
        _line(numbers["line"], x, y=y),
        *(_dot(point, x, y=y, css=point["group"]) for point in sorted(points, key=lambda p: p["group"] == "front")),
        *_trial_numbers([p for p in points if p["group"] == "front"], x, y=y),
        *crosses,
        *(
            tag("text", shortened(kind, LONGEST_LABEL), x=LEFT - 6, y=row + 3, class_="kind")
            for kind, row in rows.items()
        ),
    ]
    return _svg(numbers["title"], drawn, height=floor + BOTTOM, summary=_counted(points, "trial"))


def _best(numbers: Numbers) -> Markup:
    """Draw the first objective of each trial and the best so far against time."""
    points = numbers["points"]
    x = make_scale([0.0, *(corner[0] for corner in numbers["line"])], LEFT, end_px=WIDTH - RIGHT)
    y = make_scale([p["y"] for p in points] + _known(numbers["majority"]["y"]), HEIGHT - BOTTOM, end_px=TOP)
    drawn = [
        _frame(x, y, numbers=numbers, floor=HEIGHT - BOTTOM),
        _baseline(x, y, numbers=numbers),
        _line(numbers["line"], x, y=y),
        *(_dot(point, x, y=y, css="front" if point["is_best"] else "dominated") for point in points),
        *_trial_numbers([point for point in points if point["is_best"]], x, y=y),
    ]
    return _svg(numbers["title"], drawn, summary=_counted(points, "trial"))


def _curves(numbers: Numbers) -> Markup:
    """Draw a line for each trial, the best ones in colour; one of a single evaluation is a dot with its number."""
    curves = numbers["curves"]
    xs = [0.0, *(v for curve in curves for v in curve["x"])]
    x = make_scale(xs, LEFT, end_px=WIDTH - RIGHT, is_count=numbers["x_is_count"])
    y = make_scale([v for curve in curves for v in curve["y"]], HEIGHT - BOTTOM, end_px=TOP)
    lines = [
        _curve(curve, x, y=y, css=f"s{place}" if place < N_COLOURED else "rest") for place, curve in enumerate(curves)
    ]
    dots = [{"trial": c["trial"], "x": c["x"][0], "y": c["y"][0]} for c in curves if len(c["y"]) == 1]
    drawn = [
        _frame(x, y, numbers=numbers, floor=HEIGHT - BOTTOM),
        *reversed(lines),
        *_trial_numbers(dots, x, y=y),
    ]
    return _svg(numbers["title"], drawn, summary=_counted(curves, "trial"))


def _curve(curve: Numbers, x: Scale, *, y: Scale, css: str) -> Markup:
    corners = list(zip(curve["x"], curve["y"], strict=True))
    path = _path(corners, x, y=y)
    title = tag("title", f"trial {curve['trial']}: {curve['name']}; best {max(curve['y']):.4f}; {curve['end']}")
    marks = [tag("circle", cx=x.place(a), cy=y.place(b), r=4) for a, b in (corners if len(corners) == 1 else ())]
    numbers = {"data_x": " ".join(map(repr, curve["x"])), "data_y": " ".join(map(repr, curve["y"]))}
    return tag("g", title, path, *marks, class_=f"curve {css}", data_trial=curve["trial"], **numbers)


def _parallel(numbers: Numbers) -> Markup:
    """Draw an axis for each hyperparameter and a line for each trial; the higher the F1, the stronger the line."""
    axes, lines = numbers["axes"], numbers["lines"]
    width = max(WIDTH, 96.0 * len(axes))
    places = [LEFT + n * (width - 2 * LEFT) / (len(axes) - 1) for n in range(len(axes))]
    scale = Scale(low=0.0, high=1.0, start_px=HEIGHT - BOTTOM, end_px=TOP + 24)
    ranked = sorted(lines, key=lambda line: float(line["values"][-1]))
    drawn = [
        *(
            _parallel_line(line, axes, places=places, scale=scale, css=_strength(rank, len(ranked)))
            for rank, line in enumerate(ranked)
        ),
        *(
            _parallel_axis(axis, place, scale=scale, is_odd=n % 2 == 1)
            for n, (axis, place) in enumerate(zip(axes, places, strict=True))
        ),
    ]
    return _svg(numbers["title"], drawn, width=width, summary=_counted(lines, "trial"))


def _strength(rank: int, n: int) -> str:
    """Name the class of a line: the best tenth, the better half, the rest."""
    share = (rank + 1) / n
    return "best" if share > 0.9 else "better" if share > 0.5 else "rest"


def _parallel_line(
    line: Numbers, axes: Sequence[Numbers], *, places: Sequence[float], scale: Scale, css: str
) -> Markup:
    """Draw the line of a trial; it is broken where the trial does not have a hyperparameter."""
    words: list[str] = []
    move = "M"
    for axis, value, place in zip(axes, line["values"], places, strict=True):
        share = axis_place(axis, value)
        if share is None:
            move = "M"
            continue
        words.append(f"{move}{round(place, 1)} {scale.place(share)}")
        move = "L"
    title = tag("title", f"trial {line['trial']}: {line['name']}; F1 {line['values'][-1]:.4f}")
    return tag("g", title, tag("path", d="".join(words)), class_=f"curve {css}", data_trial=line["trial"])


def _parallel_axis(axis: Numbers, place: float, *, scale: Scale, is_odd: bool) -> Markup:
    """Draw an axis with its name and its ends, or its categories."""
    top = TOP + (0 if is_odd else 12)
    if "categories" in axis:
        shown = [(axis_place(axis, category), category) for category in axis["categories"]]
        shown = shown if len(shown) <= 10 else [shown[0], shown[-1]]
    else:
        shown = [(0.0, value_text(float(f"{axis['low']:.4g}"))), (1.0, value_text(float(f"{axis['high']:.4g}")))]
    return tag(
        "g",
        tag("line", x1=place, x2=place, y1=scale.start_px, y2=scale.end_px),
        tag("text", axis["name"], x=place, y=top, class_="label middle"),
        *(
            tag("text", shortened(text, LONGEST_LABEL), x=place + 4, y=scale.place(share or 0.0) + 3, class_="tick")
            for share, text in shown
        ),
        class_="axis",
    )


def _importance(numbers: Numbers) -> Markup:
    """Draw a bar for each hyperparameter."""
    bars, row = numbers["bars"], 24.0
    height = row * len(bars) + 12
    left = 190.0
    x = Scale(low=0.0, high=max(bar["share"] for bar in bars), start_px=left, end_px=WIDTH - 70)
    drawn = []
    for place, bar in enumerate(bars):
        top, end = place * row + 6, x.place(bar["share"])
        drawn += [
            tag("text", shortened(bar["name"], 26), x=left - 8, y=top + 13, class_="end"),
            tag(
                "rect",
                x=left,
                y=top,
                width=round(end - left, 1),
                height=row - 8,
                class_="bar",
                data_x=repr(bar["share"]),
            ),
            tag("text", f"{bar['share']:.1%}", x=end + 6, y=top + 13),
        ]
    return _svg(numbers["title"], drawn, height=height, summary=_counted(bars, "hyperparameter"))


CHARTS: Mapping[str, Callable[[Numbers], Markup]] = {
    "pareto": _pareto,
    "best": _best,
    "curves": _curves,
    "parallel": _parallel,
    "importance": _importance,
}


def _svg(title: str, drawn: Sequence[Markup], *, summary: str, width: float = WIDTH, height: float = HEIGHT) -> Markup:
    """Wrap a chart: to a screen reader it is one picture with a name; the tables of the page hold its numbers."""
    return tag(
        "svg", *drawn, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=f"{title}: {summary}",
        class_="wide" if width > WIDTH else None,
    )  # fmt: skip


def _counted(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _known(value: float | None) -> list[float]:
    return [] if value is None else [value]


def _frame(x: Scale, y: Scale, *, numbers: Numbers, floor: float) -> Markup:
    """Draw both axes with their grid, ticks and labels."""
    right, middle = x.end_px, (y.start_px + y.end_px) / 2
    grid = [tag("line", x1=LEFT, x2=right, y1=y.place(v), y2=y.place(v)) for v in y.ticks()]
    grid += [tag("line", x1=x.place(v), x2=x.place(v), y1=floor, y2=y.end_px) for v in x.ticks()]
    texts = [tag("text", tick_text(v), x=LEFT - 6, y=y.place(v) + 4, class_="tick end") for v in y.ticks()]
    texts += [tag("text", tick_text(v), x=x.place(v), y=floor + 16, class_="tick middle") for v in x.ticks()]
    labels = [
        tag("text", numbers["x_label"], x=(LEFT + right) / 2, y=floor + 36, class_="label middle"),
        tag(
            "text",
            numbers["y_label"],
            x=0,
            y=0,
            class_="label middle",
            transform=f"translate(14 {middle:g}) rotate(-90)",
        ),
    ]
    return tag("g", tag("g", *grid, class_="grid"), *texts, *labels)


def _baseline(x: Scale, y: Scale, *, numbers: Numbers) -> Markup:
    """Draw the majority baseline, where it lies on an axis."""
    at = numbers["majority"]
    if at["y"] is not None:
        return _dashed(x.start_px, x.end_px, y=(y.place(at["y"]), y.place(at["y"])), f1=at["y"])
    if at["x"] is not None:
        return _dashed(x.place(at["x"]), x.place(at["x"]), y=(y.start_px, y.end_px), f1=at["x"])
    return Markup()


def _dashed(x1: float, x2: float, *, y: tuple[float, float], f1: float) -> Markup:
    title = tag("title", f"majority baseline: F1 {f1:.4f}")
    return tag("g", title, tag("line", x1=x1, x2=x2, y1=y[0], y2=y[1], class_="baseline"))


def _line(corners: Sequence[Sequence[float]], x: Scale, *, y: Scale) -> Markup:
    return tag("g", _path(corners, x, y=y), class_="so-far") if len(corners) > 1 else Markup()


def _path(corners: Sequence[Sequence[float]], x: Scale, *, y: Scale) -> Markup:
    return tag("path", d="M" + "L".join(f"{x.place(a)} {y.place(b)}" for a, b in corners))


def _dot(point: Numbers, x: Scale, *, y: Scale, css: str) -> Markup:
    """Draw a trial; the exact numbers go along."""
    title = tag("title", f"trial {point['trial']}: {point['name']}; {point['y']:.6g} at {point['x']:.6g}")
    return tag(
        "circle", title, cx=x.place(point["x"]), cy=y.place(point["y"]), r=5 if css == "front" else 3.5, class_=css,
        data_trial=point["trial"], data_x=repr(point["x"]), data_y=repr(point["y"]),
    )  # fmt: skip


def _trial_numbers(points: Sequence[Numbers], x: Scale, *, y: Scale) -> list[Markup]:
    """Write trial numbers beside their points; one that would cover another is left out: the tables have all."""
    taken = [(x.place(point["x"]), y.place(point["y"])) for point in points]
    drawn = []
    for point in points:
        at = (x.place(point["x"]), y.place(point["y"]))
        width = 7.0 * len(str(point["trial"]))
        for side, down in ((1, -6), (-1, -6), (1, 15), (-1, 15)):
            middle = (at[0] + side * (8 + width / 2), at[1] + down - 4)
            is_inside = middle[0] - width / 2 > LEFT and middle[0] + width / 2 < WIDTH - 4
            if is_inside and not any(abs(middle[0] - a) < width / 2 + 6 and abs(middle[1] - b) < 10 for a, b in taken):
                taken += [(middle[0] + part * width / 3, middle[1]) for part in (-1, 0, 1)]
                css = "trial" if side > 0 else "trial end"
                drawn.append(tag("text", str(point["trial"]), x=at[0] + side * 8, y=at[1] + down, class_=css))
                break
    return drawn


def _failure_rows(failures: Sequence[Numbers], x: Scale, *, top: float) -> tuple[dict[str, float], list[Markup], float]:
    """Draw failed trials in a row for each kind, in as many lanes as keep them apart.

    Returns:
        Kind -> pixel of its row's first lane, the marks, and the pixel below the last row.
    """
    rows: dict[str, float] = {}
    drawn = []
    for kind in dict.fromkeys(failure["kind"] for failure in failures):
        rows[kind] = top + 0.7 * FAILURE_ROW
        ends: list[float] = []  # where each lane is taken up to
        for at, failure in sorted(
            ((_failure_place(f, x), f) for f in failures if f["kind"] == kind), key=lambda entry: entry[0]
        ):
            free = [lane for lane, end in enumerate(ends) if at - end >= CROSS]
            if not free and len(ends) < MOST_LANES:
                ends.append(at)
                free = [len(ends) - 1]
            lane = free[0] if free else ends.index(min(ends))
            ends[lane] = at
            drawn.append(_failure(failure, at, row=rows[kind] + CROSS * lane))
        top += FAILURE_ROW + CROSS * (len(ends) - 1)
    return rows, drawn, top


def _failure_place(failure: Numbers, x: Scale) -> float:
    """Compute the pixel of the cost that a failed trial had reached; the left end where that is unknown."""
    return x.start_px if failure["x"] is None else x.place(failure["x"])


def _failure(failure: Numbers, at: float, *, row: float) -> Markup:
    cost = "at unknown cost" if failure["x"] is None else f"at {failure['x']:.6g}"
    return tag(
        "path", tag("title", f"trial {failure['trial']}: {failure['kind']}, {cost}"),
        d=f"M{at - 3:.1f} {row - 3:.1f}l6 6m0 -6l-6 6", class_=f"failed {failure['origin']}",
        data_trial=failure["trial"], data_x=None if failure["x"] is None else repr(failure["x"]),
    )  # fmt: skip
