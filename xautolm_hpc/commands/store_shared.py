"""Helpers of the ``store`` commands: opening the store, printing results, showing progress."""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Console

from xautolm_hpc.commands.store_verbs import LIMITS
from xautolm_hpc.errors import InputError
from xautolm_hpc.records import to_json
from xautolm_hpc.report import escape_controls
from xautolm_hpc.store import CheckLimits, ExperienceStore, StoreFinding, locate_store

DONE, WITH_FINDINGS = 0, 4


def open_store(arguments: argparse.Namespace) -> ExperienceStore:
    """Open the store that the arguments name.

    Raises:
        InputError: The store does not exist, or a limit is not positive.
    """
    path = locate_store(arguments.store)
    if not path.exists():
        raise InputError(f"`{path}` does not exist; expected a store: a folder of segments, or one `.h5` file")
    return ExperienceStore(path, limits=limits_of(arguments))


def limits_of(arguments: argparse.Namespace) -> CheckLimits:
    """Collect the limits of the check of foreign segments.

    Raises:
        InputError: One is not positive.
    """
    return CheckLimits.of({name: getattr(arguments, f"check_{name}") for name in LIMITS})


@contextlib.contextmanager
def working(text: str) -> Iterator[None]:
    """Show on a terminal that a command is working."""
    with Console(stderr=True).status(escape_controls(text)):
        yield


def print_json(value: Any) -> None:
    """Print plain data as JSON in ASCII, so that a terminal interprets no foreign text."""
    print(json.dumps(value, indent=1))


def print_plain(values: Mapping[str, Any]) -> None:
    """Print plain data as indented lines, foreign text escaped."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            print(f"{escape_controls(key)}:")
            for name, inner in value.items():
                print(f"  {escape_controls(str(name))}: {escape_controls(str(inner))}")
        else:
            print(f"{escape_controls(key)}: {escape_controls(str(value))}")


def report_findings(findings: Iterable[StoreFinding]) -> int:
    """Print on standard error what was left out and why.

    Returns:
        The exit status: 4 with findings.
    """
    status = DONE
    for finding in findings:
        print(f"{finding.problem}: {escape_controls(finding.message)}", file=sys.stderr)
        status = WITH_FINDINGS
    return status


def as_json(findings: Iterable[StoreFinding]) -> list[Any]:
    """Return findings as plain data for JSON."""
    return [to_json(finding) for finding in findings]
