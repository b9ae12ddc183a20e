"""``report``: show a run's results."""

import argparse
import gzip
import json
import shlex
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from xautolm_hpc import report
from xautolm_hpc.commands.status import profile_of
from xautolm_hpc.config import load_profile
from xautolm_hpc.durable import read_json, read_regular
from xautolm_hpc.errors import InputError, RunFolderError
from xautolm_hpc.jobdir import split_path
from xautolm_hpc.predictions import read_predictions
from xautolm_hpc.run.all_runs import DAMAGES
from xautolm_hpc.run.folder import RunDir, find_run
from xautolm_hpc.run.history import History
from xautolm_hpc.run.lease import live_holder
from xautolm_hpc.run.ledger import read_ledger
from xautolm_hpc.view import FinishKind, as_of, is_unfinished

SPLIT = "validation"
LARGEST_SPLIT_BYTES = 4 * 1024**3
NO_DRIVER = "not finished: no driver is running; the same `xautolm-hpc run` command goes on"


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
    shown = as_it_stands(run_dir, summary)
    if arguments.page or arguments.show_texts:
        report.write_page(shown, run_dir.report_dir, examples=examples)
    logged = report.write_log(arguments.to[0], summary, folder=Path(arguments.to[1])) if arguments.to else None
    if arguments.json:
        print(json.dumps(summary | ({"wrong_answers": examples} if arguments.show_texts else {}), indent=1))
        return
    console = Console()
    report.print_report(shown, console)
    if arguments.show_texts:
        report.print_examples(examples, console)
    closing = closing_lines(summary, run_dir, name=arguments.run_name, runs_dir=arguments.runs_dir)
    lines = [f"files: {run_dir.report_dir}", *closing, *([logged] if logged else [])]
    report.print_lines([Text(report.escape_controls(line)) for line in lines], console)


def as_it_stands(run_dir: RunDir, summary: dict[str, Any]) -> dict[str, Any]:
    """Return a report that says, of a search that has not ended, whether a driver is running and what came since.

    Args:
        run_dir: The run folder.
        summary: The content of ``report.json``, as the driver wrote it after a generation.
    """
    if not is_unfinished(summary["run"]):
        return summary
    try:
        holder = live_holder(run_dir.path, stale_s=load_profile(None).patience.lease_stale_s)
        history = History(run_dir)
        for line in read_ledger(run_dir.ledger_path):
            history.apply(line)
    except DAMAGES:  # `status` says what is damaged
        return summary
    text = f"the search goes on; driver: pid {holder.pid} on {holder.node}" if holder else NO_DRIVER
    n_later = len(history.trials) - summary["counts"]["trials"]
    text += f". This is {as_of(summary)}"
    if n_later > 0:
        text += f"; {n_later:,} later trial{'s are' if n_later > 1 else ' is'} not in it"
    return summary | {"run": summary["run"] | {"finish": text, "finish_kind": FinishKind.UNFINISHED}}


def closing_lines(summary: Mapping[str, Any], run_dir: RunDir, *, name: str, runs_dir: str) -> list[str]:
    """Write what a report ends with: the best trial, the page and what to do with the model.

    Args:
        summary: The content of ``report.json``.
        run_dir: The run folder.
        name: The run as its command named it.
        runs_dir: The folder of runs that the command named.
    """
    page, quoted = run_dir.report_dir / report.PAGE_NAME, shlex.quote(name)
    where = "" if runs_dir == "runs" else f" --runs-dir {shlex.quote(runs_dir)}"
    lines = [f"page: {page}" if page.exists() else "page: none; --page writes it"]
    if summary["prior"]["kind"] != "uniform":
        lines.append(f"prior: xautolm-hpc priors {quoted}{where}")
    best = summary["best"]
    if best is None:
        return lines
    scores = {"validation": best["metrics"], "test": summary["tests"].get(str(best["trial"]), {})}
    shown = [f"{metrics['f1']:.4f} on {split}" for split, metrics in scores.items() if "f1" in metrics]
    f1 = f", F1 {', '.join(shown)}" if shown else ""
    python = " --python PYTHON" if _has_image(run_dir) else ""
    export = f"{quoted} best --to {run_dir.path.name}-model{where}{python}"
    head = f"best: trial {best['trial']}{f1}: {best['model']}, {best['method']}"
    return [head, *lines, f"next: xautolm-hpc export-model {export}"]


def _has_image(run_dir: RunDir) -> bool:
    """Check whether a run's worker is in an image: `export-model` then needs a Python outside it."""
    try:
        return profile_of(run_dir).container is not None
    except InputError:  # a report is shown without its profile, too
        return False


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
