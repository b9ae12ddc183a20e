"""``store info|verify|show|distances``: read an experience store."""

import argparse
import json

from xautolm_hpc.commands.store_shared import (
    DONE,
    WITH_FINDINGS,
    as_json,
    open_store,
    print_json,
    print_plain,
    report_findings,
    working,
)
from xautolm_hpc.priors import distance_table, task_distances
from xautolm_hpc.records import to_json
from xautolm_hpc.report import escape_controls
from xautolm_hpc.store import ExperienceStore


def run(arguments: argparse.Namespace) -> int:
    """Run one of the commands that only read.

    Raises:
        InputError: There is no such store.
    """
    store = open_store(arguments)
    verbs = {"info": _info, "verify": _verify, "show": _show, "distances": _distances}
    return verbs[arguments.store_verb](store, arguments)


def _info(store: ExperienceStore, arguments: argparse.Namespace) -> int:
    """Print the counts of a store."""
    with working(f"reading {store.path}"):
        info = store.info()
    if arguments.json:
        print_json(info)
    else:
        print_plain(info)
    return report_findings(store.findings)


def _verify(store: ExperienceStore, arguments: argparse.Namespace) -> int:
    with working(f"checking {store.path}"):
        findings = store.verify()
    if arguments.json:
        print_json(as_json(findings))
    else:
        for finding in findings:
            print(f"{finding.problem}: {escape_controls(finding.message)}")
        print(f"{len(findings)} findings in {store.path}")
    return WITH_FINDINGS if findings else DONE


def _show(store: ExperienceStore, arguments: argparse.Namespace) -> int:
    found = to_json(store.show(arguments.id))
    if arguments.json:
        print_json(found)
    else:
        print(escape_controls(json.dumps(found, indent=1, ensure_ascii=False)))
    return report_findings(store.findings)


def _distances(store: ExperienceStore, arguments: argparse.Namespace) -> int:
    """Print the distances between the tasks of a store; in JSON null between different task kinds."""
    with working(f"reading {store.path}"):
        names, distances = task_distances(store.read())
    if arguments.json:
        print_json({"tasks": names, "distances": [[None if d != d else d for d in row] for row in distances.tolist()]})
    else:
        print(escape_controls(distance_table(names, distances)))
    return report_findings(store.findings)
