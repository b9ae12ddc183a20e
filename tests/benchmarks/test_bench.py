"""The shared code of the benchmarks: goals, table, JSON and check."""

import json
import math
from pathlib import Path

import pytest

from benchmarks.goals import Goal, run

FAST = Goal("start", 0.25, 0.5, "s")
SLOW = Goal("commit", 80.0, 50.0, "ms")
FEW = Goal("accuracy", 0.4, 0.5, "share", at_most=False)


def test_a_goal_without_a_limit_is_met_and_one_without_a_number_is_not() -> None:
    assert Goal("rows", 3.0, None, "").is_met
    assert not Goal("start", math.nan, 0.5, "s").is_met


def test_the_table_says_which_goals_are_met(capsys: pytest.CaptureFixture[str]) -> None:
    status = run([FAST, SLOW, FEW], [])

    assert status == 0
    assert capsys.readouterr().out == (
        "what      value  unit   goal\n"
        "start     0.25   s      at most 0.5   met\n"
        "commit    80     ms     at most 50    MISSED\n"
        "accuracy  0.4    share  at least 0.5  MISSED\n"
    )


def test_check_exits_1_and_names_the_goals_that_are_missed(capsys: pytest.CaptureFixture[str]) -> None:
    status = run(lambda: [FAST, SLOW], ["--check"])

    assert status == 1
    assert capsys.readouterr().err == "missed: commit is 80 ms, goal at most 50\n"


def test_json_holds_the_values_and_whether_they_reach_their_goal(tmp_path: Path) -> None:
    run([SLOW], ["--json", str(tmp_path / "bench.json")])

    [row] = json.loads((tmp_path / "bench.json").read_text())
    assert row == {
        "name": "commit",
        "value": 80.0,
        "limit": 50.0,
        "unit": "ms",
        "at_most": True,
        "is_met": False,
    }
