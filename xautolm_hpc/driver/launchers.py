"""The launcher that a cluster profile names."""

import os
from collections.abc import Mapping
from dataclasses import replace

from xautolm_hpc.config import ClusterProfile
from xautolm_hpc.errors import InputError
from xautolm_hpc.launcher import Launcher
from xautolm_hpc.node import Clock, list_gpus
from xautolm_hpc.slurm import Slurm
from xautolm_hpc.submit.arrays import SlurmOptions, asked_gres
from xautolm_hpc.submit.job_limits import count_gres
from xautolm_hpc.submit.local_launcher import LocalLauncher
from xautolm_hpc.submit.series_launcher import SeriesLauncher
from xautolm_hpc.submit.slurm_launcher import SlurmLauncher


def make_launcher(profile: ClusterProfile, environ: Mapping[str, str], *, clock: Clock, since: float) -> Launcher:
    """Make the launcher that a cluster profile names.

    Args:
        profile: The cluster profile.
        environ: The user's environment.
        clock: Time.
        since: When the run began, seconds since the epoch.

    Raises:
        InputError: The profile wants Slurm and there is none.
    """
    if profile.launcher == "local":
        gpus, _, _ = list_gpus(environ.get("CUDA_VISIBLE_DEVICES"))
        pool = LocalLauncher(profile.local.n_slots, clock, python=profile.driver_python, n_gpus=len(gpus))
        return SeriesLauncher(pool)
    slurm = Slurm(environ)
    if slurm.missing_commands():
        raise InputError(f"launcher = 'slurm', but {'; '.join(slurm.why_silent())}")
    return SeriesLauncher(slurm_launcher(profile, since=since))


def slurm_launcher(profile: ClusterProfile, *, since: float, node_checks: tuple[str, ...] = ()) -> SlurmLauncher:
    """Make the launcher of a profile that wants Slurm, whether or not there is one here.

    Args:
        profile: The cluster profile.
        since: When the run began, seconds since the epoch.
        node_checks: Lines of shell that every job runs first, before Slurm opens a file on the node.
    """
    options = slurm_options(profile)
    if node_checks:
        nowhere = {"output": os.devnull, "error": os.devnull}
        options = replace(options, node_checks=node_checks, options={**options.options, **nowhere})
    return SlurmLauncher(options, since=since, python=profile.driver_python)


SHARES = {"gres/shard", "gres/mps"}
"""Generic resources that are parts of a GPU."""


def slurm_options(profile: ClusterProfile) -> SlurmOptions:
    """Return the options of sbatch that a profile names.

    Args:
        profile: The cluster profile.
    """
    return SlurmOptions(**profile.slurm.model_dump(exclude={"poll_s"}))


def gpus_of_job(profile: ClusterProfile) -> int:
    """Count the GPUs that a job asks for on each node, by ``job.n_gpus`` or an option of sbatch.

    Shares of GPUs count as ``job.n_gpus`` says: only the site knows how many of them make one.

    Args:
        profile: The cluster profile.
    """
    job = profile.job
    if profile.launcher == "local":
        return job.n_gpus
    gres = asked_gres(slurm_options(profile), n_gpus=job.n_gpus, n_nodes=job.n_nodes)
    counts = count_gres(gres or "")
    return job.n_gpus if counts.keys() & SHARES else counts.get("gres/gpu", 0)
