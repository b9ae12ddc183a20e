"""What a job asks for is held against the limits of partition, QOS and account."""

import os
import pwd
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.doctor.sites import make_site
from tests.submit.fake_slurm import write_command
from xautolm_hpc.doctor import BEFORE_A_RUN, CHECKS, Site, cluster
from xautolm_hpc.submit import job_limits

USER = pwd.getpwuid(os.getuid()).pw_name
ENFORCED = {"AccountingStorageEnforce": "associations,limits", "ClusterName": "c1"}
TRIALS = {"n_cpus": 8, "memory_gb": 32.0, "n_gpus": 2}


def with_accounts(
    folder: Path,
    *,
    association: dict[str, str] | None = None,
    account: dict[str, str] | None = None,
    qos: dict[str, dict[str, str]] | None = None,
    partition: str = "PartitionName=gpu QoS=N/A MaxNodes=UNLIMITED MaxCPUsPerNode=UNLIMITED MaxMemPerNode=UNLIMITED",
    **profile: Any,
) -> Site:
    """Make a site whose accounts have some limits, and a profile whose jobs ask for 8 cores, 32 GiB and 2 GPUs."""
    rows = [{"Account": "dev", **(account or {})}, {"User": USER, "Account": "dev", **(association or {})}]
    columns = ("User", "Account", "Partition", "DefaultQOS", *job_limits.OF_ASSOCIATION)
    kinds = [{"Name": name, **values} for name, values in (qos or {}).items()]
    answers = {
        "user": "dev\n",
        "association": "".join("|".join(row.get(name, "") for name in columns) + "\n" for row in rows),
        "qos": "".join(
            "|".join(row.get(name, "") for name in ("Name", "Flags", *job_limits.OF_QOS)) + "\n" for row in kinds
        ),
    }
    write_command(folder, "sacctmgr", answers)
    write_command(folder, "scontrol", {"partition": partition})
    site = make_site(folder, **{"job": TRIALS, **profile})
    return replace(site, settings={**ENFORCED})


@pytest.mark.parametrize(
    ("place", "found", "remedy"),
    [
        ({"association": {"MaxTRES": "cpu=4"}}, "asks for 8 cores; association of", "lower job.n_cpus"),
        ({"association": {"MaxTRES": "mem=16G"}}, "asks for 32768 MiB of memory; association", "lower job.memory_gb"),
        ({"association": {"MaxTRES": "gres/gpu=1"}}, "asks for 2 GPUs; association of", "lower job.n_gpus"),
        ({"association": {"MaxTRESPerNode": "cpu=7"}}, "8 cores; association of", "lower job.n_cpus"),
        ({"association": {"MaxTRESMins": "cpu=500"}}, "asks for 560 cores x minutes", "lower job.n_cpus"),
        ({"association": {"MaxWall": "01:00:00"}}, "asks for 70 minutes; association", "lower trial.time_limit_min"),
        ({"account": {"GrpTRES": "cpu=6"}}, "account dev allows 6 for all jobs together", "lower job.n_cpus"),
        ({"qos": {"normal": {"MaxTRESPU": "gres/gpu=1"}}}, "QOS normal allows 1 for all jobs of a user", "job.n_gpus"),
        ({"qos": {"normal": {"MaxTRESPA": "cpu=1"}}}, "QOS normal allows 1 for all jobs of an account", "job.n_cpus"),
        ({"qos": {"normal": {"MinTRES": "gres/gpu=4"}}}, "asks for 2 GPUs; QOS normal wants 4", "raise job.n_gpus"),
    ],
)
def test_a_limit_that_a_job_exceeds_is_a_failure_that_names_the_key(
    tmp_path: Path, place: dict[str, Any], found: str, remedy: str
) -> None:
    (finding,) = cluster.check_account_limits(with_accounts(tmp_path, **place))

    assert finding.level == "failure"
    assert found in finding.found
    assert finding.remedy.startswith(remedy) or remedy in finding.remedy


