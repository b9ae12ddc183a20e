"""The private Slurm of slurm/dev behaves like one, and leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slurm.dev import cgroup
from slurm.dev.daemons import wait_until
from slurm.dev.packages import missing_packages
from slurm.dev.plan import DevClusterError, read_plan
from slurm.dev.private import DevCluster
from slurm.dev.release import root_of
from tests.slurm.conftest import SMALL_ARRAY
from xautolm_hpc.slurm import Slurm

pytestmark = pytest.mark.slurm

CLUSTER_PATH = Path(__file__).resolve().parents[2] / "slurm" / "dev" / "cluster.py"
WHOLE_NODE = "--cpus-per-task=16"
FOREVER = "--wrap=sleep 600"
WAIT_S = 120.0


def submit(cluster: DevCluster, *options: str) -> str:
    return cluster.run("sbatch", "--parsable", *options)


def pids_below(directory: Path) -> list[int]:
    """List the processes that have a folder's path on their command line or in their environment."""
    found = []
    for process_dir in Path("/proc").glob("[0-9]*"):
        try:
            text = (process_dir / "cmdline").read_bytes() + (process_dir / "environ").read_bytes()
        except OSError:
            continue
        if f"{directory}/".encode() in text:
            found.append(int(process_dir.name))
    return found


def sacct_state(cluster: DevCluster, job_id: str) -> str:
    return cluster.run("sacct", "-X", "-n", "-P", "-j", job_id, "--format=State")


def test_a_batch_job_runs_and_its_output_is_there(bare_cluster: DevCluster) -> None:
    job_id = submit(bare_cluster, "--output=out", "--wrap=hostname")

    bare_cluster.wait_for_job(job_id, "COMPLETED")

    assert (bare_cluster.dir / "out").read_text().strip() == os.uname().nodename


def test_srun_reaches_both_nodes(bare_cluster: DevCluster) -> None:
    names = bare_cluster.run("srun", "-N2", "sh", "-c", "echo $SLURMD_NODENAME")

    assert sorted(names.split()) == ["n1", "n2"]


def test_an_array_of_six_gpu_jobs_ends(bare_cluster: DevCluster) -> None:
    prints_index = ("--output=array-%a", "--wrap=echo $SLURM_ARRAY_TASK_ID")

    job_id = submit(bare_cluster, "--array=0-5", "--gres=gpu:1", *prints_index)

    outputs = [bare_cluster.dir / f"array-{index}" for index in range(6)]
    done = wait_until(lambda: all(p.exists() and p.read_text().strip() for p in outputs), timeout_s=WAIT_S)

    assert done, bare_cluster.run("squeue", "--states=all", f"--jobs={job_id}")
    assert [path.read_text().strip() for path in outputs] == ["0", "1", "2", "3", "4", "5"]


def test_gpus_are_counted_out_and_scancel_ends_the_jobs_that_hold_them(bare_cluster: DevCluster) -> None:
    job_id = submit(bare_cluster, "--array=0-5", "--gres=gpu:1", FOREVER)

    def states() -> list[str]:
        return bare_cluster.run("squeue", "-h", "-r", "-t", "all", "-j", job_id, "--format=%T").split()

    assert wait_until(lambda: states().count("RUNNING") == 4, timeout_s=WAIT_S), states()
    assert states().count("PENDING") == 2
    bare_cluster.run("scancel", job_id)
    assert wait_until(lambda: set(states()) == {"CANCELLED"}, timeout_s=WAIT_S), states()


def test_scancel_leaves_jobs_of_another_name_alone(bare_cluster: DevCluster) -> None:
    job_id = submit(bare_cluster, "--array=0-5", "--gres=gpu:1", "--job-name=ours", FOREVER)  # four run, two wait
    elements, client = [f"{job_id}_{index}" for index in range(6)], Slurm(bare_cluster.environ)

    def states() -> list[str]:
        return bare_cluster.run("squeue", "-h", "-r", "-t", "all", "-j", job_id, "--format=%T").split()

    assert wait_until(lambda: states().count("RUNNING") == 4, timeout_s=WAIT_S), states()
    client.scancel(elements, name="of-a-stranger")
    assert sorted(set(states())) == ["PENDING", "RUNNING"]
    client.scancel(elements, name="ours")

    assert wait_until(lambda: set(states()) == {"CANCELLED"}, timeout_s=WAIT_S), states()


