"""Checks of this machine: the run folder's file system, room, clocks, interpreters, models, energy counters."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xautolm_hpc.doctor.site import Site
from xautolm_hpc.durable import create_json, fsync_dir, write_json
from xautolm_hpc.errors import RunFolderError
from xautolm_hpc.node import list_gpus
from xautolm_hpc.run.folder import check_runs_path
from xautolm_hpc.view import Finding, failure, ok, warning

LARGEST_SKEW_S = 5.0
LEAST_FREE_BYTES, LITTLE_FREE_BYTES = 2**26, 5 * 2**30
LEAST_FREE_FILES = 1_000
QUOTA_TIMEOUT_S = 20.0
RAPL_PATH = Path("/sys/class/powercap/intel-rapl:0/energy_uj")
ELSEWHERE = "give another folder with --runs-dir, on a shared file system that programs may write"
WITHOUT_COUNTERS = (
    "neither NVML nor RAPL can be read: energy will be unknown; leave it out of objectives and budget, or let the "
    "administrator make /sys/class/powercap/*/energy_uj readable"
)


def check_operations(site: Site) -> list[Finding]:
    """Try what a run rests on: write and flush, rename, link without overwriting."""
    name = "run folder's file system"
    try:
        check_runs_path(site.runs_dir)
    except RunFolderError as error:
        return [failure("run folder's path", str(error), remedy="give another folder with --runs-dir")]
    with _probe_folder(site) as folder:
        try:
            write_json(folder / "renamed", {"by": "doctor"})
            fsync_dir(folder)
            first, second = (create_json(folder / "linked", {"n": n}) for n in range(2))
        except OSError as error:
            found = f"`{site.runs_dir}`: {error.strerror} (fsync, rename or link)"
            return [failure(name, found, remedy=ELSEWHERE)]
    if first and not second:
        return [ok(name, f"`{site.runs_dir}`: fsync, rename and link work")]
    found = f"`{site.runs_dir}`: a link over an existing file was not refused, so two jobs could run one attempt"
    return [failure(name, found, remedy=ELSEWHERE)]


def check_clock(site: Site) -> list[Finding]:
    """Compare the clock of the file server with this machine's."""
    with _probe_folder(site) as folder:
        stamped = folder / "stamp"
        stamped.touch()
        skew_s = stamped.stat().st_mtime - time.time()
    return [skew_finding("clock of the file server", skew_s, other="this machine")]


def skew_finding(check: str, skew_s: float, *, other: str) -> Finding:
    """Judge by how much two clocks differ.

    Args:
        check: Name of the check.
        skew_s: Difference, in seconds.
        other: The other clock's machine.
    """
    if abs(skew_s) <= LARGEST_SKEW_S:
        return ok(check, f"differs from that of {other} by {abs(skew_s):.1f} s")
    found = f"differs from that of {other} by {skew_s:+.0f} s, so elapsed and queue times are wrong by as much"
    return warning(check, found, remedy="ask the cluster's support to set the clocks")


def check_space(site: Site) -> list[Finding]:
    """Check how much space the run folder's file system has."""
    status, free_bytes = os.statvfs(site.runs_dir), _free_bytes(site)
    n_free = status.f_favail
    found = f"{free_bytes / 2**30:,.1f} GiB free"
    remedy = "make room, or give another folder with --runs-dir"
    if free_bytes < LEAST_FREE_BYTES:
        return [failure("free space", found, remedy=remedy)]
    if status.f_files and n_free < LEAST_FREE_FILES:
        return [failure("free space", f"{found}, but room for {n_free} more files only", remedy=remedy)]
    if free_bytes < LITTLE_FREE_BYTES:
        return [warning("free space", f"{found}; `xautolm-hpc plan` says what a search takes", remedy=remedy)]
    return [ok("free space", found)]


def _free_bytes(site: Site) -> int:
    status = os.statvfs(site.runs_dir)
    return status.f_bavail * status.f_frsize


