"""Each check says what it found and what to do about it."""

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.doctor.sites import make_site
from xautolm_hpc.config import ClusterProfile
from xautolm_hpc.doctor import CHECKS, cluster, examine, machine
from xautolm_hpc.doctor.passed import (
    FILE_NAME,
    job_check_key,
    recall_job_check,
    recall_start_s,
    remember_job_check,
    remember_start_s,
)
from xautolm_hpc.errors import ConfigError, RunFolderError
from xautolm_hpc.submit.job_limits import limit_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("infinite", float("inf")),
        ("UNLIMITED", float("inf")),
        ("45", 2700),
        ("30:00", 1800),
        ("2:00:00", 7200),
        ("1-00:00:00", 86_400),
        ("3-12", 302_400),
        ("1-02:30", 95_400),
    ],
)
def test_slurms_time_limits_are_read(text: str, seconds: float) -> None:
    assert limit_s(text) == seconds


def test_what_is_no_time_limit_is_refused() -> None:
    with pytest.raises(ConfigError, match="Slurm says 'soon' where a time limit was expected"):
        limit_s("soon")


@pytest.mark.parametrize(
    ("check", "profile", "found"),
    [
        (cluster.check_partition, {"slurm": {"partition": "gpus"}}, "there is no partition 'gpus'"),
        (cluster.check_partition, {"slurm": {"partition": "cpu"}}, "'cpu' takes no jobs"),
        (cluster.check_time_limit, {"job": {"queue_slack_min": 1440.0}}, "1500 min, partition 'gpu' allows 1440 min"),
        (cluster.check_gres, {"slurm": {"gres": "gpu:h100:1"}}, "asks for gpu:h100:1, nodes of partition 'gpu' have"),
        (cluster.check_gres, {"slurm": {"gres": "gpu:a100:5"}}, "asks for gpu:a100:5"),
        (cluster.check_gres, {"slurm": {"gres": "gpu:1,localtmp:3T"}}, "asks for gpu:1,localtmp:3T"),
        (cluster.check_gres, {"job": {"n_gpus": 8}}, "asks for gpu:8"),
        (cluster.check_node_size, {"job": {"n_cpus": 64}}, "asks for 64 cores"),
        (cluster.check_node_size, {"job": {"memory_gb": 300.0}}, "and 300 GiB; nodes have 32 cores with 250 GiB"),
        (machine.check_models, {"hf_home": "/nowhere"}, "`/nowhere` does not exist"),
        (cluster.check_commands, {}, "there is no sbatch, squeue, scancel, scontrol, sinfo on PATH"),
    ],
)
def test_what_keeps_jobs_from_running_is_a_failure_with_a_remedy(
    tmp_path: Path, check: Any, profile: dict[str, Any], found: str
) -> None:
    (finding,) = check(make_site(tmp_path, **profile))

    assert finding.level == "failure"
    assert found in finding.found
    assert finding.remedy


@pytest.mark.parametrize(
    ("check", "profile"),
    [
        (cluster.check_partition, {}),
        (cluster.check_time_limit, {}),
        (cluster.check_gres, {"slurm": {"gres": "gpu:a100:4"}, "job": {"n_gpus": 4}}),
        (cluster.check_gres, {"slurm": {"gres": "gpu:2,lscratch:50"}, "job": {"n_gpus": 2}}),
        (cluster.check_gres, {"slurm": {"gres": "gpu:1"}}),
        (cluster.check_gres, {"slurm": {"gres": "gpu:1,localtmp:100G"}}),
        (cluster.check_gres, {"slurm": {"gres": "shard:1"}, "job": {"n_gpus": 1}}),
        (cluster.check_gres, {"slurm": {"options": {"gpus_per_task": "a100:2"}}, "job": {"n_gpus": 2}}),
        (cluster.check_gres, {"slurm": {"options": {"gpus": 4}}, "job": {"n_gpus": 2, "n_nodes": 2}}),
        (cluster.check_partition, {"slurm": {"partition": "cpu,gpu"}}),
        (cluster.check_time_limit, {"slurm": {"partition": "cpu,gpu"}}),
        (cluster.check_node_size, {"slurm": {"options": {"partition": "cpu,gpu"}}, "job": {"n_cpus": 32}}),
        (cluster.check_gres, {"job": {"n_gpus": 4}}),
        (cluster.check_gres, {"slurm": {"partition": "cpu"}}),
        (cluster.check_node_size, {"job": {"n_cpus": 32, "memory_gb": 250.0}}),
        (cluster.check_node_size, {"slurm": {"options": {"mem-per-gpu": "16G"}}, "job": {"memory_gb": 900.0}}),
        (cluster.check_array_limit, {}),
        (machine.check_operations, {}),
        (machine.check_clock, {}),
        (machine.check_space, {}),
    ],
)
def test_what_is_as_it_should_be_is_ok(tmp_path: Path, check: Any, profile: dict[str, Any]) -> None:
    (finding,) = check(make_site(tmp_path, **profile))

    assert (finding.level, finding.remedy) == ("ok", ""), finding.found


