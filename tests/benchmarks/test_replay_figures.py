"""The figures of the replay say what they show."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from benchmarks.replay.figures import above_uniform, plot_above_uniform
from benchmarks.replay.search_methods import UNIFORM

ROWS = [
    {"task": task, "method": method, "hypervolume": hypervolume}
    for task in ("a", "b")
    for method, hypervolumes in {UNIFORM: (0.2, 0.3, 0.7), "zeta": (0.5, 0.6, 0.7), "best": (0.1, 0.5, 0.6)}.items()
    for hypervolume in hypervolumes
]


def test_methods_are_ordered_by_the_share_of_searches_above_the_mean_of_uniform() -> None:
    shares = above_uniform(ROWS)

    assert list(shares) == ["zeta", "best", UNIFORM]
    assert list(shares.values()) == pytest.approx([1.0, 2 / 3, 1 / 3])


def test_the_figure_has_a_title_a_reference_line_and_the_best_method_on_top() -> None:
    figure = plot_above_uniform(ROWS)

    (axes,) = figure.axes
    (line,) = axes.get_lines()
    heights = [axes.transData.transform((0, tick))[1] for tick in axes.get_yticks()]
    names = [label.get_text() for label in axes.get_yticklabels()]
    plt.close(figure)
    assert axes.get_title(loc="left") == f"Searches that beat the average search of {UNIFORM}"
    assert np.asarray(line.get_xdata()).tolist() == pytest.approx([1 / 3, 1 / 3])
    assert [name for _, name in sorted(zip(heights, names, strict=True), reverse=True)] == ["zeta", "best", UNIFORM]
