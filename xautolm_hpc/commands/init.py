"""``init``: write a search file for some data, or a cluster profile for this machine."""

import argparse
import re
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path

from xautolm_hpc.commands.init_data import FoundData, find_new_data, name_options
from xautolm_hpc.commands.init_profile import profile_text
from xautolm_hpc.commands.init_settings import choose_settings
from xautolm_hpc.commands.init_text import (
    NewSearch,
    describe_budget,
    describe_columns,
    describe_fetch,
    describe_rows,
    search_text,
    unread_texts,
)
from xautolm_hpc.commands.output_file import check_output
from xautolm_hpc.commands.plan import planned_system
from xautolm_hpc.config import load_profile, load_search
from xautolm_hpc.driver.inputs import find_hf_home
from xautolm_hpc.durable import write_bytes
from xautolm_hpc.errors import DataError, InputError
from xautolm_hpc.jobdir import ProfileRequest, ProfileResult
from xautolm_hpc.node import measure_system
from xautolm_hpc.profile import profile_task
from xautolm_hpc.profile.guess import DataGuess, guess_data
from xautolm_hpc.run.folder import check_run_name

GUESSED = ("kind", "text", "label", "question", "context", "answers", "delimiter")
"""Options that say what else would be guessed."""
FILE_MODE = 0o644


def run(arguments: argparse.Namespace) -> int:
    """Write a search file or a cluster profile, and show what to do with it.

    Raises:
        InputError: Neither data nor ``--profile`` is given, or both, or the file cannot be written.
        DataError: The data cannot be read, or it is not clear what it is; with the options that say it.
    """
    if arguments.data is not None and arguments.profile:
        raise InputError("init: give the data or --profile, not both: a search file and a profile are two files")
    if arguments.data is None and not arguments.profile:
        raise InputError("init: give the data, a file, a folder or a data set of the hub; or --profile")
    if arguments.profile:
        return _write_profile(arguments)
    try:
        return _write_search(arguments)
    except DataError as error:
        raise DataError(name_options(str(error))) from error


def _write_profile(arguments: argparse.Namespace) -> int:
    """Write a cluster profile for the cluster of this login node, or for this machine."""
    path = check_output(_named(arguments.to, "cluster.toml"), force=arguments.force)
    text, notes = profile_text(arguments.environ)
    _write(path, text)
    load_profile(path)
    return _show([f"wrote {path}", *notes, f"next: xautolm-hpc doctor {shlex.quote(str(path))}"])


def _write_search(arguments: argparse.Namespace) -> int:
    """Write a search file."""
    profile_path = Path(arguments.cluster) if arguments.cluster else None
    name = arguments.name or _name_of(arguments.data)
    check_run_name(name, where="--name")
    inputs = [Path(arguments.data).expanduser(), *([profile_path] if profile_path else [])]
    path = check_output(_named(arguments.to, f"{name}.toml"), inputs=inputs, force=arguments.force)
    profile = load_profile(profile_path)
    hf_home = find_hf_home(profile, arguments.environ)
    given = {name: getattr(arguments, name) for name in GUESSED if getattr(arguments, name) is not None}
    found = find_new_data(arguments.data, arguments.revision, hf_home=hf_home, environ=arguments.environ)
    guess = guess_data(found.path, found.files, given=given)
    profiled = _profile_data(guess, found, name=name, environ=arguments.environ)
    system = planned_system(profile, profiled.system)
    settings = choose_settings(profiled.task, arguments.effort, profile=profile, system=system, hf_home=hf_home)
    new = NewSearch(
        path=path,
        name=name,
        guess=guess,
        hub=found.hub,
        task=profiled.task,
        majority_f1=profiled.majority_f1,
        notes=profiled.notes,
        profile=profile_path,
        effort=arguments.effort,
        settings=settings,
    )
    _write(path, search_text(new))
    load_search(path)
    typed = shlex.quote(str(path))
    fetch = [f"xautolm-hpc prefetch {typed}"] if settings.is_to_fetch else []
    following = [
        *fetch, f"xautolm-hpc run {typed}", f"xautolm-hpc report {name}",
        f"xautolm-hpc export-model {name} best --to {name}-model",
    ]  # fmt: skip
    seen = [describe_columns(new), *unread_texts(guess), describe_rows(new), *profiled.notes]
    to_fetch = describe_fetch(settings)
    return _show(
        [
            *seen, describe_budget(new), f"wrote {path}", *([to_fetch] if to_fetch else ()),
            *(f"next: {command}" for command in following),
        ]
    )  # fmt: skip


def _profile_data(guess: DataGuess, found: FoundData, *, name: str, environ: Mapping[str, str]) -> ProfileResult:
    """Read, divide and measure the data as a run will, and this machine.

    Raises:
        InputError: A package that reads the data is not installed here.
    """
    system = measure_system("local", "local", visible_gpus=environ.get("CUDA_VISIBLE_DEVICES"))
    with tempfile.TemporaryDirectory(prefix="xautolm-init-") as folder:
        request = ProfileRequest(
            task_name=name,
            task_kind=guess.kind,
            data_path=str(guess.path),
            data_files=found.files,
            text_column=guess.columns.get("text", "text"),
            label_column=guess.columns.get("label", "label"),
            question_column=guess.columns.get("question", "question"),
            context_column=guess.columns.get("context", "context"),
            answers_column=guess.columns.get("answers", "answers"),
            train_rows=None,
            validation_rows=None,
            test_rows=None,
            split_seed=13,
            data_dir=f"{folder}/data",
            cache_dir=f"{folder}/cache",
            delimiter=guess.delimiter,
        )
        return profile_task(request, system=system)


def _name_of(data: str) -> str:
    """Make a name of that of the data: of a data set of the hub, without its owner."""
    path = Path(data).expanduser()
    stem = path.resolve().name.partition(".")[0] if path.exists() else data.rpartition("/")[2]
    return re.sub(r"[^\w-]+", "-", stem, flags=re.ASCII).strip("-_") or "search"


def _named(to: str | None, usual: str) -> str:
    return usual if to is None else to


def _write(path: Path, text: str) -> None:
    write_bytes(path, text.encode())
    path.chmod(FILE_MODE)


def _show(lines: list[str]) -> int:
    for line in lines:
        print(line)
    return 0