@pytest.mark.parametrize(("slurm", "n_asked"), [({"gres": "gpu:a100:2"}, 2), ({"options": {"gpus": 1}}, 1)])
def test_gpus_that_no_process_uses_or_that_two_would_share_are_a_warning(
    tmp_path: Path, slurm: dict[str, Any], n_asked: int
) -> None:
    n_gpus = 3 - n_asked

    (finding,) = cluster.check_gres(make_site(tmp_path, slurm=slurm, job={"n_gpus": n_gpus}))

    assert (finding.level, finding.remedy) == ("warning", f"set job.n_gpus = {n_asked}")
    assert f"on each node, and job.n_gpus = {n_gpus} processes use a GPU each" in finding.found


def test_a_partition_of_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    (finding,) = cluster.check_partition(make_site(tmp_path, slurm={"partition": "gpu,gup"}))

    assert (finding.level, finding.found) == ("failure", "there is no partition 'gup'")


@pytest.mark.parametrize(
    ("age", "has_sacct", "level", "found"),
    [
        ("300 sec", False, "ok", "squeue remembers ended jobs for 300 s and is asked every 30 s"),
        ("20 sec", False, "warning", "squeue forgets ended jobs after 20 s, asked every 30 s"),
        ("20 sec", True, "ok", "squeue forgets ended jobs after 20 s, asked every 30 s; sacct knows them"),
    ],
)
def test_a_controller_that_forgets_sooner_than_it_is_asked_is_a_warning_where_sacct_is_silent(
    tmp_path: Path, age: str, has_sacct: bool, level: str, found: str
) -> None:
    if has_sacct:
        (tmp_path / "sacct").write_text("#!/bin/sh\nexit 0\n")
        (tmp_path / "sacct").chmod(0o700)
    site = replace(make_site(tmp_path), settings={"MinJobAge": age})

    accounting, memory = cluster.check_ended_jobs(site)

    assert accounting.level == ("ok" if has_sacct else "warning")
    assert (memory.check, memory.level, memory.found) == ("MinJobAge", level, found)
    assert memory.remedy == ("set slurm.poll_s to 10 or less" if level == "warning" else "")


def test_a_silent_controller_is_a_failure_and_no_other_check_of_slurm_speaks(tmp_path: Path) -> None:
    for name in ("sbatch", "squeue", "scancel", "scontrol", "sinfo"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o700)
    site = replace(make_site(tmp_path), settings=None, partitions=None)

    found = [finding for check in CHECKS[:8] for finding in check(site)]

    assert [finding.found for finding in found] == ["Slurm does not answer: no reason given"]


@pytest.mark.parametrize(
    ("said", "level", "remedy"),
    [
        ("Batch job submission failed: Slurm temporarily unable to accept job", "warning", "try again later"),
        ("Socket timed out on send/recv operation", "warning", "try again later"),
        ("QOSMaxSubmitJobPerUserLimit", "warning", "none needed"),
        ("invalid partition specified: gpu9", "failure", "see the rows above"),
    ],
)
def test_what_sbatch_says_means_the_same_to_the_doctor_as_to_a_search(
    tmp_path: Path, said: str, level: str, remedy: str
) -> None:
    (tmp_path / "sbatch").write_text(f"#!/bin/sh\necho 'sbatch: error: {said}' >&2\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o700)

    (finding,) = cluster.check_submission(replace(make_site(tmp_path), settings={}))

    assert (finding.check, finding.level) == ("sbatch", level)
    assert finding.remedy.startswith(remedy)


LUSTRE_QUOTA = """\
      /scratch {}  52428800 62914560       -   81234       0       0       -
"""


@pytest.mark.parametrize(
    ("program", "says", "status", "level", "found"),
    [
        ("quota", "", 0, "ok", "not exceeded, as far as `quota` knows"),
        ("quota", "Disk quotas for user a: Block limit reached on /home", 1, "warning", "quota: Disk quotas for user"),
        ("lfs", LUSTRE_QUOTA.format("1048576"), 0, "ok", "not exceeded, as far as `lfs quota` knows"),
        ("lfs", LUSTRE_QUOTA.format("53000000*"), 0, "warning", "lfs quota: /scratch 53000000* 52428800"),
    ],
)
def test_what_commands_know_of_quotas_is_told(
    tmp_path: Path, program: str, says: str, status: int, level: str, found: str
) -> None:
    path = tmp_path / program
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
    path.chmod(0o700)
    site = make_site(tmp_path)

    (finding,) = machine.check_quota(replace(site, inputs=replace(site.inputs, environ={"PATH": str(tmp_path)})))

    assert finding.level == level
    assert found in finding.found


def test_a_lustre_that_is_not_there_says_nothing_of_quotas(tmp_path: Path) -> None:
    (tmp_path / "lfs").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "lfs").chmod(0o700)
    site = make_site(tmp_path)

    assert machine.check_quota(replace(site, inputs=replace(site.inputs, environ={"PATH": str(tmp_path)}))) == []


