"""Checks of limits: what a job asks for, held against what partition, QOS and account allow.

Slurm takes a job that exceeds a limit and never starts it. Of limits that stand in several places the first one counts:
the partition's QOS, the job's QOS, the association of user and account; those on all jobs of a group count everywhere.

Source:
    slurm.schedmd.com/resource_limits.html, section Hierarchy; sacctmgr(1).
"""

import os
import pwd
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from xautolm_hpc.doctor.cluster import UNLIMITED, limit_s
from xautolm_hpc.doctor.site import Site
from xautolm_hpc.errors import ConfigError
from xautolm_hpc.view import Finding, failure, ok

ACCOUNT = "account's limits"
PARTITION = "partition's limits"
ENFORCED = ("limits", "safe", "all")
"""Words of AccountingStorageEnforce with which limits of associations and QOS hold."""

OF_MANY_JOBS = ("GrpTRES", "MaxTRESPU", "MaxTRESPA")
LEAST = "MinTRES"
LIMITS: Mapping[str, str] = {
    "MaxTRES": "a job",
    "MaxTRESPerNode": "a node of a job",
    "MaxTRESMins": "a job",
    "MaxWall": "a job",
    "MinTRES": "a job",
    "GrpTRES": "all jobs together",
    "MaxTRESPU": "all jobs of a user together",
    "MaxTRESPA": "all jobs of an account together",
}
"""Limit of sacctmgr -> for what it holds."""

OF_ASSOCIATION = ("MaxTRES", "MaxTRESPerNode", "MaxTRESMins", "MaxWall", "GrpTRES")
OF_QOS = tuple(LIMITS)

WORDS: Mapping[str, tuple[str, str]] = {
    "cpu": ("cores", "job.n_cpus"),
    "mem": ("MiB of memory", "job.memory_gb"),
    "node": ("nodes", "job.n_nodes"),
    "gres": ("GPUs", "job.n_gpus and slurm.gres"),
    "wall": ("minutes", "trial.time_limit_min, job.queue_slack_min or job.trials_per_job"),
}
"""Resource -> its unit, and the settings that ask for it."""

