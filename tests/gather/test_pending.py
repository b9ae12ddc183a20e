"""Why jobs wait: Slurm's reasons by kind, those of later versions included."""

import pytest

from xautolm_hpc.gather.pending import HELD, UNKNOWN, obstacle
from xautolm_hpc.launcher import WAITS_IN_JOB, JobSource, JobState, JobStatus

TURN = [
    "Priority", "Resources", "Dependency", "BeginTime", "Licenses", "JobArrayTaskLimit", "Cleaning", "Prolog",
    "Reservation", "Constraints", "AssocGrpCpuLimit", "AssocGrpGRES", "AssocGrpJobsLimit",
    "AssocGrpCPURunMinutesLimit", "AssocGrpMemRunMinutes", "AssocGrpBilling", "AssocMaxJobsLimit",
    "AssocMaxSubmitJobLimit", "AssociationJobLimit", "AssociationResourceLimit", "QOSGrpNodeLimit", "QOSGrpGRES",
    "QOSGrpGRESRunMinutes", "QOSJobLimit", "QOSResourceLimit", "QOSMaxJobsPerUserLimit", "QOSMaxCpuPerUserLimit",
    "QOSMaxGRESPerUser", "QOSMaxNodePerUserLimit", "QOSMaxSubmitJobPerUserLimit", "MaxGRESPerAccount",
    "MaxJobsPerAccount", "MaxMemoryPerAccount", "BurstBufferStageIn", "SchedDefer",
]  # fmt: skip

OF_REQUEST = {
    "AssocMaxCpuPerJobLimit": "the account allows no job that large: lower job.n_cpus",
    "AssocMaxCpuPerNode": "the account allows no job that large: lower job.n_cpus",
    "AssocMaxMemPerJob": "the account allows no job that large: lower job.memory_gb",
    "AssocMaxGRESPerJob": "the account allows no job that large: lower job.n_gpus",
    "AssocMaxNodePerJobLimit": "the account allows no job that large: lower job.n_nodes",
    "AssocMaxCpuMinutesPerJobLimit": "the account allows no job that large: lower trial.time_limit_min",
    "AssocMaxWallDurationPerJobLimit": "the account allows no job that long: lower trial.time_limit_min",
    "AssocMaxBillingPerJob": "the account allows no job like that: look at [job]",
    "QOSMaxMemoryPerNode": "the QOS allows no job that large: lower job.memory_gb",
    "QOSMaxGRESMinutesPerJob": "the QOS allows no job that large: lower trial.time_limit_min",
    "QOSMaxWallDurationPerJobLimit": "the QOS allows no job that long: lower trial.time_limit_min",
    "QOSTimeLimit": "the QOS allows no job that long",
    "QOSMaxNewThingPerJob": "the QOS allows no job like that",  # of a version to come
    "QOSMinGRES": "ask for more: the QOS takes no job that small",
    "MaxMemPerLimit": "lower job.memory_gb",
    "PartitionTimeLimit": "the partition allows no job that long: lower trial.time_limit_min",
    "PartitionNodeLimit": "the partition allows no job that large: lower job.n_nodes",
    "PartitionConfig": "the partition allows no job like that",
    "(QOSMaxCpuPerJobLimit)": "the QOS allows no job that large: lower job.n_cpus",
    "BadConstraints": "no node has what the job asks for",
    "InvalidAccount": "slurm.account",
    "AccountNotAllowed": "slurm.account",
    "QOSNotAllowed": "slurm.qos",
    "InvalidQOS": "slurm.qos",
    "ReservationDeleted": "slurm.reservation",
    "DependencyNeverSatisfied": "slurm.options",
    "DeadLine": "slurm.options",
}

OF_JOB = {
    "JobHeldUser": "you hold the job: scontrol release it",
    "JobHeldAdmin": "an administrator holds the job",
    "JobHoldMaxRequeue": "the node could not start the job",
    "launch failed requeued held": "the node could not start the job",
    "launch failure limit exceeded requeued held": "the node could not start the job",
    "job requeued in held state": HELD.remedy,
    "JobHeldByANewPlugin": HELD.remedy,
    "AssocGrpCPUMinutesLimit": "the account's allocation is used up",
    "AssocGrpGRESMinutes": "the account's allocation is used up",
    "QOSGrpBillingMinutes": "the account's allocation is used up",
    "AssocGrpWallLimit": "the account's allocation is used up",
    "PartitionDown": "the partition takes no jobs",
    "PartitionInactive": "the partition takes no jobs",
    "ReqNodeNotAvail, UnavailableNodes:n[1-3]": "the nodes asked for are not available",
    "ReqNodeNotAvail(Unavailable:n1)": "the nodes asked for are not available",
    "NodeDown": "the nodes asked for are not available",
    "SystemFailure": UNKNOWN.remedy,
    "AccountingPolicy": UNKNOWN.remedy,
    "ReasonOfAVersionToCome": UNKNOWN.remedy,
}


def pending(reason: str, *, is_held: bool = False) -> JobStatus:
    return JobStatus(state=JobState.PENDING, reason=reason, is_held=is_held, source=JobSource.SQUEUE)


RESERVED = [
    "ReqNodeNotAvail, Reserved for maintenance", "ReqNodeNotAvail, May be reserved for other job",
    "(ReqNodeNotAvail, May be reserved for other job)",
]  # fmt: skip


@pytest.mark.parametrize("reason", [*TURN, *RESERVED, "", WAITS_IN_JOB])
def test_a_reason_that_clears_by_waiting_is_no_obstacle(reason: str) -> None:
    assert obstacle(pending(reason)) is None


def test_all_nodes_reserved_or_down_is_no_obstacle() -> None:
    reason = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"

    assert obstacle(pending(reason)) is None


@pytest.mark.parametrize(("reason", "remedy"), OF_REQUEST.items())
def test_what_every_job_of_the_search_asks_for_is_an_obstacle_to_all(reason: str, remedy: str) -> None:
    found = obstacle(pending(reason))

    assert found is not None
    assert found.is_of_request
    assert remedy in found.remedy
    assert "{" not in found.remedy


@pytest.mark.parametrize(("reason", "remedy"), OF_JOB.items())
def test_another_obstacle_is_one_to_this_job(reason: str, remedy: str) -> None:
    found = obstacle(pending(reason))

    assert found is not None
    assert not found.is_of_request
    assert remedy in found.remedy


@pytest.mark.parametrize("reason", ["", "Priority", "BeginTime", "Resources"])
def test_a_job_without_priority_is_held_whatever_the_reason_says(reason: str) -> None:
    assert obstacle(pending(reason, is_held=True)) == HELD


def test_a_held_job_with_a_reason_of_its_own_keeps_its_remedy() -> None:
    found = obstacle(pending("BadConstraints", is_held=True))

    assert found is not None
    assert "no node has what the job asks for" in found.remedy


@pytest.mark.parametrize("state", ["RUNNING", "COMPLETED", "CANCELLED", "SUSPENDED", "UNKNOWN"])
def test_only_a_pending_job_meets_an_obstacle(state: str) -> None:
    assert obstacle(JobStatus(state=JobState(state), reason="JobHeldUser")) is None


def test_a_job_that_waits_in_the_pool_of_a_driver_is_not_asked_about() -> None:
    waits = JobStatus(state=JobState.PENDING, reason="waits for a free slot", source=JobSource.POOL)

    assert obstacle(waits) is None
