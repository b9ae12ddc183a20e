"""The figure: what it shows, and that it is a picture."""

import io
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from tests.report.facts import facts, failure, success
from tests.report.whole_run import whole_run
from xautolm_hpc.records import Experience
from xautolm_hpc.report.figure import HEIGHT_PX, WIDTH_PX, draw_pareto
from xautolm_hpc.report.figure_data import MAX_LABELS, FigureData, build_figure_data
from xautolm_hpc.report.labels import place_labels
from xautolm_hpc.report.summary import summarise


def _figure_data(trials: list[Experience], **fields: Any) -> FigureData:
    return build_figure_data(summarise(facts(trials, **fields)))


def _image(folder: Path, trials: list[Experience], **fields: Any) -> bytes:
    path = folder / "pareto.png"
    draw_pareto(summarise(facts(trials, **fields)), path)
    return path.read_bytes()


def test_the_line_joins_the_front_and_reaches_the_dearest_trial() -> None:
    trials = [
        success(0, f1=0.5, evaluation_time_s=10.0),
        success(1, f1=0.8, evaluation_time_s=40.0),
        success(2, f1=0.6, evaluation_time_s=90.0),
    ]

    data = _figure_data(trials)

    assert data.step == ((10.0, 0.5), (40.0, 0.8), (90.0, 0.8))
    assert data.corners() == [(10.0, 0.5), (40.0, 0.5), (40.0, 0.8), (90.0, 0.8), (90.0, 0.8)]


def test_the_line_of_costs_runs_towards_f1_that_is_worse() -> None:
    trials = [success(0, f1=0.5, evaluation_time_s=10.0), success(1, f1=0.8, evaluation_time_s=40.0)]

    data = _figure_data(trials, objectives=("evaluation_time_s", "f1"))

    assert data.step == ((0.8, 40.0), (0.5, 10.0))
    assert (data.majority_x, data.majority_y) == (0.2, None)


def test_costs_are_in_the_unit_of_their_axis() -> None:
    trials = [success(0, f1=0.5, gpu_energy_j=2500.0, peak_gpu_memory_bytes=3 * 1024**3)]

    data = _figure_data(trials, objectives=("f1", "gpu_energy_j", "peak_gpu_memory_bytes"))

    assert (data.front[0].x, data.front[0].third) == (2.5, 3.0)
    assert data.x_label == "GPU energy (kJ), lower is better"


def test_one_objective_is_shown_as_best_so_far_over_all_trials() -> None:
    trials = [success(0, f1=0.5), success(1, f1=0.5), success(2, f1=0.7), failure(3, "gpu_oom")]

    data = _figure_data(trials, objectives=("f1",))

    assert [(mark.x, mark.y) for mark in data.front] == [(0.0, 0.5), (2.0, 0.7)]
    assert [(mark.x, mark.y) for mark in data.dominated] == [(1.0, 0.5)]
    assert data.step == ((0.0, 0.5), (2.0, 0.7), (3.0, 0.7))
    assert [failed.x for failed in data.failures] == [3.0]


def test_failures_stand_at_the_cost_they_had_reached_pipeline_first() -> None:
    trials = [
        failure(0, "lost"),
        failure(1, "gpu_oom", train_s=12.0),
        failure(2, "time_limit", evaluation_time_s=60.0),
        failure(3, "time_limit"),
    ]

    data = _figure_data(trials)

    assert data.failure_kinds() == [
        ("pipeline", "time_limit"),
        ("pipeline", "gpu_oom"),
        ("infrastructure", "lost"),
    ]
    assert [failed.x for failed in data.failures] == [None, 12.0, 60.0, None]


def test_a_long_front_is_named_at_both_ends_and_between() -> None:
    trials = [success(n, f1=0.01 * n, evaluation_time_s=float(n + 1)) for n in range(30)]

    named = _figure_data(trials).labelled()

    assert len(named) == MAX_LABELS
    assert (named[0].x, named[-1].x) == (1.0, 30.0)