def check_writable(site: Site) -> list[Finding]:
    """Write some of the space that seems free: a quota shows in no figure of the file system, but refuses this."""
    if _free_bytes(site) < LEAST_FREE_BYTES:
        return []  # reported already
    with _probe_folder(site) as folder, (folder / "room").open("wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, LEAST_FREE_BYTES)
        except OSError as error:
            found = f"{LEAST_FREE_BYTES / 2**20:.0f} MiB cannot be written in `{site.runs_dir}`: {error.strerror}"
            return [failure("quota", found, remedy="make room, or give another folder with --runs-dir")]
    return []


def check_quota(site: Site) -> list[Finding]:
    """Ask ``quota``, and on Lustre ``lfs quota``, where there is one, whether this user is over it."""
    asked = {
        "quota": _ask_quota(site, "quota", "-q"),
        "lfs quota": _ask_quota(site, "lfs", "quota", "-q", "-u", str(os.getuid()), str(site.runs_dir)),
    }
    over = {
        "quota": asked["quota"],  # with -q it prints only limits that are exceeded
        "lfs quota": asked["lfs quota"] if "*" in (asked["lfs quota"] or "") else "",
    }
    remedy = "make room, or give another folder with --runs-dir"
    if found := [warning("quota", f"{name}: {words}", remedy=remedy) for name, words in over.items() if words]:
        return found
    known = " and ".join(f"`{name}`" for name, words in asked.items() if words is not None)
    return [ok("quota", f"not exceeded, as far as {known} knows")] if known else []


def _ask_quota(site: Site, *command: str) -> str | None:
    """Run a command that prints quotas; ``None`` if it is not there or fails."""
    program = shutil.which(command[0], path=site.inputs.environ.get("PATH"))
    if program is None:
        return None
    try:
        asked = subprocess.run(
            [program, *command[1:]], capture_output=True, text=True, timeout=QUOTA_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = " ".join(asked.stdout.split())
    return words if words or asked.returncode == 0 else None


def check_interpreters(site: Site) -> list[Finding]:
    """Check whether this machine can run the interpreters; the job check does that on a node."""
    profile = site.profile
    named = {"driver_python": profile.driver_python, "worker_python": profile.worker_python}
    return [_interpreter(key, path, site=site) for key, path in named.items() if path is not None]


def _interpreter(key: str, path: str, *, site: Site) -> Finding:
    if shutil.which(path, path=site.inputs.environ.get("PATH")) is not None:
        return ok(key, f"`{path}` can be run here")
    why = "cannot be run" if Path(path).exists() else "does not exist"
    remedy = f"set {key} in the profile to a Python that this machine and every node see and may run"
    if not site.is_slurm:
        return failure(key, f"`{path}` {why}", remedy=remedy)
    return warning(key, f"`{path}` {why} on this machine", remedy=f"{remedy}; `doctor --job` asks a node")


def check_models(site: Site) -> list[Finding]:
    """Check that the cache of models is there: nodes fetch nothing."""
    named = site.profile.hf_home
    if named is None:
        return []
    if Path(named).is_dir():
        return [ok("hf_home", f"`{named}` is there")]
    return [failure("hf_home", f"`{named}` does not exist", remedy="set hf_home in the profile to the cache of models")]


def check_counters(site: Site) -> list[Finding]:
    """Check for energy counters where trials run on this machine; on a cluster a job must look."""
    if site.is_slurm:
        return []
    gpus, _, _ = list_gpus(site.inputs.environ.get("CUDA_VISIBLE_DEVICES"))
    has_rapl = os.access(RAPL_PATH, os.R_OK)
    if gpus or has_rapl:
        parts = [f"NVML of {len(gpus)} GPUs"] * bool(gpus) + ["RAPL of the CPUs"] * has_rapl
        return [ok("energy counters", " and ".join(parts))]
    return [ok("energy counters", WITHOUT_COUNTERS)]


@contextmanager
def runs_folder(path: Path) -> Iterator[Path]:
    """Open the folder of run folders; one made for this is removed again if it stays empty.

    Args:
        path: Absolute path.

    Raises:
        RunFolderError: It cannot be made or written.
    """
    was_there = path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise RunFolderError(f"`{path}` cannot be written: {error.strerror}. Give another with --runs-dir") from error
    try:
        yield path
    finally:
        if not was_there and not any(path.iterdir()):
            path.rmdir()


@contextmanager
def _probe_folder(site: Site) -> Iterator[Path]:
    """Make a folder beside the runs for a short time."""
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=site.runs_dir) as folder:
        yield Path(folder)
