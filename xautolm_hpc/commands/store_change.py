"""``store merge|compact|forget|resolve|accept``: change an experience store."""

import argparse
from pathlib import Path

from xautolm_hpc.commands.store_shared import (
    DONE,
    as_json,
    limits_of,
    open_store,
    print_json,
    print_plain,
    report_findings,
    working,
)
from xautolm_hpc.store import merge


def run(arguments: argparse.Namespace) -> int:
    """Run one of the commands that change a store.

    Raises:
        InputError: A store, id, attempt key or run does not exist.
        StoreError: The store could not be written.
    """
    verbs = {"merge": _merge, "compact": _compact, "forget": _forget, "resolve": _resolve, "accept": _accept}
    return verbs[arguments.store_verb](arguments)


def _merge(arguments: argparse.Namespace) -> int:
    """Add the experiences of other stores to a store."""
    into = Path(arguments.into)
    with working(f"merging into {into}"):
        merged = merge(
            map(Path, arguments.sources), into, accept_forget=arguments.accept_forget, limits=limits_of(arguments)
        )
    result = {"n_new": merged.n_new, "segment": merged.segment}
    if arguments.json:
        print_json({**result, "findings": as_json(merged.findings)})
    else:
        print(f"{merged.n_new} new experiences in {into}")
    return report_findings(merged.findings)


def _compact(arguments: argparse.Namespace) -> int:
    store = open_store(arguments)
    with working(f"compacting {store.path}"):
        segment = store.compact()
    if arguments.json:
        print_json({"segment": segment, "findings": as_json(store.findings)})
    else:
        print(f"{store.path} is now one segment: {segment}" if segment else f"{store.path} is empty")
    return report_findings(store.findings)


def _forget(arguments: argparse.Namespace) -> int:
    store = open_store(arguments)
    store.forget(arguments.ids, arguments.site)
    _print_result({"n_forgotten": len(set(arguments.ids))}, is_json=arguments.json)
    if not arguments.json:
        print("they are hidden now; `store compact` removes them from disk")
    return DONE


def _resolve(arguments: argparse.Namespace) -> int:
    open_store(arguments).resolve(arguments.key, arguments.id)
    _print_result({"key": arguments.key, "counts": arguments.id}, is_json=arguments.json)
    return DONE


def _accept(arguments: argparse.Namespace) -> int:
    n_accepted = open_store(arguments).accept(arguments.run_id)
    _print_result({"n_accepted": n_accepted}, is_json=arguments.json)
    return DONE


def _print_result(values: dict[str, object], *, is_json: bool) -> None:
    (print_json if is_json else print_plain)(values)
