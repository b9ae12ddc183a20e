"""Every way a job can end is found out in time and called by its name, whatever of Slurm answers.

``make bench-no-hang`` does the same with commands that take 60 s.
"""

import sys
from pathlib import Path

import pytest

from tests.slurm.matrix import IMPOSSIBLE, run_matrix, table

pytestmark = pytest.mark.slurm

HANG_S = 15.0


@pytest.mark.timeout(900)
@pytest.mark.parametrize("has_others", [False, True], ids=["a job for each trial", "three trials a job"])
def test_every_end_gets_its_kind_and_origin_in_time(
    has_others: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matrix = run_matrix(tmp_path, hang_s=HANG_S, has_others=has_others)

    with capsys.disabled():
        sys.stdout.write(f"\n{table(matrix)}\n")
    wrong = [
        (way.name, given.name, column[way.name])
        for given, column in matrix.items()
        for way in given.ways
        if not column[way.name].is_right(way, given)
    ]
    assert wrong == []
    assert len(IMPOSSIBLE) <= 6
