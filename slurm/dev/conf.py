"""Writes the texts of Slurm's configuration files."""

import getpass

from slurm.dev.plan import Plan, Ports

CPUS_PER_NODE = 16
MEMORY_PER_NODE_MIB = 64_000
MEMORY_PER_CPU_MIB = 256
"""Memory per core of a job that requests none. Slurm is configured with more memory than the machine has."""


def slurm_conf(plan: Plan, ports: Ports, *, limits_memory: bool) -> str:
    """Write slurm.conf.

    Args:
        plan: The cluster.
        ports: Its ports.
        limits_memory: Whether control groups hold jobs to their memory.
    """
    job_lines = _job_lines(plan, ports, limits_memory=limits_memory)
    return "\n".join([*_daemon_lines(plan, ports), *job_lines, *_node_lines(plan, ports), ""])


def _daemon_lines(plan: Plan, ports: Ports) -> list[str]:
    user = getpass.getuser()
    storage = "slurmdbd" if plan.accounting else "none"
    lines = [
        f"ClusterName={ports.cluster_name}",
        "SlurmctldHost=localhost(127.0.0.1)",
        f"SlurmctldPort={ports.slurmctld}",
        f"SlurmUser={user}",
        f"SlurmdUser={user}",
        "AuthType=auth/munge",
        "CredType=cred/munge",
        f"AuthInfo=socket={plan.munge_socket}",
        f"StateSaveLocation={plan.dir}/state",
        f"SlurmdSpoolDir={plan.dir}/spool/%n",
        f"SlurmctldPidFile={plan.dir}/run/own-slurmctld.pid",
        f"SlurmdPidFile={plan.dir}/run/own-%n.pid",
        "SlurmdTimeout=60",
        f"AccountingStorageType=accounting_storage/{storage}",
    ]
    if plan.accounting:
        lines += ["AccountingStorageHost=localhost", f"AccountingStoragePort={ports.slurmdbd}"]
        lines += [f"AccountingStoragePass={plan.munge_socket}"]
        lines += ["AccountingStorageTRES=gres/gpu"] if plan.gpus_per_node else []
        lines += ["AccountingStorageEnforce=limits"] if plan.max_submit_jobs else []
    return lines


def _job_lines(plan: Plan, ports: Ports, *, limits_memory: bool) -> list[str]:
    return [
        "MpiDefault=none",
        "MailProg=/bin/true",
        "SwitchType=switch/none",
        "ProctrackType=proctrack/linuxproc",
        f"TaskPlugin=task/{'cgroup' if limits_memory else 'none'}",
        "JobAcctGatherType=jobacct_gather/linux",
        "JobAcctGatherFrequency=task=2",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_CPU_Memory",
        # By default seconds pass between two scheduling passes of Slurm.
        "SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000,bf_interval=2",
        "PreemptType=preempt/partition_prio",
        "PreemptMode=REQUEUE",
        "JobRequeue=1",
        f"KillWait={plan.kill_wait_s}",
        f"MinJobAge={plan.min_job_age_s}",
        f"MaxArraySize={plan.max_array_size}",
        f"DefMemPerCPU={MEMORY_PER_CPU_MIB}",
        *([f"FirstJobId={ports.job_ids.start}"] if limits_memory else []),
    ]


def _node_lines(plan: Plan, ports: Ports) -> list[str]:
    gres = f" Gres=gpu:{plan.gpus_per_node}" if plan.gpus_per_node else ""
    size = f"CPUs={CPUS_PER_NODE} RealMemory={MEMORY_PER_NODE_MIB}{gres} State=UNKNOWN"
    nodes = [
        f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} {size}"
        for name, port in zip(plan.node_names, ports.slurmd, strict=True)
    ]
    partitions = [
        f"PartitionName={partition} Nodes=ALL MaxTime=INFINITE State=UP {options}"
        for partition, options in {
            "gpu": "Default=YES PriorityTier=1 PreemptMode=OFF",
            "preempt-requeue": "PriorityTier=1 PreemptMode=REQUEUE",
            "preempt-cancel": "PriorityTier=1 PreemptMode=CANCEL",
            "urgent": "PriorityTier=10 PreemptMode=OFF",
        }.items()
    ]
    gpus = ["GresTypes=gpu"] if plan.gpus_per_node else []
    return ["ReturnToService=2", "SlurmdParameters=config_overrides", *gpus, *nodes, *partitions]


def gres_conf(plan: Plan) -> str:
    """Write gres.conf: the GPUs are plain files, because Slurm requires a file for each."""
    if not plan.gpus_per_node:
        return ""
    return f"NodeName=n[1-{plan.nodes}] Name=gpu File={plan.dir}/gpu/gpu[0-{plan.gpus_per_node - 1}]\n"


def cgroup_conf() -> str:
    """Write cgroup.conf: memory is limited, nothing else."""
    return "\n".join(
        [
            "CgroupPlugin=cgroup/v1",
            "CgroupMountpoint=/sys/fs/cgroup",
            "ConstrainRAMSpace=yes",
            "ConstrainCores=no",
            "ConstrainDevices=no",
            "ConstrainSwapSpace=no",
            "",
        ]
    )


def slurmdbd_conf(plan: Plan, ports: Ports) -> str:
    """Write slurmdbd.conf; the database needs no password, its socket is in the cluster's folder."""
    return "\n".join(
        [
            "AuthType=auth/munge",
            f"AuthInfo=socket={plan.munge_socket}",
            "DbdHost=localhost",
            "DbdAddr=127.0.0.1",
            f"DbdPort={ports.slurmdbd}",
            f"SlurmUser={getpass.getuser()}",
            f"PidFile={plan.dir}/run/own-slurmdbd.pid",
            "StorageType=accounting_storage/mysql",
            "StorageHost=localhost",
            f"StorageUser={getpass.getuser()}",
            "StorageLoc=slurm",
            "",
        ]
    )
