"""Kills writers of a store, or fails their calls, at every step; then lets many processes use it for a minute.

Prints a table in Markdown; exit status 1 when anything was lost, unreadable or half visible.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.store.busy import ROOT_DIR, run_busy

LEAST_RUNS = 1000


def fault_rows(*, stride: int) -> list[dict[str, Any]]:
    """Run the faults with and without HDF5's file locking."""
    rows = []
    for locking in ("TRUE", "FALSE"):
        command = [sys.executable, "-m", "tests.store.faults", "--stride", str(stride)]
        environ = {**os.environ, "HDF5_USE_FILE_LOCKING": locking}
        done = subprocess.run(command, cwd=ROOT_DIR, env=environ, check=True, capture_output=True, text=True)
        rows += [{"locking": locking, **row} for row in json.loads(done.stdout)]
    return rows


def print_faults(rows: list[dict[str, Any]]) -> None:
    """Print one line for each operation and fault."""
    print("| operation | fault | runs | lost, unreadable or half visible |")
    print("|---|---|---:|---:|")
    for operation, fault in dict.fromkeys((row["operation"], row["fault"]) for row in rows):
        these = [row for row in rows if (row["operation"], row["fault"]) == (operation, fault)]
        print(f"| {operation} | {fault} | {sum(r['n_runs'] for r in these)} | {sum(len(r['wrong']) for r in these)} |")
    print(f"| all | | {sum(r['n_runs'] for r in rows)} | {sum(len(r['wrong']) for r in rows)} |")


def main(argv: list[str]) -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stride", type=int, default=1, help="take every so many steps (default: %(default)s)")
    parser.add_argument("--busy-s", type=float, default=60, help="seconds of many processes (default: %(default)s)")
    arguments = parser.parse_args(argv)
    rows = fault_rows(stride=arguments.stride)
    print_faults(rows)
    with TemporaryDirectory() as folder:
        busy = run_busy(Path(folder) / "store", seconds=arguments.busy_s)
    print(f"\n8 appending, 1 compacting, 2 reading for {arguments.busy_s:g} s: {json.dumps(busy)}")
    wrong = [f"{row['operation']}, {row['fault']}: {text}" for row in rows for text in row["wrong"]]
    wrong += [
        f"many processes: {busy[name]}"
        for name in ("errors", "findings", "n_lost", "n_not_own", "n_twice")
        if busy[name]
    ]
    if arguments.stride == 1 and sum(row["n_runs"] for row in rows) < LEAST_RUNS:
        wrong.append(f"fewer than {LEAST_RUNS} runs")
    for text in wrong:
        print(text, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
