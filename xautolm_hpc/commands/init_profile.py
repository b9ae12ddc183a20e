"""The cluster profile that ``init --profile`` writes: what Slurm says of this cluster, or this machine of itself."""

import getpass
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xautolm_hpc.config.reference import schema_line
from xautolm_hpc.durable import toml_text
from xautolm_hpc.node import list_gpus
from xautolm_hpc.slurm import Partition, Slurm

GIB_AS_MIB = 1024
SHARE_OF_MEMORY = 0.9
"""Share of a node's memory that its trials ask for together; the rest is the system's."""

MAX_TRIAL_CPUS = 8
MAX_TRIAL_GIB = 64
MAX_PARALLEL = 16
ASSOCIATION = ("account", "partition", "qos", "maxjobs", "maxsubmit")
"""What is asked of what a person may charge and use."""

KNOWN_GPUS = {"v100": (16, 7.0), "a100": (40, 8.0), "h100": (80, 9.0), "h200": (141, 9.0), "l40s": (48, 8.9)}
"""Part of a GPU's type in Slurm -> GiB it has at least, and its compute capability."""


@dataclass(frozen=True, slots=True)
class _Gpus:
    """GPUs of a node, as ``gres`` gives them."""

    kind: str | None
    n: int


def profile_text(environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """Write a cluster profile for where this runs.

    Args:
        environ: The person's environment.

    Returns:
        The profile, and lines about what it was made of and what is to be looked at.
    """
    slurm = Slurm(environ)
    partitions = [] if slurm.missing_commands() else slurm.sinfo() or []
    if not partitions:
        return _of_machine(environ)
    return _of_cluster(partitions, slurm=slurm, environ=environ)


def _of_machine(environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """Write a profile of this machine: a trial on each GPU, or on each few cores."""
    n_cores = len(os.sched_getaffinity(0))
    ram_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpus, _, _ = list_gpus(environ.get("CUDA_VISIBLE_DEVICES"))
    n_cpus = max(1, min(MAX_TRIAL_CPUS, n_cores // len(gpus))) if gpus else max(1, min(4, n_cores // 4))
    n_slots = len(gpus) or max(1, n_cores // n_cpus)
    memory_gib = max(1, int(ram_gib * SHARE_OF_MEMORY / n_slots))
    lines = [
        *_head("This machine, without Slurm."),
        'site = "local"      # change: your institution; every experience records it',
        'cluster = "local"',
        'launcher = "local"',
        "",
        "[job]               # of a trial",
        f"n_cpus = {n_cpus}",
        f"n_gpus = {1 if gpus else 0}",
        f"memory_gb = {memory_gib}",
        "",
        "[local]",
        f"n_slots = {n_slots}         # trials at the same time",
    ]
    found = f"this machine: {n_cores} cores, {ram_gib:.0f} GiB, {len(gpus)} GPUs; no Slurm"
    return "\n".join(lines) + "\n", [found]


def _of_cluster(partitions: Sequence[Partition], *, slurm: Slurm, environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """Write a profile of a cluster: the partition with most GPUs that takes jobs, or the default one."""
    chosen = max(partitions, key=lambda kind: (kind.is_up, _gpus(kind).n * kind.n_nodes, kind.is_default))
    gpus = _gpus(chosen)
    settings = slurm.settings() or {}
    associations = slurm.sacctmgr("association", ASSOCIATION, where=[f"user={getpass.getuser()}"])
    own = [row for row in associations or () if row.get("partition") in ("", chosen.name)]
    cluster = settings.get("ClusterName", "cluster")
    lines = [
        *_head(f"Cluster {cluster}, as sinfo, scontrol and sacctmgr described it."),
        f"site = {toml_text(cluster)}    # change: your institution; every experience records it",
        f"cluster = {toml_text(cluster)}",
        'launcher = "slurm"',
        "",
        "# Runs training on the nodes, which must see it, the folder of runs and hf_home.",
        f"worker_python = {toml_text(sys.executable)}",
        f"hf_home = {toml_text(_hf_home(environ))}",
        "",
        *_job_lines(chosen, gpus),
        "",
        *_slurm_lines(chosen, gpus, own=own),
        "",
        *_system_lines(chosen, gpus),
    ]
    notes = [
        f"partition {chosen.name}: {chosen.n_nodes} nodes with {chosen.n_cpus} cores, "
        f"{chosen.memory_mib // GIB_AS_MIB} GiB, {gpus.n} GPUs; jobs of up to {chosen.time_limit}",
        f"others: {', '.join(sorted({kind.name for kind in partitions} - {chosen.name})) or 'none'}",
        "look at every line that says `change`",
    ]
    if associations is None:
        notes.append("sacctmgr does not answer: set slurm.account if the cluster wants one")
    return "\n".join(lines) + "\n", notes


def _head(comment: str) -> Iterator[str]:
    yield schema_line("profile")
    yield f"# {comment} Written by `xautolm-hpc init --profile`;"
    yield "# `xautolm-hpc doctor` checks it, `xautolm-hpc schema profile --markdown` lists every key."


def _job_lines(chosen: Partition, gpus: _Gpus) -> Iterator[str]:
    """Write what a trial asks for: a share of the node that leaves no GPU without cores and memory."""
    n_trials = gpus.n or max(1, chosen.n_cpus // 4)
    memory_gib = int(chosen.memory_mib / GIB_AS_MIB * SHARE_OF_MEMORY / n_trials)
    yield "[job]                 # of a trial, on each node"
    yield f"n_cpus = {max(1, min(MAX_TRIAL_CPUS, chosen.n_cpus // n_trials))}"
    yield f"n_gpus = {1 if gpus.n else 0}"
    yield f"memory_gb = {max(1, min(MAX_TRIAL_GIB, memory_gib))}"


def _slurm_lines(chosen: Partition, gpus: _Gpus, *, own: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Write the options of sbatch, and the limits that the accounting database sets for the first association."""
    first = own[0] if own else {}
    n_running, n_queued = first.get("maxjobs", ""), first.get("maxsubmit", "")
    accounts = list(dict.fromkeys(row["account"] for row in own if row.get("account")))
    yield "[slurm]"
    if accounts:
        yield f"account = {toml_text(accounts[0])}{_choice(accounts)}"
    yield f"partition = {toml_text(chosen.name)}    # its jobs run for {chosen.time_limit} at most"
    qos = [name for name in first.get("qos", "").split(",") if name]
    if len(qos) > 1:
        yield f"# qos = {toml_text(qos[0])}{_choice(qos)}"
    if gpus.n:
        yield f"gres = {toml_text('gpu:1' if gpus.kind is None else f'gpu:{gpus.kind}:1')}"
    yield f"max_parallel = {min(MAX_PARALLEL, int(n_running)) if n_running.isdecimal() else MAX_PARALLEL}"
    if n_queued.isdecimal():
        yield f"max_queued = {n_queued}"


def _system_lines(chosen: Partition, gpus: _Gpus) -> Iterator[str]:
    """Write what is known of a node before a job has seen it."""
    yield "[system]              # the node, for `plan` and early estimates; a run measures the real one"
    yield f"n_cpu_cores = {chosen.n_cpus}"
    yield f"ram_gb = {max(1, chosen.memory_mib // GIB_AS_MIB)}"
    yield f"n_gpus = {gpus.n}"
    known = next((facts for part, facts in KNOWN_GPUS.items() if part in (gpus.kind or "").lower()), None)
    if gpus.n and known is not None:
        yield f"gpu_memory_gb = {known[0]}    # change, if yours has more"
        yield f"gpu_capability = {known[1]}"
    elif gpus.n:
        yield "# gpu_memory_gb = 80    # change: without it `plan` and `models` cannot tell what fits"


def _choice(names: Sequence[str]) -> str:
    return f"    # change: one of {', '.join(names)}" if len(names) > 1 else ""


def _gpus(kind: Partition) -> _Gpus:
    """Read the GPUs of a node: ``gpu:a100:4(S:0-1)`` is 4 of type a100."""
    found = re.search(r"(?:^|,)gpu(?::([A-Za-z][\w.-]*))?(?::(\d+))?(?=[,(]|$)", kind.gres)
    return _Gpus(None, 0) if found is None else _Gpus(found[1], int(found[2] or 1))


def _hf_home(environ: Mapping[str, str]) -> str:
    return environ.get("HF_HOME") or str(Path(environ.get("HOME", "/")) / ".cache" / "huggingface")
