"""Learning curves in the report: as bars in a table, and as a figure."""

from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from tests.report.facts import facts, failure, success
from xautolm_hpc.records import Experience
from xautolm_hpc.report import summarise, to_markdown, write_report
from xautolm_hpc.report.curve_figure import draw_curves
from xautolm_hpc.report.curves import N_BARS, N_SHOWN, bars, curve_section, find_curves
from xautolm_hpc.report.figure import HEIGHT_PX, WIDTH_PX
from xautolm_hpc.report.quantities import UNKNOWN


def curve(*f1: float, seconds: float | None = 2.0) -> tuple[tuple[float, ...], ...]:
    """Write a curve of F1 on ``dev``, each epoch as long as the others, or without times."""
    points = [(float(n), 1.0 / n, 0.9, value) for n, value in enumerate(f1, start=1)]
    return tuple(point if seconds is None else (*point, seconds * point[0]) for point in points)


def three() -> list[Experience]:
    """Build two successes, one of them overfitted, and a failure."""
    return [
        success(0, f1=0.5, curve=curve(0.1, 0.4, 0.5)),
        success(1, f1=0.8, curve=curve(0.3, 0.9, 0.6, 0.6)),
        failure(2, "time_limit", curve=curve(0.2, 0.7)),
    ]


def test_curves_are_listed_with_the_best_first_and_how_they_ended() -> None:
    found = find_curves(summarise(facts(three())))

    assert [(one.trial, one.best, one.end) for one in found] == [
        (1, 0.9, "succeeded"), (2, 0.7, "time_limit"), (0, 0.5, "succeeded")
    ]  # fmt: skip
    assert [one.seconds for one in found] == [(2.0, 4.0, 6.0, 8.0), (2.0, 4.0), (2.0, 4.0, 6.0)]
    assert [one.epoch_s for one in found] == [2.0, 2.0, 2.0]


def test_the_table_shows_bars_best_epoch_and_seconds() -> None:
    section = curve_section(summarise(facts(three())))

    assert section is not None
    assert section.table is not None
    assert section.table.rows[0] == (
        "1", "distilbert-base-uncased, full", "▃█▅▅", "0.9000", "2 of 4", "2", "succeeded"
    )  # fmt: skip
    assert section.lines == ("The bars reach from 0.1000 to 0.9000, the least and the most of any trial.",)


def test_times_that_a_record_lacks_are_unknown() -> None:
    given = [success(0, curve=curve(0.1, 0.4, seconds=None))]

    section = curve_section(summarise(facts(given)))

    assert find_curves(summarise(facts(given)))[0].seconds is None
    assert section is not None
    assert section.table is not None
    assert section.table.rows[0][5] == UNKNOWN


def test_no_more_than_ten_curves_are_shown() -> None:
    given = [success(n, curve=curve(0.1 + 0.01 * n)) for n in range(12)]

    section = curve_section(summarise(facts(given)))

    assert section is not None
    assert section.table is not None
    assert [row[0] for row in section.table.rows] == [str(n) for n in range(11, 11 - N_SHOWN, -1)]
    assert "The best 10 of 12 trials; report.json has all." in section.lines[0]


def test_a_run_without_curves_has_no_section_and_no_figure(tmp_path: Path) -> None:
    (tmp_path / "curves.png").write_bytes(b"of an earlier report")

    summary = write_report(facts([success(0)]), tmp_path)

    assert curve_section(summary) is None
    assert not (tmp_path / "curves.png").exists()
    assert "Learning curves" not in to_markdown(summary)


def test_an_older_summary_has_no_curves() -> None:
    summary: dict[str, Any] = summarise(facts(three()))
    for trial in [*summary["front"], *summary["dominated"], *summary["unranked"], *summary["failed"]]:
        del trial["curve"]

    assert curve_section(summary) is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.0, 0.5, 1.0], "▁▅█"), ([0.3], "▃"), ([1.0] * 30, "█" * N_BARS), ([n / 99 for n in range(100)], None)],
)
def test_bars_follow_the_values(values: list[float], expected: str | None) -> None:
    shown = bars(values, least=0.0, most=1.0)

    assert expected is None or shown == expected
    assert len(shown) == min(len(values), N_BARS)
    assert list(shown) == sorted(shown)


def test_values_that_are_all_equal_have_low_bars() -> None:
    assert bars([0.5, 0.5], least=0.5, most=0.5) == "▁▁"


@pytest.mark.parametrize("n_trials", [1, 9])
def test_the_figure_is_a_png_with_a_line_for_each_trial(tmp_path: Path, n_trials: int) -> None:
    given = [*(success(n, curve=curve(0.1, 0.2 + 0.05 * n)) for n in range(n_trials)), *three()[2:]]

    assert draw_curves(summarise(facts(given)), tmp_path / "curves.png")

    image = matplotlib.image.imread(tmp_path / "curves.png")
    assert image.shape[:2] == (HEIGHT_PX, WIDTH_PX)
    assert image.std() > 0.01


def test_the_markdown_shows_the_figure_beside_the_table() -> None:
    text = to_markdown(summarise(facts(three())))

    assert "## Learning curves" in text
    assert "![F1 on dev against seconds of training](curves.png)" in text


def test_the_picture_has_no_baseline_since_that_is_known_on_other_rows_only(tmp_path: Path) -> None:
    drawn = [draw_curves(summarise(facts(three(), majority_f1=f1)), tmp_path / f"{f1}.png") for f1 in (0.2, None)]

    assert drawn == [True, True]
    assert (tmp_path / "0.2.png").read_bytes() == (tmp_path / "None.png").read_bytes()
