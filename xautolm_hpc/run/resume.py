"""What a run is: ``run.json`` and the frozen search file, and what may be different when a run goes on.

Once a trial is drawn only little may change. Before that nothing is lost by beginning anew, so a search that failed
on its data or its space is simply run again with the file mended.

A later version may have other defaults, presets and catalogue entries. A run keeps those it started with in
``run.json``, so that its draws do not change with an upgrade.
"""

import shutil
import uuid
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from xautolm_hpc import __version__
from xautolm_hpc.distribution import FrozenPrior
from xautolm_hpc.durable import create_bytes, create_json, read_json, read_toml_file, write_json
from xautolm_hpc.errors import InputError, RunFolderError
from xautolm_hpc.node import Clock, utc_text
from xautolm_hpc.records import from_json, to_json
from xautolm_hpc.run.attempt_end import read_end
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.lease import Lease
from xautolm_hpc.run.ledger import read_ledger
from xautolm_hpc.run.moved import Moved, find_moved, follow, follow_models
from xautolm_hpc.run.run_file import read_run_file

MAY_CHANGE = ("budget", "profile", "trial.max_attempts")
"""Keys of a search file that may change while its search is under way."""

ADDED_KEYS: Mapping[str, Any] = {
    "constraints.min_steps": 0,
    "data.delimiter": None,
    "trial.at_limit": "fail",
    "trial.early_stopping_min_steps": 0,
    "trial.foretell": "off",
    "trial.step": "eager",
}
"""Dotted key added to search files -> its value in runs that started before the key existed.

Every new key needs an entry here, with the value that matches the earlier behaviour.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Settings and search space of a run, as ``run.json`` stores them.

    Attributes:
        search: All settings as plain data, defaults filled in.
        written: The settings that the user wrote, in the search file or on the command line.
        space: The search space as plain data, including the catalogue entries of its models.
    """

    search: Mapping[str, Any]
    written: Mapping[str, Any]
    space: Mapping[str, Any]


def effective_config(run_dir: RunDir, current: RunConfig) -> RunConfig:
    """Return the configuration a run uses: what it started with, and what the user has written differently since.

    Args:
        run_dir: The run folder, which need not exist.
        current: The configuration by the search file and this version's defaults, presets and catalogue.

    Returns:
        ``current`` for a run that does not exist or starts over; else one that leaves every unwritten setting, and the
        space, as the run started.
    """
    if not run_dir.exists:
        return current
    try:
        stored, _ = _read_config(run_dir, current)
    except RunFolderError:
        if not _may_begin_anew(run_dir):
            raise
        return current
    search = _keep_unwritten(stored.search, current.search, written=(stored.written, current.written))
    if _forbidden(changed_keys(stored.search, search)) and _may_begin_anew(run_dir):
        return current
    return RunConfig(search=search, written=current.written, space=stored.space)


def open_run(
    run_dir: RunDir, config: RunConfig, *, source: Path, clock: Clock, lease_stale_s: float
) -> tuple[str, list[str]]:
    """Begin a run in a folder, or find the one that began there.

    Args:
        run_dir: The run folder, created.
        config: Its configuration, by :func:`effective_config` if the run exists.
        source: The search file, copied into the folder as the user wrote it.
        clock: Time.
        lease_stale_s: Seconds of silence after which a driver on another node counts as dead.

    Returns:
        The run's UUID, and one line for each setting that differs from those it began with.

    Raises:
        RunFolderError: A setting differs that may not change while the search is under way, or it has changed and
            another driver works on the run.
    """
    run_id = str(uuid.uuid4())
    begun = {
        "run_id": run_id,
        "created_at": utc_text(clock.now()),
        "package_version": __version__,
        "stops_unmeasured": True,
        "path": str(run_dir.path),
        **to_json(config),
    }
    create_bytes(run_dir.path / "search.toml", source.read_bytes())
    if create_json(run_dir.run_path, begun):
        return run_id, []
    begin_anew = partial(open_run, run_dir, config, source=source, clock=clock, lease_stale_s=lease_stale_s)
    try:
        stored, moved = _read_config(run_dir, config)
    except RunFolderError:
        if not _may_begin_anew(run_dir):
            raise
        _forget_beginning(run_dir, lease_stale_s=lease_stale_s)
        return begin_anew()
    changes = changed_keys(stored.search, config.search)
    fixed = _forbidden(changes)
    if fixed and _may_begin_anew(run_dir):
        _forget_beginning(run_dir, lease_stale_s=lease_stale_s)
        return begin_anew()
    if fixed:
        key, before, after = fixed[0]
        raise RunFolderError(
            f"run folder `{run_dir.path}` holds a search with {key} = {before!r}; the search file now says "
            f"{after!r}. Put it back, or begin a new search with: run --fork NEWNAME. "
            f"May change while a search is under way: {', '.join(MAY_CHANGE)}"
        )
    lines = [(found.key, found.before, found.after) for found in moved] + changes
    return read_run_file(run_dir).run_id, [f"{key}: {before!r} -> {after!r}" for key, before, after in lines]