def test_an_index_over_the_array_limit_is_refused(bare_cluster: DevCluster) -> None:
    submit(bare_cluster, f"--array={SMALL_ARRAY - 1}", "--wrap=true")

    with pytest.raises(DevClusterError, match="Invalid job array specification"):
        submit(bare_cluster, f"--array={SMALL_ARRAY}", "--wrap=true")


def test_without_accounts_sacct_fails(bare_cluster: DevCluster) -> None:
    assert not bare_cluster.has_sacct()
    with pytest.raises(DevClusterError, match="accounting storage is disabled"):
        bare_cluster.run("sacct")


def test_with_accounts_sacct_knows_how_a_job_ended(accounting_cluster: DevCluster) -> None:
    job_id = submit(accounting_cluster, "--gres=gpu:2", "--wrap=exit 3")

    accounting_cluster.wait_for_job(job_id, "FAILED")

    row = "FAILED|3:0|gres/gpu=2"
    fields = "--format=State,ExitCode,AllocTRES%200"
    wait_until(lambda: sacct_state(accounting_cluster, job_id) == "FAILED", timeout_s=WAIT_S)
    state, code, resources = accounting_cluster.run("sacct", "-X", "-n", "-P", "-j", job_id, fields).split("|")
    assert f"{state}|{code}|{resources.split(',')[2]}" == row


def test_without_its_daemon_sacct_fails_while_jobs_run_and_later_knows_them(accounting_cluster: DevCluster) -> None:
    accounting_cluster.stop_dbd()
    job_id = submit(accounting_cluster, "--wrap=true")
    accounting_cluster.wait_for_job(job_id, "COMPLETED")

    assert not accounting_cluster.has_sacct()
    accounting_cluster.start_dbd()
    assert wait_until(lambda: sacct_state(accounting_cluster, job_id) == "COMPLETED", timeout_s=WAIT_S, poll_s=0.5)


@pytest.mark.parametrize(("partition", "state"), [("preempt-requeue", "PENDING"), ("preempt-cancel", "PREEMPTED")])
def test_an_urgent_job_preempts(bare_cluster: DevCluster, partition: str, state: str) -> None:
    victim = submit(bare_cluster, f"--partition={partition}", "--nodelist=n1", WHOLE_NODE, FOREVER)
    bare_cluster.wait_for_job(victim, "RUNNING")

    urgent = submit(bare_cluster, "--partition=urgent", "--nodelist=n1", WHOLE_NODE, "--wrap=true")

    assert bare_cluster.wait_for_job(victim, "PENDING", "PREEMPTED") == state
    bare_cluster.wait_for_job(urgent, "COMPLETED")


def test_a_preempted_job_runs_again_when_told_to_start(bare_cluster: DevCluster) -> None:
    count = "--wrap=echo ${SLURM_RESTART_COUNT:-0} >> restarts; sleep 600"
    victim = submit(bare_cluster, "--partition=preempt-requeue", "--nodelist=n1", WHOLE_NODE, count)
    bare_cluster.wait_for_job(victim, "RUNNING")
    urgent = submit(bare_cluster, "--partition=urgent", "--nodelist=n1", WHOLE_NODE, "--wrap=true")
    bare_cluster.wait_for_job(urgent, "COMPLETED")

    bare_cluster.start_soon(victim)
    bare_cluster.wait_for_job(victim, "RUNNING")

    restarts_path = bare_cluster.dir / "restarts"
    assert wait_until(lambda: restarts_path.read_text().split() == ["0", "1"], timeout_s=WAIT_S)


def test_jobs_of_a_killed_node_die_and_the_node_comes_back(bare_cluster: DevCluster) -> None:
    options = ("--no-requeue", "--nodelist=n2")
    job_id = submit(bare_cluster, *options, "--wrap=echo $$ > shell.pid; sleep 600")
    pid_path = bare_cluster.dir / "shell.pid"
    assert wait_until(lambda: pid_path.exists() and pid_path.read_text().strip() != "", timeout_s=WAIT_S)
    pid = int(pid_path.read_text())
    assert Path(f"/proc/{pid}").exists()

    bare_cluster.kill_node("n2")

    assert not Path(f"/proc/{pid}").exists()
    assert bare_cluster.wait_for_job(job_id, "NODE_FAIL") == "NODE_FAIL"
    assert bare_cluster.state().nodes["n2"] == "down"
    assert not bare_cluster.state().is_up
    bare_cluster.resume_node("n2")
    bare_cluster.wait_for_job(submit(bare_cluster, "--nodelist=n2", "--wrap=true"), "COMPLETED")


