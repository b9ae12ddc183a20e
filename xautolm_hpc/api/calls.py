"""Runs commands from Python: the same searches can be resumed and shown by either."""

import contextlib
import io
import os

from xautolm_hpc.cli import run_command

StrPath = str | os.PathLike[str]


def call(*arguments: str) -> None:
    """Run a command; what it prints is not shown, its errors are raised."""
    with contextlib.redirect_stdout(io.StringIO()):
        run_command(arguments)
