"""The journal: every deed goes to the ledger on disk first, then into the history in memory."""

from typing import Any

from xautolm_hpc.node import Clock
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.history import History
from xautolm_hpc.run.lease import Lease
from xautolm_hpc.run.ledger import Ledger, read_ledger
from xautolm_hpc.view import Spent


class Journal:
    """What happened in a run, and the pen to write on with.

    Args:
        run_dir: The run folder.
        lease: The lease on it.
        clock: Time.
    """

    def __init__(self, run_dir: RunDir, lease: Lease, *, clock: Clock) -> None:
        """Read the ledger into a history."""
        self.run_dir = run_dir
        self.lease = lease
        self.clock = clock
        self.history = History(run_dir)
        self._ledger = Ledger(run_dir.ledger_path, lease.number)
        for line in read_ledger(run_dir.ledger_path):
            self.history.apply(line)

    def record(self, event: str, **fields: Any) -> None:
        """Write one event down.

        Raises:
            LeaseLostError: Another driver took over; nothing was written.
        """
        self.lease.check()
        self.history.apply(self._ledger.append(event, self.clock.now(), **fields))

    def spent(self) -> Spent:
        """Add up what the run has cost until now."""
        return self.history.spent(self.clock.now(), self.lease.number)
