"""The report's files."""

import json
import os
import stat
from pathlib import Path

import matplotlib.image

from tests.report.facts import facts, failure, success
from tests.report.large_run import large_run
from tests.report.whole_run import whole_run
from xautolm_hpc.report import summarise, to_html, to_markdown, write_report
from xautolm_hpc.report.figure import HEIGHT_PX, WIDTH_PX
from xautolm_hpc.report.figure_numbers import FIGURES, figure_numbers
from xautolm_hpc.view import UNFINISHED


def test_the_files_hold_the_summary_that_is_returned(tmp_path: Path) -> None:
    report_dir = tmp_path / "run" / "report"

    summary = write_report(whole_run(), report_dir)

    assert summary == summarise(whole_run())
    assert json.loads((report_dir / "report.json").read_text()) == summary
    assert (report_dir / "report.md").read_text() == to_markdown(summary)
    assert (report_dir / "report.html").read_text() == to_html(summary)
    figures = ("best", "parallel", "pareto")
    for name in figures:
        assert (report_dir / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert json.loads((report_dir / f"{name}.json").read_text()) == figure_numbers(summary)[name]
    pairs = [f"{name}.{ending}" for name in figures for ending in ("json", "png")]
    assert sorted(path.name for path in report_dir.iterdir()) == [*pairs, "report.html", "report.json", "report.md"]


def test_every_figure_of_a_large_run_is_a_picture_and_numbers(tmp_path: Path) -> None:
    write_report(large_run(200), tmp_path)

    assert {path.stem for path in tmp_path.glob("*.png")} == set(FIGURES)
    assert {path.stem for path in tmp_path.glob("*.json")} == {*FIGURES, "report"}
    for name in FIGURES:
        image = matplotlib.image.imread(tmp_path / f"{name}.png")
        assert image.shape[:2] == (HEIGHT_PX, WIDTH_PX)
        assert image.std() > 0.01


def test_figures_of_an_earlier_report_go_when_there_is_nothing_to_show(tmp_path: Path) -> None:
    write_report(large_run(60), tmp_path)

    write_report(facts([failure(0, "gpu_oom")]), tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {
        "pareto.json", "pareto.png", "report.html", "report.json", "report.md"
    }  # fmt: skip


def test_while_a_search_goes_on_only_two_pictures_are_drawn(tmp_path: Path) -> None:
    write_report(large_run(60, finish=UNFINISHED), tmp_path)

    assert {path.stem for path in tmp_path.glob("*.png")} == {"pareto", "curves"}
    assert (tmp_path / "report.html").exists()


def test_a_later_report_replaces_the_earlier_one(tmp_path: Path) -> None:
    write_report(whole_run(), tmp_path)

    write_report(facts([success(0, f1=0.99)]), tmp_path)

    assert json.loads((tmp_path / "report.json").read_text())["best"]["metrics"] == {"f1": 0.99}
    assert "trial 0 with F1 0.9900" in (tmp_path / "report.md").read_text()


def test_the_folder_is_the_owners_alone(tmp_path: Path) -> None:
    write_report(facts([success(0)]), tmp_path / "report")

    assert stat.S_IMODE((tmp_path / "report").stat().st_mode) == 0o700


def test_what_a_killed_report_left_is_cleared_and_other_files_stay(tmp_path: Path) -> None:
    torn = tmp_path / ".report.json.0123456789ab.tmp"
    kept = [tmp_path / ".notes.tmp", tmp_path / "mine.txt"]
    for path in (torn, *kept):
        path.write_text("x")
        os.utime(path, (0, 0))

    write_report(facts([success(0)]), tmp_path)

    assert not torn.exists()
    assert all(path.exists() for path in kept)
