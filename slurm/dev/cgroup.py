"""Checks whether Slurm can limit a job's memory here: then a job that uses too much ends as OUT_OF_MEMORY.

Slurm 22.05 needs systemd for version 2 of the control groups; without it only version 1 does.
"""

import contextlib
import os
import uuid
from collections.abc import Iterable
from pathlib import Path

CONTROLLER_DIR = Path("/sys/fs/cgroup/memory")


def reason_against() -> str | None:
    """Find why memory cannot be limited; ``None`` if it can."""
    limit_path = CONTROLLER_DIR / "memory.limit_in_bytes"
    if not limit_path.exists():
        return f"no memory controller of cgroup version 1 at `{CONTROLLER_DIR}`"
    trial_dir = CONTROLLER_DIR / f"slurm-dev-trial-{uuid.uuid4().hex[:12]}"  # others may try at the same time
    try:
        trial_dir.mkdir()
        (trial_dir / limit_path.name).write_text(str(2**30))
    except OSError as error:
        return f"`{CONTROLLER_DIR}` is not writable: {error.strerror}"
    finally:
        _remove(trial_dir)
    return None


def remove_groups(node_names: Iterable[str], job_ids: range) -> None:
    """Remove the control groups that a cluster's jobs left; nodes of another cluster may have the same names."""
    for node_dir in [CONTROLLER_DIR / f"slurm_{name}" for name in node_names]:
        for job_dir in node_dir.glob("uid_*/job_*"):
            if int(job_dir.name.removeprefix("job_")) in job_ids:
                for group, _, _ in os.walk(job_dir, topdown=False):
                    _remove(Path(group))
        for empty_dir in [*node_dir.glob("uid_*"), node_dir]:
            _remove(empty_dir)


def _remove(group_dir: Path) -> None:
    """Remove a control group; Linux refuses while it is not empty."""
    with contextlib.suppress(OSError):
        group_dir.rmdir()
