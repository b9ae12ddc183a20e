"""What names the parts of the page: headings, and the legend of each chart."""

import pytest

from tests.report.page.test_page import RUNS, parsed
from xautolm_hpc.report import summarise, to_html
from xautolm_hpc.view import RunFacts


@pytest.mark.parametrize("run", RUNS)
def test_no_heading_stands_twice(run: RunFacts) -> None:
    tree = parsed(to_html(summarise(run)))

    headings = [node.text() for name in ("h2", "h3", "caption") for node in tree.find(name)]
    assert len(headings) == len(set(headings))


@pytest.mark.parametrize("run", RUNS)
def test_the_legend_names_the_dashed_baseline_where_one_is_drawn(run: RunFacts) -> None:
    for figure in parsed(to_html(summarise(run))).find("figure"):
        (chart,) = figure.find("div")
        is_drawn = bool(chart.find("line", **{"class": "baseline"}))

        assert ("dashed: the majority baseline" in figure.text()) is is_drawn
