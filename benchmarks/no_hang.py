"""Lets jobs end in every way, under every state of Slurm's sources, with commands that take a minute each."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.goals import Goal, run
from tests.slurm.matrix import IMPOSSIBLE, run_matrix, table

HANG_S = 60.0
MOST_IMPOSSIBLE = 6


def measure(hang_s: float = HANG_S) -> list[Goal]:
    """Run the whole matrix twice: with a job for each trial, and with three trials a job."""
    goals = [Goal("cells in which the kind cannot be known (*)", len(IMPOSSIBLE), MOST_IMPOSSIBLE, "")]
    for has_others, name in ((False, "a job for each trial"), (True, "three trials a job")):
        with TemporaryDirectory(prefix="ends-") as folder:
            matrix = run_matrix(Path(folder), hang_s=hang_s, has_others=has_others)
        print(f"{name}\n{table(matrix)}\n")
        cells = [(way, given, column[way.name]) for given, column in matrix.items() for way in given.ways]
        n_wrong = sum(not cell.is_right(way, given) for way, given, cell in cells)
        goals += [
            Goal(f"{name}: cells", len(cells), 90, "", at_most=False),
            Goal(f"{name}: cells that are wrong or late", n_wrong, 0, ""),
        ]
    return goals


if __name__ == "__main__":
    sys.exit(run(measure))
