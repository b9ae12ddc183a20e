"""What a run is: ``run.json`` and the frozen search file, and what may be different when a run goes on."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xautolm_hpc import __version__
from xautolm_hpc.clock import Clock, utc_text
from xautolm_hpc.durable import create_bytes, create_json, read_json
from xautolm_hpc.errors import RunFolderError
from xautolm_hpc.jobdir import RunDir

MAY_CHANGE = ("budget", "profile", "trial.max_attempts")
"""Keys of a search file that may change while its search is under way."""


def open_run(run_dir: RunDir, search: Mapping[str, Any], *, source: Path, clock: Clock) -> tuple[str, list[str]]:
    """Begin a run in a folder, or find the one that began there.

    Args:
        run_dir: The run folder, created.
        search: The search file's settings as plain data.
        source: The search file, copied beside them as the person wrote it.
        clock: Time.

    Returns:
        The run's UUID, and one line for each setting that differs from those it began with.

    Raises:
        RunFolderError: A setting differs that may not change while the search is under way.
    """
    run_id = str(uuid.uuid4())
    begun = {
        "run_id": run_id,
        "created_at": utc_text(clock.now()),
        "package_version": __version__,
        "search": dict(search),
    }
    create_bytes(run_dir.path / "search.toml", source.read_bytes())
    if create_json(run_dir.run_path, begun):
        return run_id, []
    known = read_json(run_dir.run_path)
    changes = changed_keys(known["search"], search)
    fixed = [change for change in changes if not may_change(change[0])]
    if fixed:
        key, before, after = fixed[0]
        raise RunFolderError(
            f"run folder `{run_dir.path}` holds a search with {key} = {before!r}; the search file now says "
            f"{after!r}. Put it back, or begin a new search with: run --fork NEWNAME. "
            f"May change while a search is under way: {', '.join(MAY_CHANGE)}"
        )
    return known["run_id"], [f"{key}: {before!r} -> {after!r}" for key, before, after in changes]


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any], *, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """List what differs between two settings: (dotted key, old value, new value), by key."""
    changes: list[tuple[str, Any, Any]] = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changes += changed_keys(before, after, prefix=f"{prefix}{key}.")
        elif before != after:
            changes.append((f"{prefix}{key}", before, after))
    return changes


def may_change(key: str) -> bool:
    """Tell whether a dotted key of a search file may change while the search is under way."""
    return any(key == free or key.startswith(f"{free}.") for free in MAY_CHANGE)
