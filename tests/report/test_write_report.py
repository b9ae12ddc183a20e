"""The report's files."""

import json
import stat
from pathlib import Path

from tests.report.facts import facts, success
from tests.report.whole_run import whole_run
from xautolm_hpc.report import summarise, to_markdown, write_report


def test_the_three_files_hold_the_summary_that_is_returned(tmp_path: Path) -> None:
    report_dir = tmp_path / "run" / "report"

    summary = write_report(whole_run(), report_dir)

    assert summary == summarise(whole_run())
    assert json.loads((report_dir / "report.json").read_text()) == summary
    assert (report_dir / "report.md").read_text() == to_markdown(summary)
    assert (report_dir / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in report_dir.iterdir()) == ["pareto.png", "report.json", "report.md"]


def test_a_later_report_replaces_the_earlier_one(tmp_path: Path) -> None:
    write_report(whole_run(), tmp_path)

    write_report(facts([success(0, f1=0.99)]), tmp_path)

    assert json.loads((tmp_path / "report.json").read_text())["best"]["metrics"] == {"f1": 0.99}
    assert "trial 0 with F1 0.9900" in (tmp_path / "report.md").read_text()


def test_the_folder_is_the_owners_alone(tmp_path: Path) -> None:
    write_report(facts([success(0)]), tmp_path / "report")

    assert stat.S_IMODE((tmp_path / "report").stat().st_mode) == 0o700
