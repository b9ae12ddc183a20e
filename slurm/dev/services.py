"""The daemons of a cluster and their commands, in the order in which they depend on one another."""

import os
import socket
import subprocess
from collections.abc import Callable, Sequence

from slurm.dev.collect import own_parts
from slurm.dev.daemons import START_S, Daemon, wait_until
from slurm.dev.packages import program, search_path
from slurm.dev.plan import DevClusterError, Plan, Ports

SMALL = (
    "--innodb-buffer-pool-size=32M",
    "--innodb-log-file-size=16M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=0",
)
DATABASE_OPTIONS = (
    "--skip-networking",
    "--skip-grant-tables",
    *SMALL,
    "--innodb-lock-wait-timeout=900",
    "--max-allowed-packet=16M",
)
"""No network, no passwords, no safety against a power cut."""


class Services:
    """The daemons of one cluster.

    Args:
        plan: The cluster.
        ports: Its ports.
    """

    def __init__(self, plan: Plan, ports: Ports) -> None:
        self.plan = plan
        self.ports = ports
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))},
            "PATH": search_path(),
            "SLURM_CONF": str(plan.slurm_conf_path),
            "MYSQL_UNIX_PORT": str(plan.database_socket),  # which socket slurmdbd's database client uses
        }

    @property
    def all(self) -> list[Daemon]:
        """Every daemon, in the order in which they are stopped."""
        accounting = ["slurmdbd", "mariadbd"] if self.plan.accounting else []
        return [self.daemon(name) for name in ["slurmctld", *self.plan.node_names, *accounting, "munged"]]

    def daemon(self, name: str) -> Daemon:
        """Return a daemon by its name; a node's slurmd has the name of the node."""
        return Daemon(name=name, dir=self.plan.dir)

    def start_munged(self) -> None:
        """Start munged, which authenticates requests between Slurm's daemons."""
        run_dir, socket_path = self.plan.dir / "run", self.plan.munge_socket
        command = [
            program("munged"), "--foreground", "--force", "--num-threads=2", f"--socket={socket_path}",
            f"--key-file={self.plan.dir / 'etc' / 'munge.key'}", f"--pid-file={run_dir / 'own-munged.pid'}",
            f"--seed-file={run_dir / 'munge.seed'}", f"--log-file={self.plan.dir / 'log' / 'munged.log'}",
        ]  # fmt: skip
        self._start("munged", command, is_ready=socket_path.exists)

    def start_database(self) -> None:
        """Start MariaDB on an empty folder and create the one database in it.

        Without the system tables slurmdbd cannot store its procedure for inherited limits, and reads all limits as 0.
        """
        data_dir, socket_path = self.plan.dir / "database", self.plan.database_socket
        # In its own folder: a starting server removes the temporary files of others in a shared one.
        options = [f"--datadir={data_dir}", f"--tmpdir={self.plan.dir / 'run'}"]
        options += ["--user=root"] if os.geteuid() == 0 else []
        command = [
            program("mariadbd"), "--no-defaults", *options, *DATABASE_OPTIONS, f"--socket={socket_path}",
            f"--pid-file={self.plan.dir / 'run' / 'own-mariadbd.pid'}",
        ]  # fmt: skip
        self._write_system_tables(options)
        (data_dir / "slurm").mkdir(exist_ok=True)  # a database is a folder
        self._start("mariadbd", command, is_ready=socket_path.exists)

    def _write_system_tables(self, options: Sequence[str]) -> None:
        command = [program("mariadb-install-db"), "--no-defaults", "--skip-test-db", *SMALL, *options]
        completed = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False)
        if completed.returncode != 0:
            words = "\n".join((completed.stdout + completed.stderr).splitlines()[-15:])
            raise DevClusterError(f"mariadb-install-db failed with status {completed.returncode}:\n{words}")

    def start_slurmdbd(self) -> None:
        """Start the accounting daemon."""
        self._start("slurmdbd", [program("slurmdbd"), "-D"], is_ready=lambda: _listens(self.ports.slurmdbd))

    def start_slurmctld(self) -> None:
        """Start the controller; with ``-i`` it starts even if the saved state cannot be read."""
        self._start("slurmctld", [program("slurmctld"), "-D", "-i"], is_ready=lambda: _listens(self.ports.slurmctld))

    def start_node(self, name: str) -> None:
        """Start a node; this does not wait until the controller sees it."""
        slurmd = program("slurmd")
        parts = own_parts(slurmd)
        stepd = [] if parts is None else ["-d", str(parts[1])]
        self.daemon(name).start([slurmd, "-D", "-N", name, *stepd], self.environ)

    def _start(self, name: str, command: list[str], *, is_ready: Callable[[], bool]) -> None:
        daemon = self.daemon(name)
        daemon.start(command, self.environ)
        if not wait_until(lambda: is_ready() or not daemon.is_running, timeout_s=START_S) or not daemon.is_running:
            raise DevClusterError(f"{name} ended or was not ready after {START_S:g} s:\n{daemon.log_tail()}")


def _listens(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0
