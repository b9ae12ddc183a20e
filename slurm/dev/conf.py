"""Writes the texts of Slurm's configuration files."""

import getpass
from pathlib import Path

from slurm.dev.plan import Plan, Ports

CPUS_PER_NODE = 16
MEMORY_PER_NODE_MIB = 64_000
MEMORY_PER_CPU_MIB = 256
"""Memory per core of a job that requests none. Slurm is configured with more memory than the machine has."""


def slurm_conf(plan: Plan, ports: Ports, *, cgroup_version: int | None, plugin_dir: Path | None = None) -> str:
    """Write slurm.conf.

    Args:
        plan: The cluster.
        ports: Its ports.
        cgroup_version: Version of the control groups that hold jobs to their memory; ``None`` if none do.
        plugin_dir: Folder of Slurm's plugins, if it is not the one that Slurm knows.
    """
    job_lines = _job_lines(plan, ports, cgroup_version=cgroup_version)
    plugins = [] if plugin_dir is None else [f"PluginDir={plugin_dir}"]
    prolog = [f"TaskProlog={plan.task_prolog_path}"] if plan.cards else []
    lines = [*_daemon_lines(plan, ports), *plugins, *job_lines, *prolog, *_node_lines(plan, ports), ""]
    return "\n".join(lines)


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


TRACKING = {
    None: ("linuxproc", "task/none"),
    1: ("linuxproc", "task/cgroup"),
    2: ("cgroup", "task/cgroup,task/affinity"),
}
"""Version of the control groups -> how processes are tracked and tasks held."""


def _job_lines(plan: Plan, ports: Ports, *, cgroup_version: int | None) -> list[str]:
    tracking, tasks = TRACKING[cgroup_version]
    return [
        "MpiDefault=none",
        "MailProg=/bin/true",
        "SwitchType=switch/none",
        f"ProctrackType=proctrack/{tracking}",
        f"TaskPlugin={tasks}",
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
        *([f"FirstJobId={ports.job_ids.start}"] if cgroup_version else []),
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
    """Write gres.conf: the GPUs are real ones, or plain files, because Slurm requires a file for each."""
    if not plan.gpus_per_node:
        return ""
    if plan.cards:
        lines = [f"NodeName={node} Name=gpu File={path}\n" for node in plan.node_names for path in plan.cards_of(node)]
        return "".join(lines)
    return f"NodeName=n[1-{plan.nodes}] Name=gpu File={plan.dir}/gpu/gpu[0-{plan.gpus_per_node - 1}]\n"


def task_prolog(plan: Plan) -> str:
    """Write the program that names the granted GPUs by their ids.

    Slurm counts the GPUs of a node from 0, also where several nodes share a machine. A task that has ids already, such
    as a step of a job, keeps them.
    """
    cases = [
        f"  {node}:{number}) echo {name} ;;"
        for node in plan.node_names
        for number, name in enumerate(plan.cards_of(node).values())
    ]
    return "\n".join(
        [
            "#!/bin/sh",
            'name_of() { case "$SLURMD_NODENAME:$1" in',
            *cases,
            '  *) echo "$1" ;;',
            "esac; }",
            'test -n "$CUDA_VISIBLE_DEVICES" || exit 0',
            "named=",
            'for one in $(echo "$CUDA_VISIBLE_DEVICES" | tr , " "); do named=$named,$(name_of "$one"); done',
            "echo export CUDA_VISIBLE_DEVICES=${named#,}",
            "",
        ]
    )


def cgroup_conf(version: int) -> str:
    """Write cgroup.conf: memory is limited, nothing else."""
    return "\n".join(
        [
            f"CgroupPlugin=cgroup/v{version}",
            *(["IgnoreSystemd=yes"] if version == 2 else []),
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