def test_a_node_that_was_cut_off_rejoins_even_when_it_is_back_already(bare_cluster: DevCluster) -> None:
    bare_cluster.cut_off_node("n2")
    assert bare_cluster.state().nodes["n2"].startswith("down")
    bare_cluster.rejoin_node("n2")

    bare_cluster.rejoin_node("n2")  # as when it registered before the controller was told

    assert bare_cluster.state().is_up


def test_a_node_that_does_not_exist_is_named(bare_cluster: DevCluster) -> None:
    with pytest.raises(DevClusterError, match="no node 'n9'; there are n1, n2"):
        bare_cluster.kill_node("n9")


def test_a_job_over_its_memory_ends_as_out_of_memory(accounting_cluster: DevCluster) -> None:
    if not accounting_cluster.limits_memory:
        pytest.skip(str(cgroup.reason_against()))
    takes_400_mib = f"--wrap={sys.executable} -IS -c 'bytearray(400 << 20)'"

    over = submit(accounting_cluster, "--mem=100", takes_400_mib)
    within = submit(accounting_cluster, "--mem=600", takes_400_mib)

    assert accounting_cluster.wait_for_job(over, "OUT_OF_MEMORY", "COMPLETED", "FAILED") == "OUT_OF_MEMORY"
    assert accounting_cluster.wait_for_job(within, "OUT_OF_MEMORY", "COMPLETED", "FAILED") == "COMPLETED"


def test_two_clusters_at_once_know_nothing_of_each_other(
    accounting_cluster: DevCluster, bare_cluster: DevCluster
) -> None:
    job_id = submit(bare_cluster, "--job-name=only-here", FOREVER)
    bare_cluster.wait_for_job(job_id, "RUNNING")

    seen = accounting_cluster.run("squeue", "--noheader", "--name=only-here")

    assert seen == ""
    assert read_plan(accounting_cluster.dir)[1].cluster_name != read_plan(bare_cluster.dir)[1].cluster_name
    assert accounting_cluster.state().is_up
    assert bare_cluster.state().is_up


def test_the_command_starts_reports_and_stops_a_cluster_with_everything_in_it(tmp_path: Path) -> None:
    directory = tmp_path / "own"

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, str(CLUSTER_PATH), *arguments, "--dir", str(directory)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=400, check=False)

    try:
        started = command("up", "--nodes=1", "--gpus-per-node=0")
        again = command("up")
        status = command("status")
        cluster = DevCluster.open(directory)
        cluster.wait_for_job(submit(cluster, FOREVER), "RUNNING")
        pids = pids_below(directory)
    finally:
        stopped = command("down")
    left = pids_below(directory)
    removed, repeated, unknown = command("down", "--remove"), command("down"), command("status")

    assert (started.returncode, started.stdout) == (0, f"export SLURM_CONF={directory}/etc/slurm.conf\n")
    assert (again.returncode, "munged run already" in again.stderr) == (2, True), again.stderr
    assert (status.returncode, "n1         runs, idle" in status.stdout) == (0, True), status.stdout
    assert (stopped.returncode, removed.returncode, repeated.returncode) == (0, 0, 0)
    assert len(pids) >= 6
    assert left == []
    assert not directory.exists()
    assert (unknown.returncode, "holds no cluster" in unknown.stderr) == (2, True)


def test_a_daemon_that_fails_is_shown_with_its_last_words_and_nothing_keeps_running(tmp_path: Path) -> None:
    with pytest.raises(DevClusterError, match=r"slurmctld ended .*\n.*slurmctld\.log\n(.*\n)*.*KillWait"):
        DevCluster(tmp_path / "own", kill_wait_s=70_000).up()

    assert pids_below(tmp_path) == []


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("dear")

    with pytest.raises(DevClusterError, match=r"neither empty nor a cluster's"):
        DevCluster(tmp_path).up()
    DevCluster(tmp_path).down(remove=True)

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DevClusterError, match=r"too long a path: .* Linux allows 107"):
        DevCluster(tmp_path / ("d" * 100))


def test_no_package_is_missing_once_a_cluster_ran(accounting_cluster: DevCluster) -> None:
    assert missing_packages(accounting=accounting_cluster.accounting) == []


def test_a_release_that_no_debian_has_is_refused() -> None:
    with pytest.raises(DevClusterError, match=r"Slurm 21\.08 is not known here; known: 24\.11"):
        root_of("21.08")
