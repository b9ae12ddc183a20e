"""The leader of a node's ranks: signals, ends, and that no process is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xautolm_hpc.durable import write_json
from xautolm_hpc.jobdir import OUTCOME, Exit, exit_path
from xautolm_hpc.records import to_json

LEAD = """
import sys
from pathlib import Path
from xautolm_hpc.train import leader as module
from xautolm_hpc.train.leader import Leader, end_like
from xautolm_hpc.train.stop import block_stop_signals
from xautolm_hpc.train.process_group import ProcessGroup
module.STOP_PATIENCE_S = module.FOLLOW_PATIENCE_S = 2.0
module.TICK_S = 0.1
attempt_dir, n_nodes, rank = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
block_stop_signals()
leader = Leader(ProcessGroup(n_local=2, n_nodes=n_nodes, port=1), attempt_dir, restart=0)
import os
leader.start([sys.executable, "-c", rank, str(attempt_dir)], os.environ)
sys.exit(end_like(leader.wait()))
"""

HEAD = """
import json, os, signal, sys, time
attempt_dir, rank = sys.argv[1], os.environ["RANK"]
"""
LISTEN = """
from xautolm_hpc.train.stop import StopFlag
stop = StopFlag()
time.sleep(0.3)  # what was sent by now has waited
stop.install()
open(attempt_dir + "/pid-" + rank, "w").write(str(os.getpid()))
while not stop.requested: time.sleep(0.02)
"""
SLEEP = """
open(attempt_dir + "/pid-" + rank, "w").write(str(os.getpid()))
time.sleep(60)
"""


def lead(attempt_dir: Path, rank: str, *, n_nodes: int = 1, **variables: str) -> subprocess.Popen[bytes]:
    environ = {**os.environ, "PYTHONPATH": str(Path.cwd()), **variables}
    return subprocess.Popen([sys.executable, "-c", LEAD, str(attempt_dir), str(n_nodes), HEAD + rank], env=environ)


def ends(leader: subprocess.Popen[bytes], seconds: float = 30.0) -> int:
    return leader.wait(timeout=seconds)


def pids(attempt_dir: Path) -> list[int]:
    """Wait for both processes and return their ids."""
    paths = [attempt_dir / f"pid-{rank}" for rank in range(2)]
    deadline = time.monotonic() + 30
    while not all(path.exists() and path.read_text() for path in paths):
        assert time.monotonic() < deadline, "the processes did not start"
        time.sleep(0.02)
    return [int(path.read_text()) for path in paths]


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_every_process_knows_its_rank_and_its_share_of_the_cores(tmp_path: Path) -> None:
    dump = 'json.dump(dict(os.environ), open(attempt_dir + "/environ-" + rank, "w"))'

    status = ends(lead(tmp_path, dump, OMP_NUM_THREADS="5"))

    environs = [json.loads((tmp_path / f"environ-{rank}").read_text()) for rank in range(2)]
    assert status == 0
    assert [environ["LOCAL_RANK"] for environ in environs] == ["0", "1"]
    assert {environ["WORLD_SIZE"] for environ in environs} == {"2"}
    assert {environ["OMP_NUM_THREADS"] for environ in environs} == {"2"}


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_reaches_all_even_before_their_handlers_are_installed(tmp_path: Path, number: signal.Signals) -> None:
    mark = 'open(attempt_dir + "/signalled-" + rank, "w"); '
    leader = lead(tmp_path, 'open(attempt_dir + "/up-" + rank, "w")\n' + LISTEN + mark + "sys.exit(85)")
    while not all((tmp_path / f"up-{rank}").exists() for rank in range(2)):
        time.sleep(0.01)
    leader.send_signal(number)

    assert ends(leader) == 85
    assert all((tmp_path / f"signalled-{rank}").exists() for rank in range(2))


def test_a_process_killed_from_outside_ends_all_of_them_in_the_same_way(tmp_path: Path) -> None:
    leader = lead(tmp_path, SLEEP)
    first, second = pids(tmp_path)

    os.kill(second, signal.SIGKILL)

    assert ends(leader) == -signal.SIGKILL
    assert is_gone(first)


def test_a_process_that_fails_ends_all_of_them_with_its_status(tmp_path: Path) -> None:
    status = ends(lead(tmp_path, 'sys.exit(3) if rank == "1" else time.sleep(60)'))

    assert status == 3


def test_once_there_is_an_outcome_a_failure_is_no_failure_of_the_job(tmp_path: Path) -> None:
    status = ends(lead(tmp_path, f'open(attempt_dir + "/{OUTCOME}", "w"); sys.exit(1) if rank == "1" else 0'))

    assert status == 0


@pytest.mark.parametrize("rank", ['time.sleep(60) if rank == "1" else 0', "signal.pause()"])
def test_a_process_that_hangs_is_killed(tmp_path: Path, rank: str) -> None:
    deaf = "signal.signal(signal.SIGTERM, lambda *_: None)\n"
    leader = lead(tmp_path, deaf + 'open(attempt_dir + "/pid-" + rank, "w").write(str(os.getpid()))\n' + rank)
    left = pids(tmp_path)
    leader.terminate()

    assert ends(leader) == -signal.SIGKILL
    assert all(is_gone(pid) for pid in left)


def test_a_failure_on_another_node_ends_the_processes_of_this_one(tmp_path: Path) -> None:
    leader = lead(tmp_path, SLEEP, n_nodes=2)
    left = pids(tmp_path)

    ended = Exit(returncode=-signal.SIGKILL, ended_by=None, started_at=0.0, ended_at=1.0)
    write_json(exit_path(tmp_path, 0, node=1), to_json(ended))

    assert ends(leader) == -signal.SIGKILL
    assert all(is_gone(pid) for pid in left)