def test_a_label_names_its_trial() -> None:
    trials = [success(7, f1=0.5, evaluation_time_s=1.0), success(12, f1=0.6, evaluation_time_s=2.0)]

    assert {mark.text for mark in _figure_data(trials).labelled()} == {
        "7: distilbert-base-uncased, full",
        "12: distilbert-base-uncased, full",
    }


@pytest.mark.parametrize(("cheapest_s", "is_log"), [(5.0, False), (4.9, True), (0.0, False)])
def test_costs_that_span_decades_are_drawn_on_a_logarithmic_axis(cheapest_s: float, is_log: bool) -> None:
    trials = [success(0, f1=0.5, evaluation_time_s=cheapest_s), success(1, f1=0.8, evaluation_time_s=100.0)]

    assert _figure_data(trials).spans_decades() is is_log


def test_names_in_a_crowd_neither_cover_one_another_nor_leave_the_axes() -> None:
    figure = Figure(figsize=(8, 5), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    points = [*((1.0 + 0.02 * i, 0.5 + 0.02 * i) for i in range(6)), (0.01, 0.99), (1.99, 0.01)]
    axes.scatter(*zip(*points, strict=True))
    axes.set(xlim=(0.0, 2.0), ylim=(0.0, 1.0))
    canvas.draw()  # type: ignore[no-untyped-call]
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]

    place_labels(axes, points, texts=["roberta-base, lora"] * 8, avoid=(points, points), renderer=renderer)

    labels = [text for text in axes.texts if isinstance(text, Annotation)]
    boxes = [Text.get_window_extent(label, renderer) for label in labels]  # without the lines to the points
    assert len(boxes) == 8
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)
    assert all(axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1 for box in boxes)


@pytest.mark.parametrize(
    "objectives", [("f1",), ("f1", "evaluation_time_s"), ("f1", "evaluation_time_s", "peak_gpu_memory_bytes")]
)
def test_the_figure_is_a_png_of_the_expected_size(tmp_path: Path, objectives: tuple[str, ...]) -> None:
    run = whole_run(objectives=objectives)

    draw_pareto(summarise(run), tmp_path / "pareto.png")

    image = matplotlib.image.imread(tmp_path / "pareto.png")
    assert image.shape[:2] == (HEIGHT_PX, WIDTH_PX)
    assert image.std() > 0.01  # something was drawn


def test_equal_runs_give_equal_figures_and_other_data_another(tmp_path: Path) -> None:
    one = [success(0, f1=0.5, evaluation_time_s=10.0), success(1, f1=0.8, evaluation_time_s=400.0)]
    other = [success(0, f1=0.5, evaluation_time_s=10.0), success(1, f1=0.7, evaluation_time_s=400.0)]

    first, again, changed = (_image(tmp_path, trials) for trials in (one, one, other))

    assert first == again
    assert first != changed


@pytest.mark.parametrize(
    "trials",
    [[], [failure(0, "gpu_oom"), failure(1, "lost", train_s=0.0)], [success(0, evaluation_time_s=0.0), success(1)]],
    ids=["nothing", "no success", "no cost"],
)
def test_a_run_with_little_to_show_is_drawn_too(tmp_path: Path, trials: list[Experience]) -> None:
    image = matplotlib.image.imread(io.BytesIO(_image(tmp_path, trials)))

    assert image.shape[:2] == (HEIGHT_PX, WIDTH_PX)


def test_names_that_look_like_formulas_are_drawn_as_they_are(tmp_path: Path) -> None:
    odd = success(0, model_id="a/$\\frac{", method="\x1b[31m$_$")

    data = _figure_data([odd], name="$\\sum$")

    assert data.front[0].text == "0: $\\frac{, \\x1b[31m$_$"
    assert _image(tmp_path, [odd], name="$\\sum$", rejections={"$\\x$": 3}).startswith(b"\x89PNG")
