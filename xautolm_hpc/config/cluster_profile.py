"""Cluster profiles: what trials run on, and how jobs are asked for."""

import sys
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from xautolm_hpc.config.section import Count, Positive, SettingsSection
from xautolm_hpc.config.slurm_options import check_options
from xautolm_hpc.container import ContainerSection


class JobSection(SettingsSection):
    """``[job]``: resources of a trial on each node.

    Attributes:
        n_cpus: Processor cores, which are also the worker's threads.
        n_gpus: GPUs, with a process for each.
        n_nodes: Nodes.
        n_processes: Processes of a trial without a GPU.
        memory_gb: Memory in GiB.
        queue_slack_min: Minutes that a job asks for beside the time limit of its trial, for loading and saving.
        trials_per_job: Trials that a job runs at most, one after the other.
    """

    n_cpus: Count = 1
    n_gpus: Annotated[int, Field(ge=0)] = 0
    n_nodes: Count = 1
    n_processes: Count = 1
    memory_gb: Positive = 4.0
    queue_slack_min: Positive = 10.0
    trials_per_job: Count = 1


class LocalSection(SettingsSection):
    """``[local]``: the launcher of this machine.

    Attributes:
        n_slots: Trials at the same time.
        poll_s: Seconds between two looks at the trials.
    """

    n_slots: Count = 2
    poll_s: Positive = 0.5


class SlurmSection(SettingsSection):
    """``[slurm]``: options for sbatch, and how often and how much Slurm is asked.

    Attributes:
        account: Account to charge.
        partition: Partition, or several with commas: a job runs in the first that can.
        qos: Quality of service.
        gres: Generic resources, for instance ``gpu:a100:1``; asked for instead of a plain number of GPUs.
        constraint: Features of the nodes.
        exclude: Nodes not to use, in Slurm's notation.
        reservation: Reservation.
        wckey: Workload characterisation key.
        options: Any other option of sbatch by its long name; ``true`` for one without a value. What it asks for in GPUs
            or memory replaces this program's own option; ``mem = false`` asks for no memory.
        max_parallel: Jobs of a run that run at the same time.
        max_queued: Jobs of a run in the queue, running ones included; Slurm's own limits when absent.
        poll_s: Seconds between two questions to Slurm, at least 1.
    """

    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    gres: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    reservation: str | None = None
    wckey: str | None = None
    options: dict[str, str | int | bool] = Field(default={})
    max_parallel: Count = 256
    max_queued: Count | None = None
    poll_s: Annotated[float, Field(ge=1)] = 30.0


class PatienceSection(SettingsSection):
    """``[patience]``: how long to wait.

    Attributes:
        outcome_grace_s: Seconds after a job's end before a missing outcome is believed.
        pending_patience_h: Hours that a job may be held, or pending for a reason that cannot clear.
        heartbeat_s: Seconds between two signs of life of a trial.
        lease_stale_s: Seconds of silence after which a driver on another node counts as dead.
    """

    outcome_grace_s: Annotated[float, Field(ge=0)] = 60.0
    pending_patience_h: Positive = 24.0
    heartbeat_s: Positive = 30.0
    lease_stale_s: Positive = 120.0


class EnvironmentSection(SettingsSection):
    """``[environment]``: variables passed to jobs, in addition to a few basic ones.

    Attributes:
        allow: Names of variables that are passed on as they are.
        set: Variable -> value.
    """

    allow: tuple[str, ...] = ()
    set: dict[str, str] = Field(default={})


class SystemSection(SettingsSection):
    """``[system]``: the compute node, used by ``plan`` and for early constraints; a run measures the real node.

    Attributes:
        n_cpu_cores: Processor cores of a node.
        ram_gb: Memory of a node in GiB.
        n_gpus: GPUs of a node.
        gpu_name: Name of the GPU as NVML gives it.
        gpu_memory_gb: Memory of a GPU in GiB.
        gpu_capability: CUDA compute capability, for instance 8.0.
    """

    n_cpu_cores: Count | None = None
    ram_gb: Positive | None = None
    n_gpus: Annotated[int, Field(ge=0)] | None = None
    gpu_name: str | None = None
    gpu_memory_gb: Positive | None = None
    gpu_capability: Positive | None = None


class CostSection(SettingsSection):
    """``[cost]``: what energy and GPU time cost; the report shows emissions and price where it is given.

    Attributes:
        co2_g_per_kwh: Grams of CO2 equivalent per kilowatt-hour of your grid.
        price_per_gpu_h: Price of one GPU hour, in ``currency``.
        currency: What the price is in.
    """

    co2_g_per_kwh: Annotated[float, Field(ge=0)] | None = None
    price_per_gpu_h: Annotated[float, Field(ge=0)] | None = None
    currency: Annotated[str, Field(min_length=1, max_length=12)] = "EUR"


class ClusterProfile(SettingsSection):
    """A whole cluster profile; the default runs trials on this machine.

    Attributes:
        site: Institution, recorded in every experience.
        cluster: Cluster, recorded in every experience.
        launcher: What starts jobs: ``local`` on this machine, or ``slurm``.
        driver_python: Python that runs submitit and the wrapper on the node; by default the one that runs the driver.
        worker_python: Python that trains; by default that of the driver. A path relative to the profile, or a name.
        container: Image that trains, instead of ``worker_python``.
        hf_home: Offline cache of hub models, which the nodes see; by default that of ``HF_HOME``.
        job: Resources of a trial.
        local: The launcher of this machine.
        slurm: Options for sbatch.
        patience: How long to wait.
        environment: Variables passed to jobs.
        system: The compute node.
        cost: What energy and GPU time cost.
    """

    site: Annotated[str, Field(min_length=1)] = "local"
    cluster: Annotated[str, Field(min_length=1)] = "local"
    launcher: Literal["local", "slurm"] = "local"
    driver_python: str = sys.executable
    worker_python: str | None = None
    container: ContainerSection | None = None
    hf_home: str | None = None
    job: JobSection = JobSection()
    local: LocalSection = LocalSection()
    slurm: Annotated[SlurmSection, AfterValidator(check_options)] = SlurmSection()
    patience: PatienceSection = PatienceSection()
    environment: EnvironmentSection = EnvironmentSection()
    system: SystemSection = SystemSection()
    cost: CostSection = CostSection()

    @model_validator(mode="after")
    def _check_worker(self) -> "ClusterProfile":
        """Reject a profile that names no worker or two, or several trials in a job where a trial has several ranks."""
        if self.worker_python and self.container:
            raise ValueError("worker_python and container: name one of them, not both")
        if self.launcher == "slurm" and not (self.worker_python or self.container):
            raise ValueError("launcher = 'slurm' needs worker_python, or [container] with an image")
        n_ranks = (self.job.n_gpus or self.job.n_processes) * self.job.n_nodes
        if self.job.trials_per_job > 1 and n_ranks > 1:
            raise ValueError(
                f"job.trials_per_job = {self.job.trials_per_job}: expected 1 where a trial has {n_ranks} processes"
            )
        return self

    @property
    def poll_s(self) -> float:
        """Seconds between two polls of the jobs."""
        return self.local.poll_s if self.launcher == "local" else self.slurm.poll_s
