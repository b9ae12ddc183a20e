"""Checks of Slurm: its commands, its limits, and whether it takes the jobs of this profile."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from xautolm_hpc.doctor.site import Site
from xautolm_hpc.driver.launchers import gpus_of_job, slurm_options
from xautolm_hpc.errors import BusyError, QueueFullError
from xautolm_hpc.launcher import Submission
from xautolm_hpc.slurm import Partition, submission_error
from xautolm_hpc.submit.arrays import asked_gres
from xautolm_hpc.submit.environment import wrapper_environment
from xautolm_hpc.submit.job_limits import UNLIMITED, WORDS, are_enforced, exceeded, limit_s, read_places
from xautolm_hpc.view import Finding, failure, ok, warning

ACCOUNT, PARTITION = "account's limits", "partition's limits"
ENDED_JOB_LOOKS = 2
"""Polls within which an ended job should still be in squeue."""


def check_commands(site: Site) -> list[Finding]:
    """Check that Slurm's commands are there and its controller answers."""
    if not site.is_slurm:
        return []
    if site.slurm.missing_commands() or site.settings is None:
        found, remedy = site.slurm.why_silent()
        return [failure("Slurm's commands", found, remedy=remedy)]
    return [ok("Slurm", f"{site.settings.get('SLURM_VERSION', 'of unknown version')} answers")]


def check_ended_jobs(site: Site) -> list[Finding]:
    """Check where the end of a job can be looked up: sacct, and squeue for as long as it remembers."""
    if site.settings is None:
        return []
    if site.slurm.sacct(["xautolm-hpc-doctor"], since=0.0) is not None:
        return [ok("accounting", "sacct answers"), *_min_job_age(site, has_sacct=True)]
    remedy = "if the site keeps no accounts, squeue must do: set slurm.poll_s to half of MinJobAge or less"
    return [warning("accounting", "sacct does not answer", remedy=remedy), *_min_job_age(site, has_sacct=False)]


def _min_job_age(site: Site, *, has_sacct: bool) -> list[Finding]:
    """Compare how long squeue remembers an ended job with how often it is asked."""
    age_s = _leading_number((site.settings or {}).get("MinJobAge"))
    if age_s is None:
        return []
    poll_s = site.profile.slurm.poll_s
    if age_s >= ENDED_JOB_LOOKS * poll_s:
        return [ok("MinJobAge", f"squeue remembers ended jobs for {age_s} s and is asked every {poll_s:g} s")]
    found = f"squeue forgets ended jobs after {age_s} s, asked every {poll_s:g} s"
    if has_sacct:
        return [ok("MinJobAge", f"{found}; sacct knows them")]
    return [warning("MinJobAge", found, remedy=f"set slurm.poll_s to {max(1, age_s // ENDED_JOB_LOOKS)} or less")]


def check_array_limit(site: Site) -> list[Finding]:
    """Read how many jobs one array may hold."""
    limit = _leading_number((site.settings or {}).get("MaxArraySize"))
    if limit is None:
        return []
    return [ok("MaxArraySize", f"an array holds at most {limit} jobs; larger generations are split")]


COUNT = re.compile(r"([0-9]+)([kmgtpKMGTP]?)")
"""A count in the notation of ``--gres``; a unit is a power of 1024."""


def check_partition(site: Site) -> list[Finding]:
    """Check whether the partition is there and takes jobs."""
    if not site.partitions:
        return []
    names, nodes = site.partition_names, site.nodes()
    known = sorted({kind.name for kind in site.partitions})
    if unknown := [name for name in names if name not in known]:
        found = f"there is no partition {unknown[0]!r}"
        return [failure("partition", found, remedy=f"set slurm.partition to one of: {', '.join(known)}")]
    if not nodes:
        remedy = f"set slurm.partition to one of: {', '.join(known)}"
        return [failure("partition", "no partition is the default", remedy=remedy)]
    if not any(kind.is_up for kind in nodes):
        return [failure("partition", f"{nodes[0].name!r} takes no jobs", remedy="name another, or wait until it is up")]
    n_nodes = sum(kind.n_nodes for kind in nodes)
    limit = max((kind.time_limit for kind in nodes), key=limit_s)
    words = "jobs of any length" if limit.lower() in UNLIMITED else f"jobs of up to {limit}"
    return [ok("partition", f"{_names(nodes)}: {n_nodes} nodes, {words}")]


