"""What every benchmark shares: a table of values beside their goals, ``--json FILE`` and ``--check``."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Goal:
    """A measured value and what it must reach.

    Attributes:
        name: What was measured.
        value: The measured value, in ``unit``.
        limit: The value to reach, in ``unit``; ``None`` where there is no goal.
        unit: Unit of both.
        at_most: Whether the limit is the largest value allowed, else the smallest.
    """

    name: str
    value: float
    limit: float | None
    unit: str
    at_most: bool = True

    @property
    def is_met(self) -> bool:
        """Whether the value reaches the limit; a value that is not a number reaches none."""
        if self.limit is None:
            return True
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    @property
    def wanted(self) -> str:
        """The limit as text."""
        if self.limit is None:
            return ""
        return f"{'at most' if self.at_most else 'at least'} {self.limit:g}"


def run(goals: Sequence[Goal] | Callable[[], Sequence[Goal]], argv: Sequence[str] | None = None) -> int:
    """Print measured values as a table, and write or check them where the arguments ask for it.

    Args:
        goals: The measured values; or a function that measures them, called after the arguments are read.
        argv: Arguments without the program's name; ``None`` takes the process's own.

    Returns:
        Exit status: 1 when ``--check`` was given and a goal is missed, else 0.
    """
    arguments = _parser().parse_args(argv)
    measured = list(goals() if callable(goals) else goals)
    print(table(measured))
    if arguments.json:
        rows = [asdict(goal) | {"is_met": goal.is_met} for goal in measured]
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    missed = [goal for goal in measured if not goal.is_met]
    if not arguments.check or not missed:
        return 0
    for goal in missed:
        print(f"missed: {goal.name} is {goal.value:.4g} {goal.unit}, goal {goal.wanted}", file=sys.stderr)
    return 1


def table(goals: Sequence[Goal]) -> str:
    """Write measured values as a table, one goal to a line."""
    rows = [("what", "value", "unit", "goal", "")]
    for goal in goals:
        verdict = "" if goal.limit is None else "met" if goal.is_met else "MISSED"
        rows.append((goal.name, f"{goal.value:.4g}", goal.unit, goal.wanted, verdict))
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the values to FILE")
    parser.add_argument("--check", action="store_true", help="exit 1 when a goal is missed, naming it")
    return parser
