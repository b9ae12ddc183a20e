"""The limits of partition, QOS and account, and which of them a job exceeds.

Slurm takes a job that exceeds a limit and never starts it. Of limits that stand in several places the first one counts:
the partition's QOS, the job's QOS, the association of user and account; those on all jobs of a group count everywhere.

Source:
    slurm.schedmd.com/resource_limits.html, section Hierarchy; sacctmgr(1).
"""

import os
import pwd
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from xautolm_hpc.errors import ConfigError
from xautolm_hpc.launcher import Resources
from xautolm_hpc.slurm import Slurm
from xautolm_hpc.submit.arrays import SlurmOptions, asked_gres

UNLIMITED = ("infinite", "unlimited", "n/a")
ENFORCED = ("limits", "safe", "all")
"""Words of AccountingStorageEnforce with which limits of associations and QOS hold."""

ASK_AGAIN_S = 3600.0
"""Seconds after which the limits of a job that waits are read again."""

MANY_JOBS = re.compile(r"\(?(Assoc|QOS)Grp|\(?(QOS)?Max\w+Per(User|Account)")
"""Reasons of jobs that wait for a limit on many jobs, which one job may exceed alone."""

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
class Excess:
    """A limit that a job exceeds, or stays below where it is one on the least.

    Attributes:
        limit: The limit.
        asked: What the job asks for, in the limit's unit.
    """

    limit: Limit
    asked: float

    @property
    def found(self) -> str:
        """Both amounts and where the limit stands."""
        limit = self.limit
        unit = WORDS.get(limit.resource.partition("/")[0], (limit.resource, ""))[0]
        times = " x minutes" if limit.name == "MaxTRESMins" else ""
        verb = "wants" if limit.name == LEAST else "allows"
        held = f"{limit.place} {verb} {limit.amount:g} for {LIMITS[limit.name]} ({limit.name})"
        return f"a job asks for {self.asked:g} {unit}{times}; {held}"

    @property
    def remedy(self) -> str:
        """Which keys to change."""
        keys = WORDS.get(self.limit.resource.partition("/")[0], ("", "[job]"))[1]
        verb = "raise" if self.limit.name == LEAST else "lower"
        return f"{verb} {keys}, or name another slurm.account or slurm.qos"


@dataclass(frozen=True, slots=True)
class Place:
    """A place where Slurm keeps limits.

    Attributes:
        name: Its name, for people.
        limits: Limit -> resource -> amount: cores, MiB, nodes, GPUs, minutes.
    """

    name: str
    limits: Mapping[str, Mapping[str, float]]


def are_enforced(settings: Mapping[str, str]) -> bool:
    """Check whether the controller holds jobs to the limits of associations and QOS.

    Args:
        settings: The controller's configuration.
    """
    return any(word in settings.get("AccountingStorageEnforce", "") for word in ENFORCED)


def read_places(
    slurm: Slurm, options: SlurmOptions, *, partition: str | None, settings: Mapping[str, str]
) -> list[Place] | None:
    """Read the limits that hold for jobs of this user, the most decisive ones first.

    Args:
        slurm: Slurm's commands.
        options: Options of sbatch, which may name account and QOS.
        partition: Partition that jobs go to, or ``None`` if unknown.
        settings: The controller's configuration.

    Returns:
        The places; ``None`` where the accounting database gives no answer.
    """
    user = pwd.getpwuid(os.getuid()).pw_name
    users = slurm.sacctmgr("user", ("DefaultAccount",), where=[f"name={user}"])
    if users is None:
        return None
    account = _named(options, "account") or next((row["DefaultAccount"] for row in users), "")
    fields = ("User", "Account", "Partition", "DefaultQOS", *OF_ASSOCIATION)
    where = [f"cluster={settings.get('ClusterName', '')}", f"account={account}"]
    rows = slurm.sacctmgr("association", fields, where=where) or []
    own = [row for row in rows if row["User"] == user and row["Partition"] in ("", partition)]
    own.sort(key=lambda row: row["Partition"] == "")  # the association of a partition before that of all
    of_account = [row for row in rows if not row["User"]]
    qos = _named(options, "qos") or next((row["DefaultQOS"] for row in own if row["DefaultQOS"]), "normal")
    return [
        *_qos_places(slurm, partition, qos=qos),
        *(Place(f"association of {user} in account {account}", _limits(row)) for row in own[:1]),
        *(Place(f"account {account}", _limits(row)) for row in of_account[:1]),
    ]