def check_time_limit(site: Site) -> list[Finding]:
    """Compare a job's time with the partition's limit."""
    limits = [limit_s(kind.time_limit) for kind in site.nodes()]
    if not limits:
        return []
    wanted_s, longest = site.resources().time_limit_s, max(limits)
    if wanted_s <= longest:
        return [ok("time limit", f"a job asks for {wanted_s / 60:g} min")]
    found = f"a job asks for {wanted_s / 60:g} min, partition {_names(site.nodes())!r} allows {longest / 60:g} min"
    return [
        failure(
            "time limit",
            found,
            remedy="lower trial.time_limit_min, job.queue_slack_min or job.trials_per_job, or name another partition",
        )
    ]


def check_gres(site: Site) -> list[Finding]:
    """Check whether the partition's nodes have the GPUs that a job asks for."""
    nodes, job = site.nodes(), site.profile.job
    if not nodes:
        return []
    wanted = asked_gres(slurm_options(site.profile), n_gpus=job.n_gpus, n_nodes=job.n_nodes)
    if wanted is None:
        return [ok("GPUs", "a job asks for none")]
    offered = sorted({item for kind in nodes for item in _items(kind.gres)})
    if all(any(_offers(item, part) for item in offered) for part in _items(wanted)):
        n_asked = gpus_of_job(site.profile)
        if n_asked < job.n_gpus or n_asked > max(1, job.n_gpus):
            found = f"a job asks for {wanted} on each node, and job.n_gpus = {job.n_gpus} processes use a GPU each"
            return [warning("GPUs", found, remedy=f"set job.n_gpus = {n_asked}")]
        return [ok("GPUs", f"a job asks for {wanted}, nodes have {', '.join(offered)}")]
    found = f"a job asks for {wanted}, nodes of partition {_names(nodes)!r} have {', '.join(offered) or 'none'}"
    return [
        failure("GPUs", found, remedy="set slurm.gres and job.n_gpus to what the nodes have, or name another partition")
    ]


def check_node_size(site: Site) -> list[Finding]:
    """Compare cores and memory with the largest node."""
    nodes, wanted = site.nodes(), site.resources()
    if not nodes:
        return []
    is_set = slurm_options(site.profile).sets_memory
    wanted_mib = 0 if is_set else wanted.memory_bytes // 2**20
    memory = "the memory that slurm.options says" if is_set else f"{wanted_mib / 1024:g} GiB"
    if any(_holds(kind, wanted.n_cpus, memory_mib=wanted_mib) for kind in nodes):
        return [ok("node size", f"a job asks for {wanted.n_cpus} cores and {memory}")]
    has = ", ".join(sorted({f"{kind.n_cpus} cores with {kind.memory_mib / 1024:.0f} GiB" for kind in nodes}))
    found = f"a job asks for {wanted.n_cpus} cores and {memory}; nodes have {has}"
    return [failure("node size", found, remedy="lower job.n_cpus or job.memory_gb")]


def check_account_limits(site: Site) -> list[Finding]:
    """Compare what a job asks for with the limits of its association and QOS, as far as there are accounts."""
    if site.settings is None:
        return []
    options = slurm_options(site.profile)
    partitions: Sequence[str | None] = _distinct(site.nodes()) or [options.partition]
    answers = [read_places(site.slurm, options, partition=name, settings=site.settings) for name in partitions]
    known = [places for places in answers if places is not None]
    if not known:
        return [ok(ACCOUNT, "not known: sacctmgr does not answer")]
    if not are_enforced(site.settings):
        return [ok(ACCOUNT, "none holds: AccountingStorageEnforce does not name limits")]
    # A job runs in the first partition that can: what keeps it from one of them alone is no hindrance.
    pairs = [(exceeded(places, site.resources(), options=options), places) for places in known]
    found, places = min(pairs, key=lambda pair: len(pair[0]))
    names = ", ".join(place.name for place in places) or "no association of this user is known"
    return [failure(ACCOUNT, one.found, remedy=one.remedy) for one in found] or [
        ok(ACCOUNT, f"a job exceeds none ({names})")
    ]


