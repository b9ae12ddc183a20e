"""Whole searches on a real Slurm end as they do on this machine: no job lost, none run twice, nothing left behind."""

import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm.dev.daemons import wait_until
from slurm.dev.private import DevCluster
from tests.driving import projection
from tests.slurm.conftest import MAX_SUBMIT_JOBS, SMALL_ARRAY
from tests.slurm.searching import ROOT_DIR, StubSearch, local_environ, run_checked, run_command
from xautolm_hpc.durable import read_json

pytestmark = pytest.mark.slurm

PLANTED = "planted-7f1c2a9be0"
LIAR = """#!/bin/sh
# Submits, and says every second time that it did not; a question is answered truly.
case " $* " in *" --test-only "*) exec {sbatch} "$@" ;; esac
{sbatch} "$@" > {folder}/answer || exit
echo >> {folder}/calls
[ $(($(wc -l < {folder}/calls) % 2)) = 0 ] && exec cat {folder}/answer
echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2
exit 1
"""
TINY_PROFILE = """
launcher = "{launcher}"
worker_python = "{python}"
[job]
memory_gb = 25
[slurm]
poll_s = 1
"""


def starts(search: StubSearch) -> Counter[tuple[str, str]]:
    """Count how often each attempt was started, by restart."""
    return Counter((attempt, restart) for attempt, _, restart in search.started())


def no_job_is_left(cluster: DevCluster) -> Callable[[], bool]:
    return lambda: cluster.run("squeue", "--noheader", "--format=%i") == ""


def test_a_search_on_slurm_ends_as_on_this_machine_with_one_array_a_generation(
    bare_cluster: DevCluster, local_search: StubSearch, tmp_path: Path
) -> None:
    search = StubSearch(tmp_path, earlier=local_search).run(bare_cluster.environ)

    assert search.projection() == local_search.projection()
    assert set(starts(search).values()) == {1}
    arrays = Counter((path.split("/")[0], job_id.split("_")[0]) for path, job_id, _ in search.started())
    assert sorted((generation, n) for (generation, _), n in arrays.items()) == [("gen-000", 4), ("gen-001", 4)]
    assert wait_until(no_job_is_left(bare_cluster), timeout_s=90)


def test_forty_trials_where_arrays_have_eleven_all_run_once_and_no_more_at_a_time_than_allowed(
    bare_cluster: DevCluster, local_search: StubSearch, tmp_path: Path
) -> None:
    assert SMALL_ARRAY == 11
    search = StubSearch(tmp_path, population=40, generations=1, slurm="max_parallel = 8", earlier=local_search)

    search.run(bare_cluster.environ)

    assert len(search.projection()) == 40
    assert set(starts(search).values()) == {1}
    intents = [line for line in search.ledger() if line["event"] == "intent" and line["generation"] == 0]
    assert [(len(line["attempts"]), line["max_parallel"]) for line in intents] == [(11, 2)] * 3 + [(7, 2)]


def test_forty_trials_of_a_user_who_may_have_twelve_jobs_all_run_once(
    accounting_cluster: DevCluster, local_search: StubSearch, tmp_path: Path
) -> None:
    assert MAX_SUBMIT_JOBS == 12
    search = StubSearch(tmp_path, population=40, generations=1, earlier=local_search)

    search.run(accounting_cluster.environ)

    assert len(search.projection()) == 40
    assert set(starts(search).values()) == {1}
    intents = [line for line in search.ledger() if line["event"] == "intent" and line["generation"] == 0]
    accepted = {line["name"] for line in search.ledger() if line["event"] == "submitted"}
    assert [(len(line["attempts"]), line["name"] in accepted) for line in intents[:3]] == [
        (40, False),
        (20, False),
        (10, True),
    ]


def test_an_sbatch_that_says_no_after_it_said_yes_makes_no_duplicate(
    bare_cluster: DevCluster, local_search: StubSearch, tmp_path: Path
) -> None:
    shim = tmp_path / "bin" / "sbatch"
    shim.parent.mkdir()
    real = shutil.which("sbatch", path=bare_cluster.environ["PATH"])
    shim.write_text(LIAR.format(sbatch=real, folder=shim.parent))
    shim.chmod(0o755)
    environ = {**bare_cluster.environ, "PATH": f"{shim.parent}:{bare_cluster.environ['PATH']}"}

    search = StubSearch(tmp_path / "search", earlier=local_search).run(environ)

    assert (shim.parent / "calls").read_text() == "\n\n\n"
    assert search.projection() == local_search.projection()
    assert set(starts(search).values()) == {1}


def test_what_the_user_set_for_their_own_commands_changes_nothing_and_no_token_leaves_their_shell(
    accounting_cluster: DevCluster, local_search: StubSearch, tmp_path: Path
) -> None:
    theirs = {
        "SQUEUE_FORMAT": "%Z", "SQUEUE_STATES": "RUNNING", "SQUEUE_SORT": "-i", "SACCT_FORMAT": "JobID%3",
        "SLURM_CLUSTERS": "nowhere", "SBATCH_PARTITION": "nowhere", "SBATCH_EXPORT": "ALL", "SLURM_TIME_FORMAT": "%A",
        "SLURM_JOB_ID": "1", "SLURM_RESTART_COUNT": "3", "TZ": "Pacific/Kiritimati", "LANG": "de_DE.UTF-8",
        "LC_ALL": "tr_TR.UTF-8", "HF_TOKEN": PLANTED, "MY_API_KEY": PLANTED,
    }  # fmt: skip

    search = StubSearch(tmp_path, earlier=local_search).run({**accounting_cluster.environ, **theirs})

    assert search.projection() == local_search.projection()
    assert set(starts(search).values()) == {1}
    jobs = accounting_cluster.run("scontrol", "--details", "show", "job")
    assert f"{search.run_dir}/gen-001" in jobs
    assert PLANTED not in jobs
    holders = [path for path in search.folder.rglob("*") if path.is_file() and PLANTED.encode() in path.read_bytes()]
    assert holders == []


@pytest.mark.timeout(900)
def test_the_tiny_example_ends_on_two_nodes_as_on_this_machine(accounting_cluster: DevCluster, tmp_path: Path) -> None:
    for launcher, environ in {"slurm": accounting_cluster.environ, "local": local_environ()}.items():
        folder = tmp_path / launcher
        folder.mkdir()
        profile = TINY_PROFILE.format(launcher=launcher, python=sys.executable)
        (folder / "profile.toml").write_text(profile)
        settings = [f'profile="{folder}/profile.toml"', f'store.path="{folder}/store"']
        more = [word for setting in settings for word in ("--set", setting)]
        run_checked(run_command(ROOT_DIR / "examples" / "tiny.toml", folder / "runs", *more), environ)

    assert projection(tmp_path / "slurm") == projection(tmp_path / "local")
    run_id = read_json(tmp_path / "slurm" / "runs" / "tiny" / "run.json")["run_id"]
    names = ",".join(f"xa-{run_id[:8]}-g{generation:03d}-s0" for generation in range(2))
    nodes = accounting_cluster.run("sacct", "-X", "-n", "-P", f"--name={names}", "--format=NodeList").split()
    assert len(nodes) == 8
    assert set(nodes) == {"n1", "n2"}  # memory leaves room for two trials on a node
