"""Checks whether Slurm can limit a job's memory here: then a job that uses too much does not go on.

Of version 1 of the control groups the memory controller alone is needed, and the job ends as OUT_OF_MEMORY. Version 2
needs a hierarchy that no systemd manages: Slurm 22.05 is told to do without (``IgnoreSystemd``); its job is FAILED.
"""

import contextlib
import os
import uuid
from collections.abc import Iterable
from pathlib import Path

CONTROLLER_DIR = Path("/sys/fs/cgroup/memory")
UNIFIED_DIR = Path("/sys/fs/cgroup")
SYSTEMD_DIR = Path("/run/systemd/system")
SLICE = "system.slice"
"""The group below which Slurm makes those of its nodes, in version 2."""

CONTROLLERS = ("cpuset", "cpu", "memory", "pids")


def version() -> int:
    """Return the version of this machine's control groups: 2 if its root lists controllers, else 1."""
    return 2 if (UNIFIED_DIR / "cgroup.controllers").exists() else 1


def reason_against() -> str | None:
    """Find why memory cannot be limited; ``None`` if it can."""
    if version() == 1:
        return _reason_against_dir(CONTROLLER_DIR)
    if SYSTEMD_DIR.exists():
        return "systemd manages the control groups (version 2)"
    lacking = set(CONTROLLERS) - set((UNIFIED_DIR / "cgroup.controllers").read_text().split())
    if lacking:
        return f"`{UNIFIED_DIR}` (version 2) has no controllers {', '.join(sorted(lacking))}"
    return _reason_against_group(UNIFIED_DIR) or _reason_against_delegating()


def _reason_against_delegating() -> str | None:
    """Try to delegate: Linux refuses in a container whose own processes are in the group that it takes for the root."""
    try:
        delegate()
    except OSError as error:
        return f"`{UNIFIED_DIR}` (version 2) cannot limit groups below it: {error.strerror}"
    return None


def _reason_against_dir(controller_dir: Path) -> str | None:
    limit_path = controller_dir / "memory.limit_in_bytes"
    if not limit_path.exists():
        return f"no memory controller of cgroup version 1 at `{controller_dir}`"
    return _reason_against_group(controller_dir, limit=limit_path.name)


def _reason_against_group(parent_dir: Path, *, limit: str | None = None) -> str | None:
    """Make a group, set its limit if it has one, and remove it."""
    trial_dir = parent_dir / f"slurm-dev-trial-{uuid.uuid4().hex[:12]}"  # others may try at the same time
    try:
        trial_dir.mkdir()
        if limit is not None:
            (trial_dir / limit).write_text(str(2**30))
    except OSError as error:
        return f"`{parent_dir}` is not writable: {error.strerror}"
    finally:
        _remove(trial_dir)
    return None


def delegate() -> None:
    """Let groups below Slurm's slice have limits, in version 2; the slice is made where there is none."""
    if version() == 1:
        return
    slice_dir = UNIFIED_DIR / SLICE
    slice_dir.mkdir(exist_ok=True)
    for group_dir in (UNIFIED_DIR, slice_dir):
        (group_dir / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in CONTROLLERS))


def remove_groups(node_names: Iterable[str], job_ids: range) -> None:
    """Remove the control groups that a cluster's jobs left; nodes of another cluster may have the same names."""
    names = list(node_names)
    for node_dir in [CONTROLLER_DIR / f"slurm_{name}" for name in names]:
        for job_dir in node_dir.glob("uid_*/job_*"):
            if int(job_dir.name.removeprefix("job_")) in job_ids:
                _remove_tree(job_dir)
        for empty_dir in [*node_dir.glob("uid_*"), node_dir]:
            _remove(empty_dir)
    for node_dir in [UNIFIED_DIR / SLICE / f"{name}_slurmstepd.scope" for name in names]:
        _remove_tree(node_dir)
    _remove(UNIFIED_DIR / SLICE)


def _remove_tree(top_dir: Path) -> None:
    for group, _, _ in os.walk(top_dir, topdown=False):
        _remove(Path(group))


def _remove(group_dir: Path) -> None:
    """Remove a control group; Linux refuses while it is not empty."""
    with contextlib.suppress(OSError):
        group_dir.rmdir()
