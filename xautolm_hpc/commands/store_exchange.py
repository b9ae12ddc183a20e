"""``store import-xautolm``: experiences of others become experiences of ours."""

import argparse
import dataclasses
from pathlib import Path

from xautolm_hpc.commands.store_shared import DONE, WITH_FINDINGS, print_json, print_plain, working
from xautolm_hpc.store import ExperienceStore, PeerImport, import_xautolm


def run(arguments: argparse.Namespace) -> int:
    """Read foreign experiences into a store.

    Raises:
        InputError: There is nothing to read.
        StoreError: The store could not be written.
    """
    folder = Path(arguments.folder)
    with working(f"reading {folder}"):
        done = import_xautolm(folder, ExperienceStore(Path(arguments.into)), site=arguments.site)
    if arguments.json:
        print_json(dataclasses.asdict(done))
    else:
        _print_import(done, arguments.into)
    return WITH_FINDINGS if done.refused else DONE


def _print_import(done: PeerImport, into: str) -> None:
    """Say what was read, joined and refused, and why."""
    print(
        f"{done.n_files} files: {done.n_trials} trials, {done.n_joined} records joined with the one of their trial; "
        f"{done.n_new} new in {into}"
    )
    print_plain({name: f"{n['succeeded']} succeeded, {n['failed']} failed" for name, n in done.by_task.items()})
    print_plain({"failures": done.by_kind})
    if done.unknown_models:
        print_plain({"models under their own name": ", ".join(done.unknown_models)})
    if done.refused:
        why = {reason: f"{len(files)}, for instance {files[0]}" for reason, files in done.refused.items()}
        print_plain({"refused": why})
