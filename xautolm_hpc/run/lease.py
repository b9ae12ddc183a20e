"""The lease: one driver at a time works on a run folder.

``lease-<n>`` is created exclusively and names its holder; taking over creates ``lease-<n+1>``. A lease is stale when
its holder is known to be dead on this node, or when its file has not been touched for a while by the file server's own
clock. A driver reads the lease again before everything that must not happen twice.
"""

import os
import re
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

from xautolm_hpc.durable import create_json, write_json
from xautolm_hpc.errors import LeaseLostError, RunFolderError
from xautolm_hpc.jobdir import read_whole
from xautolm_hpc.node import boot_id, node_name, process_started
from xautolm_hpc.records import to_json
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.ledger import read_ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Content of a lease file.

    Attributes:
        token: Random name of the holder.
        node: Node of the driver.
        boot_id: Boot of that node.
        pid: Process of the driver.
        pid_started: Kernel start time of that process, in clock ticks since boot.
        released: Whether the holder gave the lease back.
    """

    token: str
    node: str
    boot_id: str
    pid: int
    pid_started: int
    released: bool = False


SOMEBODY = Holder(token="", node="an unknown node", boot_id="", pid=0, pid_started=0)
"""Holder of a lease that does not say who holds it."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease this process acquired.

    Attributes:
        run_path: The run folder.
        number: Number of the lease; every ledger line carries it.
        holder: This process.
    """

    run_path: Path
    number: int
    holder: Holder

    @classmethod
    def acquire(cls, run_path: Path, *, stale_s: float) -> "Lease":
        """Acquire the run folder, after a dead or silent driver too.

        Args:
            run_path: The run folder.
            stale_s: Seconds of silence after which a driver on another node counts as dead.

        Raises:
            RunFolderError: Another driver works on it.
        """
        newest = newest_lease(run_path)
        if newest > 0:
            _refuse_live_holder(run_path, newest, stale_s=stale_s)
        newest = max(newest, _newest_of_ledger(run_path))
        pid = os.getpid()
        holder = Holder(
            token=uuid.uuid4().hex,
            node=node_name(),
            boot_id=boot_id(),
            pid=pid,
            pid_started=process_started(pid) or 0,
        )
        if not create_json(_lease_path(run_path, newest + 1), to_json(holder)):
            raise RunFolderError(f"another driver took the run folder `{run_path}` at this moment; watch it instead")
        return cls(run_path, newest + 1, holder)

    def check(self) -> None:
        """Make sure that this process still holds the run folder.

        Raises:
            LeaseLostError: Another driver took over, because this one was silent for too long.
        """
        newest = newest_lease(self.run_path)
        holder = _read_holder(self.run_path, newest)
        if newest == self.number and holder is None:
            raise LeaseLostError(
                f"`{_lease_path(self.run_path, newest)}`, by which this driver works on the run, is damaged; it "
                "submits and commits nothing more. Run again"
            )
        if newest != self.number or holder is None or holder.token != self.holder.token:
            raise LeaseLostError(
                f"another driver took `{self.run_path}` over (lease {newest}, this one held {self.number}); "
                "this one submits and commits nothing more"
            )

    def refresh(self) -> None:
        """Show that this process is alive; the file server's clock stamps the file.

        Raises:
            LeaseLostError: Another driver took over.
        """
        self.check()
        os.utime(_lease_path(self.run_path, self.number))

    def release(self) -> None:
        """Release the run folder, unless another driver has taken it already."""
        if newest_lease(self.run_path) == self.number:
            write_json(_lease_path(self.run_path, self.number), to_json(replace(self.holder, released=True)))


def newest_lease(run_path: Path) -> int:
    """Find the highest lease number in a run folder; 0 if there is none."""
    found = (re.fullmatch(r"lease-([0-9]{1,200})", path.name) for path in run_path.iterdir())
    return max((int(match[1]) for match in found if match), default=0)


def live_holder(run_path: Path, *, stale_s: float) -> Holder | None:
    """Find the driver that works on a run folder now, or ``None``.

    A lease that cannot be read may be one that is being written, so somebody holds it until it has been silent.
    """
    newest = newest_lease(run_path)
    if newest == 0:
        return None
    holder = _read_holder(run_path, newest) or SOMEBODY
    if holder.released or _is_dead(holder) or _is_silent(run_path, newest, stale_s=stale_s):
        return None
    return holder


def _refuse_live_holder(run_path: Path, number: int, *, stale_s: float) -> None:
    """Refuse a run folder on which a driver works, or may work."""
    holder = live_holder(run_path, stale_s=stale_s)
    if holder is SOMEBODY:
        raise RunFolderError(
            f"`{_lease_path(run_path, number)}` is damaged: it says which driver works on the run. If none does, wait "
            f"until the file is {stale_s:g} s old, then run again; or remove it"
        )
    if holder is not None:
        raise RunFolderError(
            f"run folder `{run_path}` is in the hands of another driver (lease {number}: pid {holder.pid} on "
            f"{holder.node}). Watch it with `xautolm-hpc status`, or stop that process and run again; a driver on "
            f"another node that died is replaced after {stale_s:g} s of silence"
        )


def _is_dead(holder: Holder) -> bool:
    """Check whether the holder is certainly dead; a process of another node's boot may live."""
    if holder.node != node_name():
        return False
    return holder.boot_id != boot_id() or process_started(holder.pid) != holder.pid_started


def _is_silent(run_path: Path, number: int, *, stale_s: float) -> bool:
    """Check whether a lease was not touched for a while; no driver at work can have touched it in the future."""
    probe = run_path / f".now-{uuid.uuid4().hex[:12]}"
    probe.touch(mode=0o600)
    try:
        silence_s = probe.stat().st_mtime - _lease_path(run_path, number).lstat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
    return abs(silence_s) > stale_s


def _newest_of_ledger(run_path: Path) -> int:
    """Find the lease of the last driver that wrote; lines of a lower one would be taken for those of a dead driver."""
    return max((line["lease"] for line in read_ledger(RunDir(run_path).ledger_path)), default=0)


def _lease_path(run_path: Path, number: int) -> Path:
    return run_path / f"lease-{number}"


def _read_holder(run_path: Path, number: int) -> Holder | None:
    """Read who holds a lease; ``None`` if it is being written or damaged, or gone."""
    return read_whole(Holder, _lease_path(run_path, number))
