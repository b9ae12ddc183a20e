"""The arguments of ``store`` and its commands; imports nothing of the store, so that ``--help`` is fast."""

import argparse
from collections.abc import Callable
from typing import Any

AddParser = Callable[..., argparse.ArgumentParser]
STORE_HELP = "the store: a folder of segments, or one .h5 file"

LOOK = {
    "info": "count experiences by task, model, method, status and failure kind",
    "verify": "check every segment; exit status 4 with findings",
    "show": "print one experience",
    "distances": "show the distances between tasks, as a prior computes them",
}
CHANGE = {
    "merge": "add the experiences of other stores to a store",
    "compact": "rewrite a store as one segment, without forgotten experiences",
    "forget": "hide experiences of your own site permanently",
    "resolve": "choose which record of an attempt counts",
    "accept": "count the suspect trials of a run as evidence",
    "accept-marks": "put marks that other sites set in force",
    "refuse-marks": "drop marks that other sites set, or those of format 1",
}
EXCHANGE = {
    "export": "write experiences to a file for other programs, or copy the store for other sites",
    "import": "read exported experiences from JSON lines",
    "import-xautolm": "read the experiences that XAutoLM's authors released",
}
STORE_FORMATS = ("1", "2")
FORMATS = ("store", *STORE_FORMATS, "jsonl", "csv", "parquet")
FILTERS = {
    "task_kind": "only this task kind",
    "run_id": "only this run",
    "site": "only this site",
    "status": "only succeeded, failed or stopped",
    "since": "only experiences that ended then or later (ISO 8601 with time zone)",
    "until": "only experiences that ended before (ISO 8601 with time zone)",
}
VERBS = {**LOOK, **CHANGE, **EXCHANGE}
MODULES = {
    **dict.fromkeys(LOOK, "store"),
    **dict.fromkeys(CHANGE, "store_change"),
    **dict.fromkeys(EXCHANGE, "store_exchange"),
}


LIMITS: dict[str, tuple[Callable[[str], float], str]] = {
    "memory_gb": (float, "memory limit of the check of a foreign segment (default: 4)"),
    "cpu_s": (float, "CPU time limit of that check (default: 300)"),
    "wall_s": (float, "wall time limit of that check (default: 600)"),
    "file_mb": (float, "largest segment (default: 2048)"),
    "content_mb": (float, "largest decompressed content of a segment (default: 2048)"),
    "n_experiences": (int, "most experiences in a segment (default: 2000000)"),
}
"""Limit of :class:`xautolm_hpc.store.CheckLimits` -> type and help."""


def add_store(add_parser: AddParser) -> None:
    """Add ``store`` and its commands."""
    parser = add_parser("store", help="read, merge, change and export experience stores")
    parser.description = "Read, merge, change and export experience stores."
    verbs = parser.add_subparsers(title="store commands", metavar="COMMAND", required=True)
    for name, text in VERBS.items():
        description = f"{text[0].upper()}{text[1:]}."
        verb = verbs.add_parser(name, help=text, description=description, formatter_class=parser.formatter_class)
        verb.set_defaults(module=MODULES[name], store_verb=name)
        ARGUMENTS[name](verb)
        verb.add_argument("--json", action="store_true", help="print JSON")


def _store(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("store", help=STORE_HELP)
    _limits(verb)


def _limits(verb: argparse.ArgumentParser) -> None:
    """Add the limits of the check of segments from other sites."""
    for name, (kind, text) in LIMITS.items():
        verb.add_argument(f"--check-{name.replace('_', '-')}", dest=f"check_{name}", type=kind, help=text)


def _show(verb: argparse.ArgumentParser) -> None:
    _store(verb)
    verb.add_argument("id", help="experience id, or its first digits")


def _merge(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of ``merge``."""
    verb.add_argument("sources", nargs="+", metavar="store", help="stores to read; they are not changed")
    _limits(verb)
    _into(verb)
    verb.add_argument(
        "--accept-forget",
        action="append",
        default=[],
        metavar="SITE",
        help="a site whose forgetting is accepted, also of other sites' experiences; may be repeated",
    )


def _export(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of ``export``."""
    _store(verb)
    verb.add_argument("--to", required=True, metavar="PATH", help="file to write, or folder of the new store")
    verb.add_argument(
        "--format",
        choices=FORMATS,
        help="default: by the ending of the path (.jsonl, .csv, .parquet), else a store in the newest format; "
        "1: a store for versions that read no format 2",
    )
    verb.add_argument("--redact", action="store_true", help="leave out messages and node names")
    for name, text in FILTERS.items():
        verb.add_argument(f"--{name.replace('_', '-')}", help=text)


def _import(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("files", nargs="+", metavar="file", help="files of JSON lines")
    _into(verb)


def _into(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--into", required=True, metavar="STORE", help="store to add to; created if it does not exist")


def _forget(verb: argparse.ArgumentParser) -> None:
    _store(verb)
    verb.add_argument("ids", nargs="+", metavar="id", help="whole experience ids of 32 hex digits")
    verb.add_argument("--site", required=True, help="your own site, as the cluster profile names it")


def _resolve(verb: argparse.ArgumentParser) -> None:
    _store(verb)
    verb.add_argument("key", help="attempt key: run/trial/attempt/restart")
    verb.add_argument("id", help="whole experience id of the record that counts")


def _accept(verb: argparse.ArgumentParser) -> None:
    _store(verb)
    verb.add_argument("run_id", metavar="run", help="id of the run (a UUID)")


def _marks(verb: argparse.ArgumentParser) -> None:
    _store(verb)
    verb.add_argument(
        "author", help="id of the author's key as `store verify` lists it; `format-1` for marks without one"
    )
    verb.add_argument("--site", help="only marks about this site")


def _import_xautolm(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("folder", help="their experience store: ALIAS/DATE/TIME-UUID.json")
    _into(verb)
    verb.add_argument("--site", default="xautolm", help="site name to give them (default: %(default)s)")


ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], Any]] = {
    "info": _store,
    "verify": _store,
    "show": _show,
    "distances": _store,
    "merge": _merge,
    "compact": _store,
    "forget": _forget,
    "resolve": _resolve,
    "accept": _accept,
    "accept-marks": _marks,
    "refuse-marks": _marks,
    "export": _export,
    "import": _import,
    "import-xautolm": _import_xautolm,
}
