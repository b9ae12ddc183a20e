"""Looks whether searches can run here, before one is submitted; ``run`` asks too.

Each check is a small function from a :class:`Site` to findings, listed in :data:`CHECKS`; to add one, write it and
list it::

    site           what checks are given: the person's files, and Slurm's answers, asked for once
    cluster        Slurm's commands, limits, partitions, GPUs, and whether sbatch takes the script
    machine        the file system of the run folder, free space, clocks, interpreters, the cache of models
    packages       the packages that the worker's Python lacks
    images         the image: whole, the right one, signed; what is bound into it; whether it can be started here
    job            one short job: the node sees the folder and the interpreters, and one training step works
    passed         which profiles had their job already
"""

from collections.abc import Callable, Sequence

from xautolm_hpc.doctor import cluster, images, machine, packages
from xautolm_hpc.doctor.job import check_job
from xautolm_hpc.doctor.machine import runs_folder
from xautolm_hpc.doctor.passed import job_check_key, recall_job_check, recall_start_s, remember_job_check
from xautolm_hpc.doctor.site import Site, search_of_doctor
from xautolm_hpc.view import Finding

Check = Callable[[Site], Sequence[Finding]]

REQUEST_CHECKS: tuple[Check, ...] = (
    cluster.check_partition,
    cluster.check_time_limit,
    cluster.check_gres,
    cluster.check_node_size,
    cluster.check_partition_limits,
    cluster.check_account_limits,
    cluster.check_submission,
)
"""Those that hold what a job asks for against what the cluster has and allows."""

CHECKS: tuple[Check, ...] = (
    cluster.check_commands,
    cluster.check_ended_jobs,
    cluster.check_array_limit,
    *REQUEST_CHECKS,
    machine.check_operations,
    machine.check_clock,
    machine.check_space,
    machine.check_writable,
    machine.check_quota,
    machine.check_interpreters,
    packages.check_worker_packages,
    machine.check_models,
    machine.check_counters,
    images.check_image,
    images.check_binds,
    images.check_apptainer,
)


BEFORE_A_RUN: tuple[Check, ...] = (
    cluster.check_commands,
    cluster.check_partition,
    cluster.check_time_limit,
    cluster.check_gres,
    cluster.check_node_size,
    cluster.check_partition_limits,
    cluster.check_account_limits,
    cluster.check_submission,
    machine.check_space,
    machine.check_writable,
    machine.check_interpreters,
    packages.check_worker_packages,
    machine.check_models,
    images.check_image,
    images.check_binds,
    images.check_apptainer,
)
"""What ``run`` asks before it begins a search: whatever would refuse or break every job."""


def failures(findings: Sequence[Finding]) -> list[Finding]:
    """Pick what keeps searches from running.

    Args:
        findings: The findings.
    """
    return [finding for finding in findings if finding.level == "failure"]


def examine(site: Site, checks: Sequence[Check] = CHECKS) -> list[Finding]:
    """Make every check, in order.

    Args:
        site: What they are given.
        checks: The checks.
    """
    return [finding for check in checks for finding in check(site)]


__all__ = [
    "BEFORE_A_RUN",
    "CHECKS",
    "Check",
    "Site",
    "check_job",
    "examine",
    "failures",
    "job_check_key",
    "recall_job_check",
    "recall_start_s",
    "remember_job_check",
    "runs_folder",
    "search_of_doctor",
]
