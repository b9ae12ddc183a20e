"""Fuzz for some seconds: ``python -m tests.fuzz --seconds 600 --seed 1``; prints what was found."""

import argparse
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

from tests.fuzz.targets import TARGETS, Case, FoundError, Templates, run_case


def main() -> int:
    """Run cases, all targets in turn, until the time is over; returns 1 if one found a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--targets", nargs="*", default=list(TARGETS))
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    folder = Path(tempfile.mkdtemp(prefix="xautolm-fuzz-"))
    templates, found, n_cases = Templates.make(folder / "templates"), 0, 0
    for number in count(options.first):
        for target in options.targets:
            if time.monotonic() > end:
                sys.stdout.write(f"{n_cases} cases, {found} faults, seed {options.seed}; folders: {folder}\n")
                return int(found > 0)
            n_cases += 1
            try:
                run_case(Case(target, number, options.seed), templates, folder)
            except FoundError as fault:
                found += 1
                sys.stdout.write(f"{str(fault)[:2_000]}\n")
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
