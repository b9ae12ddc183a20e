"""``store export|import|import-xautolm``: exchange experiences with other programs and sites."""

import argparse
import dataclasses
from pathlib import Path

from xautolm_hpc.commands.store_shared import (
    DONE,
    WITH_FINDINGS,
    as_json,
    limits_of,
    open_store,
    print_json,
    print_plain,
    report_findings,
    working,
)
from xautolm_hpc.commands.store_verbs import FILTERS, FORMATS, STORE_FORMATS
from xautolm_hpc.errors import InputError
from xautolm_hpc.priors.refused import find_refusal
from xautolm_hpc.store import (
    FORMAT,
    NO_LOSSES,
    WRITERS,
    Copied,
    ExperienceStore,
    ReferenceImport,
    copy_store,
    import_xautolm,
    locate_store,
    read_jsonl,
    redacted,
)


def run(arguments: argparse.Namespace) -> int:
    """Run one of the commands that exchange experiences.

    Raises:
        InputError: There is nothing to read, or an option does not fit the format.
        StoreError: A store could not be read or written.
    """
    verbs = {"export": _export, "import": _import, "import-xautolm": _import_xautolm}
    return verbs[arguments.store_verb](arguments)


def _export(arguments: argparse.Namespace) -> int:
    """Write experiences to a file or to a new store."""
    to = Path(arguments.to)
    found = arguments.format or _format_of(to)
    filters = {name: getattr(arguments, name) for name in FILTERS if getattr(arguments, name) is not None}
    is_store = found in ("store", *STORE_FORMATS)
    if is_store and filters:
        raise InputError(
            f"--{next(iter(filters)).replace('_', '-')}: a store is exported whole; valid for the other formats"
        )
    store = open_store(arguments)
    with working(f"writing {to}"):
        if is_store:
            copied = copy_store(
                store.path,
                to,
                is_redacted=arguments.redact,
                format_version=FORMAT if found == "store" else int(found),
                limits=limits_of(arguments),
            )
        else:
            records = store.read(**filters)
            WRITERS[found]([redacted(e) for e in records] if arguments.redact else records, to)
            copied = Copied(n_experiences=len(records), losses=NO_LOSSES, findings=store.findings)
    if arguments.json:
        plain = dataclasses.asdict(copied.losses) | {"findings": as_json(copied.findings)}
        print_json({"n_experiences": copied.n_experiences, "format": found, **plain})
    else:
        _print_export(copied, to, written_as=f"format {found}" if found in STORE_FORMATS else found)
    return report_findings(copied.findings)


def _print_export(copied: Copied, to: Path, *, written_as: str) -> None:
    """Print what was written, and what the format of the copy cannot say."""
    losses = copied.losses
    print(f"{copied.n_experiences} experiences in {to} ({written_as})")
    for why, n in losses.left_out.items():
        print(f"{n} left out: {written_as} has no word for {why!r}")
    for kind, n in losses.as_lost.items():
        print(f"{n} written as 'lost': {written_as} has no word for {kind!r}; their messages begin with it")
    if losses.n_shortened:
        print(f"{losses.n_shortened} written without the fields that {written_as} lacks: they are unknown there")


def _format_of(to: Path) -> str:
    """Choose the format by the ending of a path.

    Raises:
        InputError: No format has this ending.
    """
    ending = to.suffix[1:].lower()
    if ending in WRITERS:
        return ending
    if ending in ("", "h5") or to.is_dir():
        return "store"
    valid = ", ".join(f".{name}" for name in WRITERS)
    raise InputError(
        f"--to {to}: unknown format {to.suffix!r}; valid: {valid}, and a folder or .h5 for a store. "
        f"Another ending needs --format: {', '.join(FORMATS)}"
    )


def _target(arguments: argparse.Namespace) -> ExperienceStore:
    """Return the store to add to, after a check that it is one or can be made."""
    store = ExperienceStore(locate_store(arguments.into))
    store.check_place()
    return store


def _import(arguments: argparse.Namespace) -> int:
    """Add experiences from JSON lines to a store; all of them or none."""
    into = _target(arguments)
    with working(f"reading {len(arguments.files)} files"):
        records = [e for name in arguments.files for e in read_jsonl(Path(name))]
        n_new = into.append(records, is_own=False).n_new
    refused = {e.id: reason for e in records if (reason := find_refusal(e)) is not None}
    if arguments.json:
        print_json({"n_experiences": len(records), "n_new": n_new, "refused_hyperparameters": refused})
        return DONE
    print(f"{len(records)} experiences, {n_new} new in {arguments.into}")
    if refused:
        print(f"{len(refused)} of them are no evidence, because the rules refuse their hyperparameters:")
        print_plain(refused)
    return DONE


def _import_xautolm(arguments: argparse.Namespace) -> int:
    """Add the experiences that the authors of XAutoLM released to a store."""
    folder, into = Path(arguments.folder), _target(arguments)
    with working(f"reading {folder}"):
        done = import_xautolm(folder, into, site=arguments.site)
    if arguments.json:
        print_json(dataclasses.asdict(done))
    else:
        _print_import(done, arguments.into)
    return WITH_FINDINGS if done.refused else DONE


def _print_import(done: ReferenceImport, into: str) -> None:
    """Print what was read, joined and rejected, and why."""
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