MIB_OF_UNIT = {"": 1.0, "K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2, "P": 1024.0**3}


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit.

    Attributes:
        place: Where it stands, for people.
        name: Its name in sacctmgr.
        resource: What it is on: ``cpu``, ``mem``, ``node``, ``gres/gpu``, ``wall``.
        amount: The amount, in cores, MiB, nodes, GPUs or minutes.
    """

    place: str
    name: str
    resource: str
    amount: float


@dataclass(frozen=True, slots=True)
class Place:
    """A place where Slurm keeps limits.

    Attributes:
        name: Its name, for people.
        limits: Limit -> resource -> amount: cores, MiB, nodes, GPUs, minutes.
    """

    name: str
    limits: Mapping[str, Mapping[str, float]]


def check_account_limits(site: Site) -> list[Finding]:
    """Compare what a job asks for with the limits of its association and QOS, as far as there are accounts."""
    if site.settings is None:
        return []
    places = _places(site)
    if places is None:
        return [ok(ACCOUNT, "not known: sacctmgr does not answer")]
    enforced = site.settings.get("AccountingStorageEnforce", "")
    if not any(word in enforced for word in ENFORCED):
        return [ok(ACCOUNT, "none holds: AccountingStorageEnforce does not name limits")]
    exceeded = [found for limit in _limits_that_count(places) if (found := _exceeded(site, limit)) is not None]
    names = ", ".join(place.name for place in places) or "no association of this user is known"
    return exceeded or [ok(ACCOUNT, f"a job exceeds none ({names})")]


def check_partition_limits(site: Site) -> list[Finding]:
    """Compare what a job asks for with the partition's limits on nodes, cores and memory."""
    nodes, wanted = site.nodes(), site.resources()
    settings = site.slurm.partition_settings(nodes[0].name) if nodes else None
    if settings is None:
        return []
    asked = {
        "MaxNodes": (wanted.n_nodes, "node"),
        "MaxCPUsPerNode": (wanted.n_cpus, "cpu"),
        "MaxMemPerNode": (wanted.memory_bytes / 2**20, "mem"),
    }
    return [
        failure(
            PARTITION,
            f"a job asks for {amount:g} {WORDS[resource][0]}, partition {nodes[0].name!r} allows {limit} ({name})",
            remedy=f"lower {WORDS[resource][1]}, or name another partition",
        )
        for name, (amount, resource) in asked.items()
        if (limit := settings.get(name, "")).isdecimal() and amount > int(limit)
    ]


def _places(site: Site) -> list[Place] | None:
    """Read the limits that hold for jobs of this user, the most decisive ones first; ``None`` without an answer."""
    slurm, user = site.slurm, pwd.getpwuid(os.getuid()).pw_name
    cluster = f"cluster={(site.settings or {}).get('ClusterName', '')}"
    users = slurm.sacctmgr("user", ("DefaultAccount",), where=[f"name={user}"])
    if users is None:
        return None
    account = _setting(site, "account") or next((row["DefaultAccount"] for row in users), "")
    fields = ("User", "Account", "Partition", "DefaultQOS", *OF_ASSOCIATION)
    rows = slurm.sacctmgr("association", fields, where=[cluster, f"account={account}"]) or []
    partition = site.nodes()[0].name if site.nodes() else site.profile.slurm.partition
    own = [row for row in rows if row["User"] == user and row["Partition"] in ("", partition)]
    own.sort(key=lambda row: row["Partition"] == "")  # the association of a partition before that of all
    of_account = [row for row in rows if not row["User"]]
    qos = _setting(site, "qos") or next((row["DefaultQOS"] for row in own if row["DefaultQOS"]), "normal")
    return [
        *_qos_places(site, partition, qos=qos),
        *(Place(f"association of {user} in account {account}", _limits(row)) for row in own[:1]),
        *(Place(f"account {account}", _limits(row)) for row in of_account[:1]),
    ]


def _setting(site: Site, name: str) -> str:
    """Return what the profile names as account or QOS; "" if it names none."""
    slurm = site.profile.slurm
    return str(slurm.options.get(name) or getattr(slurm, name) or "")


def _qos_places(site: Site, partition: str | None, *, qos: str) -> list[Place]:
    """Read the limits of the partition's QOS and of the job's, in the order in which they count."""
    settings = site.slurm.partition_settings(partition) if partition else None
    of_partition = (settings or {}).get("QoS", "N/A")
    names = [name for name in (of_partition, qos) if name not in ("", "N/A")]
    rows = site.slurm.sacctmgr("qos", ("Name", "Flags", *OF_QOS), where=[f"name={','.join(names)}"]) or []
    by_name = {row["Name"]: row for row in rows}
    if "OverPartQOS" in by_name.get(qos, {}).get("Flags", ""):
        names.reverse()
    return [Place(f"QOS {name}", _limits(by_name[name])) for name in dict.fromkeys(names) if name in by_name]


def _limits(row: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Read the limits of a row of sacctmgr; what is not understood is left out."""
    return {name: _amounts(name, row[name]) for name in LIMITS if row.get(name)}


def _amounts(name: str, text: str) -> dict[str, float]:
    """Read ``cpu=8,mem=64G,gres/gpu=2``, or a time."""
    if name == "MaxWall":
        try:
            return {} if text.lower() in UNLIMITED else {"wall": limit_s(text) / 60}
        except ConfigError:
            return {}
    pairs = [item.partition("=")[::2] for item in text.split(",")]
    amounts = {resource: _amount(value) for resource, value in pairs}
    return {resource: amount for resource, amount in amounts.items() if amount is not None}


def _amount(text: str) -> float | None:
    number = text.rstrip("KMGTP")
    unit = text[len(number) :]
    return float(number) * MIB_OF_UNIT[unit] if number.replace(".", "", 1).isdecimal() and unit in MIB_OF_UNIT else None


def _limits_that_count(places: Sequence[Place]) -> Iterator[Limit]:
    """Iterate over limits: of one that stands in several places the first, of those on many jobs every one."""
    seen: set[tuple[str, str]] = set()
    for place in places:
        for name, amounts in place.limits.items():
            for resource, amount in amounts.items():
                if (name, resource) not in seen or name in OF_MANY_JOBS:
                    yield Limit(place.name, name, resource, amount)
                seen.add((name, resource))


def _asked(site: Site, limit: Limit) -> float:
    """Compute what a job asks for of what a limit is about; 0 for resources that no setting asks for."""
    wanted = site.resources()
    minutes = wanted.time_limit_s / 60
    if limit.resource == "wall":
        return minutes
    per_node = {"cpu": wanted.n_cpus, "mem": wanted.memory_bytes / 2**20, "node": 1, **_gpus(site)}
    amount = per_node.get(limit.resource, 0)
    if limit.name == "MaxTRESPerNode":
        return amount
    return amount * wanted.n_nodes * (minutes if limit.name == "MaxTRESMins" else 1)


def _gpus(site: Site) -> dict[str, int]:
    """Count the GPUs of a node that a job asks for, under the names that limits give them."""
    name, *rest = (site.profile.slurm.gres or f"gpu:{site.profile.job.n_gpus}").split(":")
    count = int(rest[-1]) if rest and rest[-1].isdecimal() else 1
    kinds = [part for part in rest if not part.isdecimal()]
    return {f"gres/{':'.join([name, *kinds[:n]])}": count for n in range(len(kinds) + 1)}


def _exceeded(site: Site, limit: Limit) -> Finding | None:
    """Compare a job with a limit."""
    asked = _asked(site, limit)
    if not (asked < limit.amount if limit.name == LEAST else asked > limit.amount):
        return None
    unit, keys = WORDS.get(limit.resource.partition("/")[0], (limit.resource, "[job]"))
    times = " x minutes" if limit.name == "MaxTRESMins" else ""
    needs = f"wants {limit.amount:g}" if limit.name == LEAST else f"allows {limit.amount:g}"
    return failure(
        ACCOUNT,
        f"a job asks for {asked:g} {unit}{times}; {limit.place} {needs} for {LIMITS[limit.name]} ({limit.name})",
        remedy=f"{'raise' if limit.name == LEAST else 'lower'} {keys}, or name another slurm.account or slurm.qos",
    )
