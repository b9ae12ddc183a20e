"""Lets jobs end in every way, under every state of Slurm's sources, with commands that take a minute each."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.goals import Goal, run
from tests.slurm.dying import WAYS
from tests.slurm.matrix import IMPOSSIBLE, run_matrix, table

HANG_S = 60.0
MOST_IMPOSSIBLE = 6


def measure(hang_s: float = HANG_S) -> list[Goal]:
    """Run the whole matrix once."""
    with TemporaryDirectory(prefix="ends-") as name:
        matrix = run_matrix(Path(name), hang_s=hang_s)
    print(table(matrix))
    cells = [(way, given, column[way.name]) for given, column in matrix.items() for way in WAYS]
    n_wrong = sum(not cell.is_right(way, given) for way, given, cell in cells)
    return [
        Goal("cells", len(cells), 70, "", at_most=False),
        Goal("cells that are wrong or late", n_wrong, 0, ""),
        Goal("cells in which the kind cannot be known (*)", len(IMPOSSIBLE), MOST_IMPOSSIBLE, ""),
    ]


if __name__ == "__main__":
    sys.exit(run(measure))