def exceeded(places: Sequence[Place], resources: Resources, *, options: SlurmOptions) -> list[Excess]:
    """List the limits that keep a job from ever starting.

    Args:
        places: Where limits stand, the most decisive ones first.
        resources: What the job asks for.
        options: Options of sbatch, which may ask for GPUs.
    """
    gres = asked_gres(options, n_gpus=resources.n_gpus, n_nodes=resources.n_nodes)
    if options.sets_memory:
        resources = replace(resources, memory_bytes=0)
    pairs = [(limit, _asked(resources, limit, gres=gres or "")) for limit in _limits_that_count(places)]
    return [
        Excess(limit, asked)
        for limit, asked in pairs
        if (asked < limit.amount if limit.name == LEAST else asked > limit.amount)
    ]


def _named(options: SlurmOptions, name: str) -> str:
    """Return what the options name as account or QOS; "" if they name none."""
    return str(options.options.get(name) or getattr(options, name) or "")


def _qos_places(slurm: Slurm, partition: str | None, *, qos: str) -> list[Place]:
    """Read the limits of the partition's QOS and of the job's, in the order in which they count."""
    settings = slurm.partition_settings(partition) if partition else None
    of_partition = (settings or {}).get("QoS", "N/A")
    names = [name for name in (of_partition, qos) if name not in ("", "N/A")]
    rows = slurm.sacctmgr("qos", ("Name", "Flags", *OF_QOS), where=[f"name={','.join(names)}"]) or []
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


def _asked(wanted: Resources, limit: Limit, *, gres: str) -> float:
    """Compute what a job asks for of what a limit is about; 0 for resources that no setting asks for."""
    minutes = wanted.time_limit_s / 60
    if limit.resource == "wall":
        return minutes
    gpus = count_gres(gres)
    amount = {"cpu": wanted.n_cpus, "mem": wanted.memory_bytes / 2**20, "node": 1, **gpus}.get(limit.resource, 0)
    if limit.name == "MaxTRESPerNode":
        return amount
    return amount * wanted.n_nodes * (minutes if limit.name == "MaxTRESMins" else 1)


def count_gres(gres: str) -> dict[str, int]:
    """Count what ``gpu:a100:2,lscratch:10`` asks for, under the names of limits: with the type and without.

    Args:
        gres: Generic resources in the notation of ``--gres``; "" for none.
    """
    counts: dict[str, int] = {}
    for item in filter(None, gres.split(",")):
        name, *rest = item.split(":")
        count = int(rest[-1]) if rest and rest[-1].isdecimal() else 1
        for kind in ("", *(f":{part}" for part in rest[:1] if not part.isdecimal())):
            counts[f"gres/{name}{kind}"] = counts.get(f"gres/{name}{kind}", 0) + count
    return counts


def limit_s(text: str) -> float:
    """Read a time limit in Slurm's notation, in seconds: ``30:00``, ``2:00:00``, ``1-00:00:00``, ``infinite``.

    Raises:
        ConfigError: It is none.
    """
    if text.lower() in UNLIMITED:
        return float("inf")
    days, _, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdecimal() for part in (*parts, days or "0")) or len(parts) > 3:
        raise ConfigError(f"Slurm says {text!r} where a time limit was expected, for instance 1-00:00:00")
    if days:
        parts += ["0"] * (3 - len(parts))
    elif len(parts) == 1:
        parts = ["0", *parts, "0"]
    hours, minutes, seconds = [0.0] * (3 - len(parts)) + [float(part) for part in parts]
    return float(days or 0) * 86_400 + hours * 3600 + minutes * 60 + seconds
