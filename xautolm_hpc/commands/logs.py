"""``logs``: what a trial's worker wrote."""

import argparse
import sys
import time
from pathlib import Path

from xautolm_hpc.errors import InputError
from xautolm_hpc.jobdir import RunDir, find_end, find_run
from xautolm_hpc.report import escape_controls

POLL_S = 0.5


def run(arguments: argparse.Namespace) -> int:
    """Print stdout and stderr of an attempt, and go on with stderr if asked."""
    run_dir = find_run(arguments.run_name, arguments.runs_dir)
    attempt_dir = _attempt_dir(run_dir, arguments.trial, attempt=arguments.attempt)
    position = _print_new(attempt_dir / "stdout", 0)
    position = _print_new(attempt_dir / "stderr", 0)
    while arguments.follow and find_end(attempt_dir) is None:
        time.sleep(POLL_S)
        position = _print_new(attempt_dir / "stderr", position)
    return 0


def _attempt_dir(run_dir: RunDir, trial: int, *, attempt: int | None) -> Path:
    """Find the folder of a trial's attempt, the last one by default."""
    found = sorted(run_dir.path.glob(f"gen-*/trial-{trial:03d}/attempt-*"), key=lambda p: int(p.name.split("-")[1]))
    if not found:
        numbers = sorted({int(path.name.split("-")[1]) for path in run_dir.path.glob("gen-*/trial-*")})
        span = f"{numbers[0]} to {numbers[-1]}" if numbers else "none yet"
        raise InputError(f"run `{run_dir.path}` has no trial {trial}; trials: {span}")
    if attempt is None:
        return found[-1]
    if attempt >= len(found):
        raise InputError(f"trial {trial} has no attempt {attempt}; attempts: 0 to {len(found) - 1}")
    return found[attempt]


def _print_new(path: Path, position: int) -> int:
    if not path.exists():
        return position
    with path.open("rb") as file:
        file.seek(position)
        content = file.read()
    sys.stdout.write(escape_controls(content.decode(errors="replace")))
    sys.stdout.flush()
    return position + len(content)
