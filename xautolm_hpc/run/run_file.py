"""``run.json``: what a run is. It is written when the run begins, and again when a driver goes on with it."""

import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from xautolm_hpc.durable import read_json
from xautolm_hpc.errors import InputError, RunFolderError, quoted
from xautolm_hpc.records import T, from_json
from xautolm_hpc.run.folder import RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFile:
    """The content of ``run.json``.

    Attributes:
        run_id: UUID of the run.
        created_at: When it began, ISO 8601.
        search: All settings as plain data, paths absolute.
        written: The settings as the user wrote them; ``None`` in runs of the first versions. Likewise ``space``.
        space: The search space as plain data.
        stops_unmeasured: Whether the run ends when its trials show that its objectives or budget cannot be measured.
            Runs that began before the key existed only warn.
        path: The run folder when a driver last began; ``None`` in runs of earlier versions.
    """

    run_id: str
    created_at: str
    search: Mapping[str, Any]
    written: Mapping[str, Any] | None = None
    space: Mapping[str, Any] | None = None
    stops_unmeasured: bool = False
    path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    """What is read of the settings without checking them all: they may be those of a later version."""

    name: str
    profile: str | None
    search: Mapping[str, Any]
    budget: Mapping[str, Any]


def read_run_file(run_dir: RunDir) -> RunFile:
    """Read what a run is.

    Raises:
        RunFolderError: The file is damaged; nothing else holds what it says.
    """
    where = f"`{run_dir.run_path}`"
    try:
        data = read_json(run_dir.run_path)
        found = _known(RunFile, data, where=where)
        settings = _known(_Settings, found.search, where=f"{where}: search")
        from_json(_Objectives, {"objectives": settings.search.get("objectives")}, where=f"{where}: search.search")
        _began_at(found, where=where)
    except (OSError, InputError) as error:
        raise RunFolderError(
            f"{error}. It holds the run's identity, settings and search space, which nothing else does: restore it "
            "from a backup, or begin a new search with: run --fork NEWNAME"
        ) from error
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Objectives:
    objectives: tuple[str, ...]


def began_at(run_dir: RunDir) -> float:
    """Read when a run began, in seconds since the epoch."""
    return _began_at(read_run_file(run_dir), where=f"`{run_dir.run_path}`")


def stops_unmeasured(run_dir: RunDir) -> bool:
    """Return whether a run ends when its trials show that its objectives or budget cannot be measured."""
    return read_run_file(run_dir).stops_unmeasured


def profile_path(run_dir: RunDir) -> Path | None:
    """Find the cluster profile that a run was last started with, which may have been moved together with it."""
    found = read_run_file(run_dir)
    written = found.search["profile"]
    if written is None or Path(written).exists() or found.path is None:
        return None if written is None else Path(written)
    beside = Path(os.path.normpath(run_dir.path / os.path.relpath(written, found.path)))
    return beside if beside.exists() else Path(written)


def _known(record_type: type[T], data: object, *, where: str) -> T:
    """Read the fields that this version knows."""
    names = set(typing.get_type_hints(record_type))
    known = {key: data[key] for key in data.keys() & names} if isinstance(data, dict) else data
    return from_json(record_type, known, where=where)


def _began_at(found: RunFile, *, where: str) -> float:
    try:
        return datetime.fromisoformat(found.created_at).timestamp()
    except (ValueError, OverflowError) as error:
        raise InputError(f"{where}: created_at is {quoted(found.created_at)}; expected a time") from error