def store_config(run_dir: RunDir, config: RunConfig) -> None:
    """Write the configuration a run uses to ``run.json``; the frozen search file does not change.

    Args:
        run_dir: The run folder, whose lease the caller holds.
        config: The configuration.
    """
    read_run_file(run_dir)
    stored = read_json(run_dir.run_path)
    updated = {**stored, **to_json(config), "path": str(run_dir.path)}
    if updated != stored:
        write_json(run_dir.run_path, updated)


def _read_config(run_dir: RunDir, current: RunConfig) -> tuple[RunConfig, list[Moved]]:
    """Read the configuration a run started with; what earlier versions did not store is filled in.

    Returns:
        It, with every path that is written as it was then leading to where it leads now; and these paths.
    """
    stored = read_run_file(run_dir)
    search = deepcopy(dict(stored.search))
    for key, value in ADDED_KEYS.items():
        if value is None:
            continue  # which is what an absent key has
        *sections, last = key.split(".")
        section = search
        for name in sections:
            section = section.setdefault(name, {})
        section.setdefault(last, value)
    written = stored.written
    if written is None:
        # Settings from the command line alone are unknown here; for those that may change, the current file counts.
        file = _read_frozen_file(run_dir.path / "search.toml")
        written = {**file, "budget": search["budget"], "profile": search["profile"]}
    moved = find_moved(search, current.search, written=(written, current.written))
    space = follow_models(current.space if stored.space is None else stored.space, moved)
    return RunConfig(search=follow(search, moved), written=written, space=space), moved


def _read_frozen_file(path: Path) -> dict[str, Any]:
    """Read the search file that a run began with."""
    try:
        return read_toml_file(path)
    except (OSError, InputError) as error:
        raise RunFolderError(f"{error}. It is the search file that the run began with: put it back") from error


def _keep_unwritten(
    stored: Mapping[str, Any], current: Mapping[str, Any], *, written: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Merge the settings: those that the user wrote, then or now, as they are now, all others as they are stored."""
    kept = dict(current)
    for key in stored.keys() & current.keys():
        before, after = stored[key], current[key]
        found = [settings[key] for settings in written if key in settings]
        if not found:
            kept[key] = before
        elif isinstance(before, dict) and isinstance(after, dict):
            kept[key] = _keep_unwritten(before, after, written=found)
    return kept


def _forbidden(changes: Sequence[tuple[str, Any, Any]]) -> list[tuple[str, Any, Any]]:
    """List the changes that are not allowed while the search is under way."""
    return [change for change in changes if not may_change(change[0])]


def read_prior(run_dir: RunDir) -> FrozenPrior | None:
    """Read the prior a run began with; ``None`` if it has none yet.

    Raises:
        RunFolderError: The file is damaged.
    """
    path = run_dir.prior_path
    try:
        return from_json(FrozenPrior, read_json(path), where=f"`{path}`")
    except FileNotFoundError:
        return None
    except (OSError, InputError) as error:
        raise RunFolderError(
            f"{error}. It holds the prior that the search began with; its store has learnt since. Restore it from a "
            "backup, or begin a new search with: run --fork NEWNAME. A run without trials makes it again"
        ) from error


def freeze_prior(run_dir: RunDir, prior: FrozenPrior) -> None:
    """Write the prior a run begins with, unless it has one."""
    if not run_dir.prior_path.exists():
        write_json(run_dir.prior_path, to_json(prior))


def known_run_id(run_dir: RunDir) -> str | None:
    """Read the UUID of a run; ``None`` if there is none, or one that is damaged and begins anew.

    Raises:
        RunFolderError: ``run.json`` is damaged and the run has trials.
    """
    if not run_dir.exists:
        return None
    try:
        return read_run_file(run_dir).run_id
    except RunFolderError:
        if not _may_begin_anew(run_dir):
            raise
        return None


def has_trials(run_dir: RunDir) -> bool:
    """Check whether a run, which need not exist, has drawn a trial."""
    return any(line["event"] == "drawn" for line in read_ledger(run_dir.ledger_path))


def _may_begin_anew(run_dir: RunDir) -> bool:
    """Check whether a run has no trial yet and no job that may still write the split."""
    if has_trials(run_dir) or run_dir.run_path.is_dir():
        return False
    return all(read_end(path) is not None for path in run_dir.profile_attempt_dirs())


def _forget_beginning(run_dir: RunDir, *, lease_stale_s: float) -> None:
    """Remove what a search left that came to no trial; ``run.json`` goes last, so that it can be done again.

    The profile job's folder stays: the wrapper in it may still be saying how it ended.
    """
    lease = Lease.acquire(run_dir.path, stale_s=lease_stale_s)
    try:
        shutil.rmtree(run_dir.data_dir, ignore_errors=True)
        for path in (run_dir.ledger_path, run_dir.prior_path, run_dir.path / "search.toml", run_dir.run_path):
            path.unlink(missing_ok=True)
    finally:
        lease.release()


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
    """Check whether a dotted key of a search file may change while the search is under way."""
    return any(key == free or key.startswith(f"{free}.") for free in MAY_CHANGE)
