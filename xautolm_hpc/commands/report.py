"""``report``: show a run's results."""

import argparse
import gzip
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from xautolm_hpc import report
from xautolm_hpc.durable import read_json, read_regular
from xautolm_hpc.errors import InputError, RunFolderError
from xautolm_hpc.jobdir import split_path
from xautolm_hpc.predictions import read_predictions
from xautolm_hpc.run.folder import RunDir, find_run

SPLIT = "validation"
LARGEST_SPLIT_BYTES = 4 * 1024**3


def run(arguments: argparse.Namespace) -> int:
    """Show the report of the committed generations.

    Raises:
        RunFolderError: There is no such run, it has no committed generation yet, its report is damaged, or its data
            are gone.
    """
    run_dir = find_run(arguments.run_name, arguments.runs_dir)
    summary = read_summary(run_dir)
    try:
        _show(arguments, run_dir, summary=summary)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(run_dir, error) from error
    return 0


def _show(arguments: argparse.Namespace, run_dir: RunDir, *, summary: dict[str, Any]) -> None:
    """Show a report, and write its page again where that is asked for."""
    examples = wrong_answers(run_dir, summary) if arguments.show_texts else []
    if arguments.page or arguments.show_texts:
        report.write_page(summary, run_dir.report_dir, examples=examples)
    logged = report.write_log(arguments.to[0], summary, folder=Path(arguments.to[1])) if arguments.to else None
    if arguments.json:
        print(json.dumps(summary | ({"wrong_answers": examples} if arguments.show_texts else {}), indent=1))
        return
    console = Console()
    report.print_report(summary, console)
    if arguments.show_texts:
        report.print_examples(examples, console)
    lines = [*_where(run_dir.report_dir), *([logged] if logged else [])]
    report.print_lines([Text(line) for line in lines], console)


def read_summary(run_dir: RunDir) -> dict[str, Any]:
    """Read the content of ``report.json``.

    Raises:
        RunFolderError: There is none yet, or it is damaged.
    """
    try:
        summary = read_json(run_dir.report_dir / report.SUMMARY_NAME)
    except FileNotFoundError as error:
        raise RunFolderError(f"`{run_dir.path}` has no committed generation yet; see: xautolm-hpc status") from error
    except (OSError, InputError) as error:
        raise _damaged(run_dir, error) from error
    if not isinstance(summary, dict):
        raise _damaged(run_dir, "it holds no object")
    return summary


def _damaged(run_dir: RunDir, reason: object) -> RunFolderError:
    return RunFolderError(
        f"`{run_dir.report_dir / report.SUMMARY_NAME}` is damaged: {reason}. It is written anew when the search is run "
        "again; nothing is lost"
    )


def wrong_answers(run_dir: RunDir, summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """Read a few rows that the best trial answered wrong, with their texts; none where its answers are unknown.

    Raises:
        RunFolderError: The run's data are gone.
    """
    best = summary["best"]
    if best is None:
        return []
    attempt_dir = run_dir.attempt_dir(best["generation"], best["trial"], attempt=best["attempt"])
    answers = read_predictions(attempt_dir, SPLIT)
    if answers is None:
        return []
    path = split_path(run_dir.data_dir, SPLIT)
    try:
        content = gzip.decompress(read_regular(path, largest_bytes=LARGEST_SPLIT_BYTES))
        rows = [json.loads(line) for line in content.splitlines()]
    except FileNotFoundError as error:
        raise RunFolderError(f"`{path}` is gone; its texts cannot be shown") from error
    except (OSError, EOFError, ValueError, zlib.error, InputError) as error:
        raise RunFolderError(f"`{path}` is damaged; its texts cannot be shown: {error}") from error
    return report.wrong_answers(answers, rows, labels=summary["task"]["labels"])


def _where(report_dir: Path) -> list[str]:
    """Name the report's files; an earlier version wrote no page."""
    page = report_dir / report.PAGE_NAME
    return [f"files: {report_dir}", f"page: {page}" if page.exists() else "page: none; --page writes it"]
