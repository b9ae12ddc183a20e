"""The command line as a real process, and waiting for what it does."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def start_command(folder: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """Start the command line in a folder; what it prints goes to ``said.log`` there."""
    with (folder / "said.log").open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "xautolm_hpc", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environ or {})},
        )


def run_command(
    folder: Path, *arguments: str, environ: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run the command line in a folder to its end."""
    return subprocess.run(
        [sys.executable, "-m", "xautolm_hpc", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **(environ or {})},
        timeout=800,
        check=False,
    )


def wait_for(condition: Callable[[], bool], *, limit_s: float, what: str) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: It did not hold within the limit.
    """
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {limit_s:g} s: {what}")
        time.sleep(0.02)