def check_partition_limits(site: Site) -> list[Finding]:
    """Compare what a job asks for with the partition's limits on nodes, cores and memory; of several one suffices."""
    return min((_beyond(site, name) for name in _distinct(site.nodes())), key=len, default=[])


def _beyond(site: Site, partition: str) -> list[Finding]:
    """List the limits of one partition that a job exceeds."""
    wanted, settings = site.resources(), site.slurm.partition_settings(partition)
    if settings is None:
        return []
    memory_bytes = 0 if slurm_options(site.profile).sets_memory else wanted.memory_bytes
    asked = {
        "MaxNodes": (wanted.n_nodes, "node"),
        "MaxCPUsPerNode": (wanted.n_cpus, "cpu"),
        "MaxMemPerNode": (memory_bytes / 2**20, "mem"),
    }
    return [
        failure(
            PARTITION,
            f"a job asks for {amount:g} {WORDS[resource][0]}, partition {partition!r} allows {limit} ({name})",
            remedy=f"lower {WORDS[resource][1]}, or name another partition",
        )
        for name, (amount, resource) in asked.items()
        if (limit := settings.get(name, "")).isdecimal() and amount > int(limit)
    ]


def check_submission(site: Site) -> list[Finding]:
    """Check whether sbatch takes the script of a job, without submitting it."""
    if site.settings is None:
        return []
    launcher = site.slurm_launcher()
    attempt_dir = site.runs_dir / "doctor" / "attempt-0"
    submission = Submission(
        name="xautolm-hpc-doctor", folder=attempt_dir.parent, attempt_dirs=(attempt_dir,), resources=site.resources()
    )
    with tempfile.TemporaryDirectory(prefix="xautolm-doctor-") as folder:
        script_path = Path(folder) / "job.sh"
        script_path.write_text(launcher.sbatch_text(submission))
        accepted, answer = site.slurm.test_only(script_path, wrapper_environment(site.inputs.environ))
    message = " ".join(answer.split())
    if accepted:
        return [ok("sbatch", message)]
    error = submission_error(message)
    if isinstance(error, QueueFullError):
        return [warning("sbatch", message, remedy="none needed: a search submits as much as the queue takes")]
    if isinstance(error, BusyError):
        return [warning("sbatch", message, remedy="try again later")]
    return [
        failure("sbatch", message, remedy="see the rows above, [slurm] in the profile, and the site's documentation")
    ]


def _distinct(nodes: Sequence[Partition]) -> list[str]:
    """Return the names of the partitions that kinds of nodes are in, in their order."""
    return list(dict.fromkeys(kind.name for kind in nodes))


def _names(nodes: Sequence[Partition]) -> str:
    return ", ".join(_distinct(nodes))


def _leading_number(text: str | None) -> int | None:
    words = (text or "").split()
    return int(words[0]) if words and words[0].isdecimal() else None


def _items(gres: str) -> list[str]:
    """Split ``gpu:a100:4(S:0-1),lscratch:100`` at its commas, leaving out parentheses."""
    return [item.partition("(")[0] for item in gres.split(",") if item]


def _offers(offered: str, wanted: str) -> bool:
    """Check whether a node's resource ``gpu:a100:4`` can give ``gpu:a100:1``, ``gpu:a100`` or ``gpu:2``."""
    name, *rest = offered.split(":")
    wanted_name, *wanted_rest = wanted.split(":")
    kinds, wanted_kinds = _kinds(rest), _kinds(wanted_rest)
    return name == wanted_name and _count(wanted_rest) <= _count(rest) and (not wanted_kinds or wanted_kinds == kinds)


def _kinds(parts: Sequence[str]) -> list[str]:
    return [part for part in parts if not COUNT.fullmatch(part)]


def _count(parts: Sequence[str]) -> int:
    """Return how many of a resource are meant, as ``4`` or ``2T`` in the end; 1 if nothing is said."""
    found = COUNT.fullmatch(parts[-1]) if parts else None
    return 1 if found is None else int(found[1]) * 1024 ** " KMGTP".index(found[2].upper() or " ")


def _holds(kind: Partition, n_cpus: int, *, memory_mib: int) -> bool:
    return kind.n_cpus >= n_cpus and kind.memory_mib >= memory_mib