def test_room_that_a_quota_refuses_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    assert machine.check_writable(make_site(tmp_path)) == []
    monkeypatch.setattr(os, "posix_fallocate", refuse)

    (finding,) = machine.check_writable(make_site(tmp_path))

    assert (finding.level, finding.check) == ("failure", "quota")
    assert finding.found == f"64 MiB cannot be written in `{tmp_path}`: Disk quota exceeded"


def test_an_interpreter_that_is_not_here_is_a_failure_only_where_trials_run_here(tmp_path: Path) -> None:
    levels = [
        machine.check_interpreters(make_site(tmp_path, launcher=launcher, worker_python="/nowhere/python"))[1].level
        for launcher in ("local", "slurm")
    ]

    assert levels == ["failure", "warning"]


def test_on_this_machine_alone_slurm_is_not_asked(tmp_path: Path) -> None:
    site = replace(make_site(tmp_path, launcher="local"), settings=None, partitions=None)

    checked = {finding.check for finding in examine(site)}

    assert "run folder's file system" in checked
    assert not checked & {"Slurm", "Slurm's commands", "accounting", "partition", "sbatch"}


def test_checks_leave_nothing_in_the_folder_of_runs(tmp_path: Path) -> None:
    examine(make_site(tmp_path))

    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_runs_that_was_made_for_the_checks_goes_again(tmp_path: Path) -> None:
    with machine.runs_folder(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()

    assert not (tmp_path / "new").exists()


def test_a_folder_of_runs_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with (
        pytest.raises(RunFolderError, match=r"file/runs` cannot be written: Not a directory. Give another"),
        machine.runs_folder(tmp_path / "file" / "runs"),
    ):
        pass


def test_a_job_check_is_remembered_until_profile_or_image_change(tmp_path: Path) -> None:
    image = tmp_path / "worker.sif"
    image.write_bytes(b"one")
    profile = ClusterProfile.model_validate({"launcher": "slurm", "container": {"image": str(image)}})
    patient = profile.model_copy(update={"patience": profile.patience.model_copy(update={"heartbeat_s": 5.0})})
    elsewhere = profile.model_copy(update={"slurm": profile.slurm.model_copy(update={"partition": "gpu"})})
    key = job_check_key(profile)
    assert not recall_job_check(tmp_path, key)

    remember_job_check(tmp_path, key, now=0.0)

    assert recall_job_check(tmp_path, job_check_key(patient))
    assert not recall_job_check(tmp_path, job_check_key(elsewhere))
    os.utime(image, (1, 1))
    assert not recall_job_check(tmp_path, job_check_key(profile))


def test_a_damaged_memory_of_job_checks_knows_of_none(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("{")

    assert not recall_job_check(tmp_path, "key")
    remember_job_check(tmp_path, "key", now=0.0)
    assert recall_job_check(tmp_path, "key")


@pytest.mark.parametrize(("skew_s", "level"), [(-4.9, "ok"), (7.0, "warning")])
def test_clocks_that_differ_by_more_than_five_seconds_are_a_warning(skew_s: float, level: str) -> None:
    finding = machine.skew_finding("clock of the node", skew_s, other="the file server")

    assert finding.level == level
    assert f"differs from that of the file server by {'+7 s' if level == 'warning' else '4.9 s'}" in finding.found


def test_how_long_a_worker_starts_is_remembered_beside_the_job_check(tmp_path: Path) -> None:
    assert recall_start_s(tmp_path, "key") is None

    remember_start_s(tmp_path, "key", start_s=7.25)
    assert not recall_job_check(tmp_path, "key")
    remember_job_check(tmp_path, "key", now=0.0)

    assert (recall_start_s(tmp_path, "key"), recall_start_s(tmp_path, "other")) == (7.25, None)
    (tmp_path / FILE_NAME).write_text("{")
    assert recall_start_s(tmp_path, "key") is None


def test_a_job_check_holds_for_any_number_of_trials_in_a_job() -> None:
    one, ten = (ClusterProfile.model_validate({"job": {"trials_per_job": n}}) for n in (1, 10))

    assert job_check_key(one) == job_check_key(ten)
    assert job_check_key(one) != job_check_key(ClusterProfile.model_validate({"job": {"n_cpus": 2}}))


def test_a_folder_of_runs_that_slurm_would_write_elsewhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "%u").mkdir()
    site = replace(make_site(tmp_path), runs_dir=tmp_path / "%u" / "runs")

    (finding,) = machine.check_operations(site)

    assert finding.level == "failure"
    assert "has the character '%' in its path" in finding.found


def test_without_energy_counters_doctor_says_what_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "RAPL_PATH", tmp_path / "gone")
    monkeypatch.setattr(machine, "list_gpus", lambda visible: ([], None, None))

    (finding,) = machine.check_counters(make_site(tmp_path, launcher="local"))

    assert finding.level == "ok"  # many machines have none, and every search runs
    assert "energy will be unknown; leave it out of objectives and budget" in finding.found
