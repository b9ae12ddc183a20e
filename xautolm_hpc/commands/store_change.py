"""``store merge|compact|forget|resolve|accept|accept-marks|refuse-marks``: change an experience store."""

import argparse
import dataclasses
from collections.abc import Sequence

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
from xautolm_hpc.report import escape_controls
from xautolm_hpc.store import MarkGroup, locate_store, merge


def run(arguments: argparse.Namespace) -> int:
    """Run one of the commands that change a store.

    Raises:
        InputError: A store, id, attempt key or run does not exist.
        StoreError: The store could not be written.
    """
    verbs = {
        "merge": _merge,
        "compact": _compact,
        "forget": _forget,
        "resolve": _resolve,
        "accept": _accept,
        "accept-marks": _accept_marks,
        "refuse-marks": _refuse_marks,
    }
    return verbs[arguments.store_verb](arguments)


def _merge(arguments: argparse.Namespace) -> int:
    """Add the experiences of other stores to a store."""
    into = locate_store(arguments.into)
    with working(f"merging into {into}"):
        merged = merge(
            map(locate_store, arguments.sources),
            into,
            accept_forget=arguments.accept_forget,
            limits=limits_of(arguments),
        )
    result = {"n_new": merged.n_new, "segment": merged.segment, "n_pending_marks": merged.n_pending_marks}
    if arguments.json:
        print_json({**result, "findings": as_json(merged.findings)})
    else:
        print(f"{merged.n_new} new experiences in {into}")
        if merged.n_pending_marks:
            print(f"{merged.n_pending_marks} marks of other authors have no effect; `store verify {into}` lists them")
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


def _accept_marks(arguments: argparse.Namespace) -> int:
    groups = open_store(arguments).accept_marks(arguments.author, site=arguments.site)
    return _print_decided(groups, is_json=arguments.json, word="accepted")


def _refuse_marks(arguments: argparse.Namespace) -> int:
    groups = open_store(arguments).refuse_marks(arguments.author, site=arguments.site)
    return _print_decided(groups, is_json=arguments.json, word="refused")


def _print_decided(groups: Sequence[MarkGroup], *, is_json: bool, word: str) -> int:
    """Print the marks that were decided on."""
    if is_json:
        print_json({word: [dataclasses.asdict(group) for group in groups]})
    else:
        for group in groups:
            site = "any site" if group.site is None else group.site
            print(
                escape_controls(f"{word}: {group.n_marks} marks `{group.action}` of site {site}, {group.n_ids} records")
            )
    return DONE


def _print_result(values: dict[str, object], *, is_json: bool) -> None:
    (print_json if is_json else print_plain)(values)
