"""The command line: arguments in, exit status out. Each command is a file in ``commands/``.

Exit status: 0 done; 1 a fault of this program or of the cluster; 2 usage or bad input; 3 the budget ended without a
success; 4 done, with findings to look at; 130 interrupted.
"""

import argparse
import importlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial

from xautolm_hpc import __version__
from xautolm_hpc.commands.store_verbs import add_store
from xautolm_hpc.errors import DISK_FULL_ERRNOS, XAutoLMError

INTERRUPTED = 130
RUN_HELP = "the run's folder, or its name below --runs-dir"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Command-line arguments; by default ``sys.argv`` without the program.

    Returns:
        The exit status.
    """
    try:
        return run_command(arguments)
    except XAutoLMError as error:
        print(f"xautolm-hpc: {error}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(f"  {note}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"xautolm-hpc: {_explain_os_error(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("xautolm-hpc: interrupted", file=sys.stderr)
        return INTERRUPTED


def run_command(arguments: Sequence[str] | None) -> int:
    """Run one command, and raise what goes wrong.

    Args:
        arguments: Command-line arguments; ``None`` takes ``sys.argv`` without the program.

    Returns:
        The exit status.

    Raises:
        XAutoLMError: The command failed.
        OSError: The system refused something.
    """
    parser = build_parser()
    parsed = parser.parse_args(arguments, argparse.Namespace(environ=dict(os.environ), parser=parser))
    command = importlib.import_module(f"xautolm_hpc.commands.{parsed.module}")
    return int(command.run(parsed))


def _explain_os_error(error: OSError) -> str:
    """Write which file the system call failed on, why, and what to do."""
    where = f"`{os.fsdecode(error.filename)}`: " if isinstance(error.filename, str | bytes) else ""
    if error.errno in DISK_FULL_ERRNOS:
        return f"{where}{error.strerror}. Free some space, then run the same command again"
    return f"{where}{error.strerror or error}. Check the file and its permissions, then run the same command again"


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command line, without importing any command."""
    width = shutil.get_terminal_size().columns - 2  # as argparse does, which asks anew for every argument
    formatter_class = partial(argparse.HelpFormatter, width=width)
    parser = argparse.ArgumentParser(
        prog="xautolm-hpc",
        formatter_class=formatter_class,
        description="Search for the best way to fine-tune a language model, using the results of past searches.",
        epilog="Exit status: 0 done, 1 a fault of this program or of the cluster, 2 usage or bad input, 3 the budget "
        "ended without a success, 4 done with findings to look at, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"xautolm-hpc {__version__}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_parser = partial(verbs.add_parser, formatter_class=formatter_class)
    for add in (
        _add_init, _add_run, _add_evaluate, _add_plan, _add_runs, _add_status, _add_logs, _add_cancel, _add_report,
        _add_priors, _add_models, add_store, _add_doctor, _add_export, _add_predict, _add_schema, _add_examples,
        _add_completion,
    ):  # fmt: skip
        add(add_parser)
    _add_prefetch(add_parser)
    return parser


AddParser = Callable[..., argparse.ArgumentParser]


def _add_run(add_parser: AddParser) -> None:
    """Add ``run``."""
    parser = _search_verb(add_parser, "run", text="run a search, or resume it: the same command does both")
    parser.add_argument("--fork", metavar="NEWNAME", help="start a new search with this name and these settings")
    parser.add_argument("--quiet", action="store_true", help="show results and errors only, no progress")
    _add_final(parser)
    parser.add_argument(
        "--skip-job-check", action="store_true", help="do not submit a short job first that checks a compute node"
    )


def _add_init(add_parser: AddParser) -> None:
    """Add ``init``."""
    text = "write a search file for your data, or a cluster profile for this cluster or machine; asks nothing"
    parser = _verb(add_parser, "init", text=text)
    parser.add_argument("data", nargs="?", help="a file, a folder, or a data set of the hub as OWNER/NAME")
    parser.add_argument("--profile", action="store_true", help="write a cluster profile instead, for where this runs")
    parser.add_argument("--to", metavar="FILE", help="file to write (default: NAME.toml; cluster.toml for a profile)")
    parser.add_argument("--force", action="store_true", help="overwrite the file if it exists")
    parser.add_argument(
        "--effort", choices=("quick", "normal", "thorough"), default="quick",
        help="how much it may cost: 5, 60 or 480 minutes on a machine, 1, 8 or 48 hours on a cluster (default: quick)",
    )  # fmt: skip
    parser.add_argument(
        "--cluster", metavar="PROFILE", help="cluster profile the search is for (default: this machine)"
    )
    parser.add_argument("--name", help="name of the search and of its run (default: that of the data)")
    guessed = parser.add_argument_group("what is guessed unless it is said")
    kinds = ("text-classification", "question-answering", "text-generation")
    guessed.add_argument("--kind", choices=kinds, metavar="KIND", help=", ".join(kinds))
    for column in ("text", "label", "question", "context", "answers"):
        guessed.add_argument(f"--{column}", metavar="COLUMN")
    guessed.add_argument("--delimiter", help="what divides the columns of a CSV or TSV file, or tab")
    guessed.add_argument("--revision", metavar="COMMIT", help="commit of a data set of the hub")


def _add_evaluate(add_parser: AddParser) -> None:
    """Add ``evaluate``."""
    text = "run the trials of a given list of pipelines, or resume them: the same command does both"
    parser = _verb(add_parser, "evaluate", text=text)
    parser.add_argument("pipelines", help="the list: one pipeline a line, as JSON (model, method, params, seed)")
    _add_search_arguments(parser)
    parser.add_argument(
        "--per-process", type=int, metavar="N", help="trials that one job runs, in place of job.trials_per_job"
    )
    parser.add_argument("--quiet", action="store_true", help="show results and errors only, no progress")
    _add_final(parser)
    parser.set_defaults(fork=None, skip_job_check=False)


def _add_final(parser: argparse.ArgumentParser) -> None:
    """Add ``--final``: the trials to evaluate on test."""
    parser.add_argument(
        "--final",
        type=_trial_numbers,
        metavar="TRIALS",
        help="trials to evaluate once on test at the end, such as 3,7, or none (default: the Pareto set)",
    )


def _trial_numbers(text: str) -> tuple[int, ...]:
    """Parse trial numbers."""
    numbers = [] if text == "none" else text.split(",")
    if not all(number.isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers of trials such as 3,7, or none")
    return tuple(dict.fromkeys(map(int, numbers)))


def _add_plan(add_parser: AddParser) -> None:
    """Add ``plan``."""
    text = "show what run would do first: profile, prior, pipelines, batch scripts; submits nothing, writes nothing"
    parser = _search_verb(add_parser, "plan", text=text)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_status(add_parser: AddParser) -> None:
    """Add ``status``."""
    text = "show the state of a run, whether or not its driver is alive; on a terminal until the run is over"
    parser = _run_verb(add_parser, "status", text=text)
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--watch", action="store_true", help="update it until the run is over, also without a terminal")
    when.add_argument("--once", action="store_true", help="show it once, also on a terminal")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_runs(add_parser: AddParser) -> None:
    parser = _verb(add_parser, "runs", text="list the runs of a folder: state, best trial, age and size")
    parser.add_argument("--runs-dir", default="runs", help="folder of run folders (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_logs(add_parser: AddParser) -> None:
    parser = _run_verb(add_parser, "logs", text="print the output of a trial")
    parser.add_argument("trial", help="trial number, or `profile` for the profile job")
    parser.add_argument("--attempt", type=int, help="attempt number (default: the last)")
    parser.add_argument("-f", "--follow", action="store_true", help="continue until the attempt ends")


def _add_cancel(add_parser: AddParser) -> None:
    _run_verb(add_parser, "cancel", text="cancel a run's jobs; its driver, if alive, records how they ended")


def _add_report(add_parser: AddParser) -> None:
    """Add ``report``."""
    parser = _run_verb(add_parser, "report", text="show a run's results: Pareto set, failures, rejections, prior, cost")
    parser.add_argument("--page", action="store_true", help="also write the page, report.html, anew")
    parser.add_argument(
        "--show-texts",
        action="store_true",
        help="also show five wrong answers with their texts, and write them into the page",
    )
    parser.add_argument(
        "--to", nargs=2, metavar=("TRACKER", "FOLDER"),
        help="also write each trial to an offline log for tensorboard or mlflow; what is there already stays",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_priors(add_parser: AddParser) -> None:
    parser = _run_verb(add_parser, "priors", text="show the prior of a run, and which experiences changed it most")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_export(add_parser: AddParser) -> None:
    parser = _run_verb(add_parser, "export-model", text="write a trained model as a folder that transformers can load")
    parser.set_defaults(module="export_model")
    parser.add_argument(
        "trial", type=_trial_or_best, help="trial number, or best; trials of the Pareto set can be exported"
    )
    parser.add_argument("--to", required=True, metavar="DIR", help="folder to write to; must be new or empty")
    parser.add_argument("--python", help="Python with torch and transformers (default: the Python of the run's worker)")
    parser.add_argument("--adapter", action="store_true", help="write adapters alone, for the base model; not merged")
    parser.add_argument("--licence", help="licence of the base model, where its [[model]] table gives none")


def _trial_or_best(text: str) -> int | None:
    """Parse the number of a trial; ``None`` for the best one."""
    if text == "best":
        return None
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: expected the number of a trial, or best")
    return int(text)


def _add_predict(add_parser: AddParser) -> None:
    parser = _verb(add_parser, "predict", text="answer the rows of a file with an exported model")
    parser.add_argument("model", help="folder that export-model wrote")
    parser.add_argument("file", help="JSON Lines, CSV, TSV, Parquet or Arrow file with the rows")
    parser.add_argument("--to", metavar="FILE", help="JSON Lines file to write (default: print)")
    parser.add_argument("--force", action="store_true", help="overwrite the file if it exists")
    for name in ("text", "question", "context"):
        parser.add_argument(f"--{name}", metavar="COLUMN", help="column (default: that of the data it has learnt from)")
    parser.add_argument("--delimiter", help="what divides the columns of a CSV or TSV file, where that is not clear")
    parser.add_argument("--python", help="Python with torch and transformers (default: this one)")


def _add_models(add_parser: AddParser) -> None:
    parser = _verb(add_parser, "models", text="list the catalogue of models, what fits a GPU and what is in the cache")
    parser.add_argument("profile", nargs="?", help="the cluster profile (TOML) whose GPU and cache count")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_doctor(add_parser: AddParser) -> None:
    """Add ``doctor``."""
    parser = _verb(add_parser, "doctor", text="check whether searches can run here; exit status 4 with findings")
    parser.add_argument("profile", nargs="?", help="the cluster profile (TOML); default: check this machine")
    parser.add_argument("--job", action="store_true", help="also submit a short job: check a node, do a training step")
    parser.add_argument("--runs-dir", default="runs", help="folder of run folders (default: %(default)s)")
    parser.add_argument(
        "--time-limit-min", type=float, default=60.0, metavar="MIN", help="trial.time_limit_min to check (default: 60)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_schema(add_parser: AddParser) -> None:
    text = "print the keys of a search file or cluster profile as JSON Schema, for editors"
    parser = _verb(add_parser, "schema", text=text)
    parser.add_argument("kind", choices=("search", "profile"), help="which file")
    parser.add_argument("--markdown", action="store_true", help="print a page that lists the keys")


def _add_examples(add_parser: AddParser) -> None:
    parser = _verb(add_parser, "examples", text="copy the example searches and cluster profiles to a new folder")
    parser.add_argument("folder", help="folder to write; must be new or empty")


def _add_completion(add_parser: AddParser) -> None:
    parser = _verb(add_parser, "completion", text="print what makes a shell complete the commands and their options")
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")


def _add_prefetch(add_parser: AddParser) -> None:
    parser = _verb(add_parser, "prefetch", text="download a search's models and data into the offline cache")
    parser.add_argument("search", help="the search file (TOML)")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="as for run")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be downloaded, and its size")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _verb(add_parser: AddParser, name: str, *, text: str) -> argparse.ArgumentParser:
    parser = add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(module=name)
    return parser


def _search_verb(add_parser: AddParser, name: str, *, text: str) -> argparse.ArgumentParser:
    """Add a command that takes a search file."""
    parser = _verb(add_parser, name, text=text)
    _add_search_arguments(parser)
    return parser


def _add_search_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the search file, ``--set`` and ``--runs-dir``."""
    parser.add_argument("search", help="the search file (TOML)")
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a value of the search file, for example --set budget.generations=3; may be repeated",
    )
    parser.add_argument("--runs-dir", default="runs", help="folder of run folders (default: %(default)s)")


def _run_verb(add_parser: AddParser, name: str, *, text: str) -> argparse.ArgumentParser:
    parser = _verb(add_parser, name, text=text)
    parser.add_argument("run_name", metavar="run", help=RUN_HELP)
    parser.add_argument("--runs-dir", default="runs", help="folder of run folders (default: %(default)s)")
    return parser