@pytest.mark.parametrize(
    "place",
    [
        {},
        {"association": {"MaxTRES": "cpu=8,mem=32G,gres/gpu=2,node=1", "MaxWall": "01:10:00"}},
        {"association": {"MaxTRES": "billing=1"}, "qos": {"normal": {"MinTRES": "cpu=8"}}},
        {"association": {"MaxTRES": "cpu=4"}, "qos": {"normal": {"MaxTRES": "cpu=8"}}},
        {"account": {"MaxTRES": "cpu=4"}, "association": {"MaxTRES": "cpu=8"}},
    ],
    ids=["none", "just enough", "not asked for", "the QOS counts before", "the user counts before the account"],
)
def test_a_limit_that_holds_no_job_back_is_ok(tmp_path: Path, place: dict[str, Any]) -> None:
    (finding,) = cluster.check_account_limits(with_accounts(tmp_path, **place))

    assert (finding.level, finding.remedy) == ("ok", "")
    assert f"association of {USER} in account dev" in finding.found


@pytest.mark.parametrize(("flags", "level"), [("", "ok"), ("OverPartQOS", "failure")])
def test_the_partitions_qos_counts_before_the_jobs_unless_that_says_otherwise(
    tmp_path: Path, flags: str, level: str
) -> None:
    site = with_accounts(
        tmp_path,
        partition="PartitionName=gpu QoS=part",
        qos={"part": {"MaxTRES": "cpu=8"}, "mine": {"MaxTRES": "cpu=4", "Flags": flags}},
        slurm={"qos": "mine"},
    )

    (finding,) = cluster.check_account_limits(site)

    assert finding.level == level


def test_gpus_of_a_type_are_counted_under_both_names(tmp_path: Path) -> None:
    site = with_accounts(
        tmp_path, association={"MaxTRES": "gres/gpu:a100=2,gres/gpu=3"}, slurm={"gres": "lscratch:10,gpu:a100:4"}
    )

    found = [finding.found for finding in cluster.check_account_limits(site)]

    assert [text.partition(";")[0] for text in found] == ["a job asks for 4 GPUs"] * 2


def test_a_job_of_several_trials_is_as_long_as_they_are(tmp_path: Path) -> None:
    site = with_accounts(tmp_path, association={"MaxWall": "02:00:00"}, job={"trials_per_job": 3})

    (finding,) = cluster.check_account_limits(site)

    assert "a job asks for 210 minutes" in finding.found
    assert "job.trials_per_job" in finding.remedy


def test_a_site_without_accounting_answers_that_its_limits_are_not_known(tmp_path: Path) -> None:
    (finding,) = cluster.check_account_limits(replace(make_site(tmp_path), settings=ENFORCED))

    assert (finding.level, finding.found) == ("ok", "not known: sacctmgr does not answer")


@pytest.mark.parametrize("enforced", ["none", "associations", ""])
def test_limits_that_the_controller_does_not_hold_jobs_to_are_none(tmp_path: Path, enforced: str) -> None:
    site = with_accounts(tmp_path, association={"MaxTRES": "cpu=1"})

    (finding,) = cluster.check_account_limits(replace(site, settings={"AccountingStorageEnforce": enforced}))

    assert (finding.level, finding.found) == ("ok", "none holds: AccountingStorageEnforce does not name limits")


@pytest.mark.parametrize(
    ("setting", "found", "remedy"),
    [
        ("MaxNodes=0", "a job asks for 1 nodes, partition 'gpu' allows 0", "lower job.n_nodes"),
        ("MaxCPUsPerNode=4", "a job asks for 8 cores, partition 'gpu' allows 4", "lower job.n_cpus"),
        ("MaxMemPerNode=16000", "a job asks for 32768 MiB of memory, partition 'gpu' allows 16000", "job.memory_gb"),
    ],
)
def test_a_limit_of_the_partition_that_a_job_exceeds_is_a_failure(
    tmp_path: Path, setting: str, found: str, remedy: str
) -> None:
    (finding,) = cluster.check_partition_limits(with_accounts(tmp_path, partition=f"PartitionName=gpu {setting}"))

    assert finding.level == "failure"
    assert found in finding.found
    assert remedy in finding.remedy


def test_a_partition_whose_limits_hold_no_job_back_is_not_mentioned(tmp_path: Path) -> None:
    assert cluster.check_partition_limits(with_accounts(tmp_path)) == []


def test_a_search_is_refused_before_it_begins_for_a_limit_that_would_hold_every_job_back() -> None:
    checks = (cluster.check_partition_limits, cluster.check_account_limits)

    assert all(check in BEFORE_A_RUN and check in CHECKS for check in checks)
