"""What a run is: ``run.json`` and the frozen search file, and what may be different when a run goes on.

Once a trial is drawn only little may change. Before that nothing is lost by beginning anew, so a search that failed
on its data or its space is simply run again with the file mended.
"""

import shutil
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from xautolm_hpc import __version__
from xautolm_hpc.clock import Clock, utc_text
from xautolm_hpc.distribution import FrozenPrior
from xautolm_hpc.durable import create_bytes, create_json, read_json, write_json
from xautolm_hpc.errors import RunFolderError
from xautolm_hpc.jobdir import find_end
from xautolm_hpc.records import from_json, to_json
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.lease import Lease
from xautolm_hpc.run.ledger import read_ledger

MAY_CHANGE = ("budget", "profile", "trial.max_attempts")
"""Keys of a search file that may change while its search is under way."""


def open_run(
    run_dir: RunDir, search: Mapping[str, Any], *, source: Path, clock: Clock, lease_stale_s: float
) -> tuple[str, list[str]]:
    """Begin a run in a folder, or find the one that began there.

    Args:
        run_dir: The run folder, created.
        search: The search file's settings as plain data.
        source: The search file, copied beside them as the person wrote it.
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
        "search": dict(search),
    }
    create_bytes(run_dir.path / "search.toml", source.read_bytes())
    if create_json(run_dir.run_path, begun):
        return run_id, []
    known = read_json(run_dir.run_path)
    changes = changed_keys(known["search"], search)
    fixed = [change for change in changes if not may_change(change[0])]
    if fixed and _may_begin_anew(run_dir):
        _forget_beginning(run_dir, lease_stale_s=lease_stale_s)
        return open_run(run_dir, search, source=source, clock=clock, lease_stale_s=lease_stale_s)
    if fixed:
        key, before, after = fixed[0]
        raise RunFolderError(
            f"run folder `{run_dir.path}` holds a search with {key} = {before!r}; the search file now says "
            f"{after!r}. Put it back, or begin a new search with: run --fork NEWNAME. "
            f"May change while a search is under way: {', '.join(MAY_CHANGE)}"
        )
    return known["run_id"], [f"{key}: {before!r} -> {after!r}" for key, before, after in changes]


def began_at(run_dir: RunDir) -> float:
    """Tell when a run began, in seconds since the epoch."""
    return datetime.fromisoformat(read_json(run_dir.run_path)["created_at"]).timestamp()


def keep_changes(run_dir: RunDir, search: Mapping[str, Any]) -> None:
    """Let ``run.json`` say what the run is going on with; the frozen search file stays as it was.

    Args:
        run_dir: The run folder, whose lease the caller holds.
        search: The settings as plain data.
    """
    write_json(run_dir.run_path, {**read_json(run_dir.run_path), "search": dict(search)})


def read_prior(run_dir: RunDir) -> FrozenPrior | None:
    """Read the prior a run began with; ``None`` if it has none yet.

    Raises:
        InputError: The file is damaged.
    """
    if not run_dir.prior_path.exists():
        return None
    return from_json(FrozenPrior, read_json(run_dir.prior_path), where=str(run_dir.prior_path))


def freeze_prior(run_dir: RunDir, prior: FrozenPrior) -> None:
    """Write the prior a run begins with, unless it has one."""
    if not run_dir.prior_path.exists():
        write_json(run_dir.prior_path, to_json(prior))


def _may_begin_anew(run_dir: RunDir) -> bool:
    """Tell whether a run has no trial yet and no job that may still write the split."""
    if any(line["event"] == "drawn" for line in read_ledger(run_dir.ledger_path)):
        return False
    return all(find_end(path) is not None for path in run_dir.path.glob("profile/attempt-*"))


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
    """Tell whether a dotted key of a search file may change while the search is under way."""
    return any(key == free or key.startswith(f"{free}.") for free in MAY_CHANGE)
