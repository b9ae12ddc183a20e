"""Why jobs wait: which of Slurm's reasons clear by waiting, and what to do about the others.

Slurm has some 190 reasons, and every version has others. So they are told apart by kind, in the words that they are
made of: ``QOSMaxGRESPerJob`` is a limit of the QOS on one job. What is of no known kind does not count as clearing.

Source:
    slurm.schedmd.com/job_reason_codes.html and resource_limits.html; texts without a code from slurmctld 22.05.
"""

import re
from dataclasses import dataclass, replace

from xautolm_hpc.launcher import WAITS_IN_JOB, JobSource, JobState, JobStatus

REQUEST_KEYS = (
    ("wall|time", "lower trial.time_limit_min, job.queue_slack_min or job.trials_per_job"),
    ("minutes", "lower trial.time_limit_min, job.n_cpus or job.n_gpus"),
    ("cpu", "lower job.n_cpus"),
    ("mem", "lower job.memory_gb"),
    ("gres", "lower job.n_gpus, or what slurm.gres asks for"),
    ("node", "lower job.n_nodes"),
)
"""Word in the reason of a limit -> the settings by which a job asks for less; the first that is found counts."""

ANY_KEY = "look at [job] in the profile, slurm.gres and slurm.options"
MISSING_KEYS = "ask for more: the QOS takes no job that small"
OTHERS = "or name another slurm.partition, slurm.qos or slurm.account"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a job will not start by waiting.

    Attributes:
        remedy: What to do about it.
        is_of_request: Whether it is about what every job of the search asks for, so that another attempt meets it, too.
        stays: Whether it is still in the way while Slurm names what it looks at before it: other limits, other jobs.
    """

    remedy: str
    is_of_request: bool = False
    stays: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """A kind of reason: it begins with what ``pattern`` describes, and a word ends there.

    One that ``hides`` others tells nothing of them: Slurm has not looked further.
    """

    pattern: str
    obstacle: Obstacle | None
    hides: bool = False


def _request(remedy: str) -> Obstacle:
    return Obstacle(remedy, is_of_request=True, stays=True)


HELD = Obstacle("Slurm holds the job: scontrol release it, or ask the cluster's support")
UNKNOWN = Obstacle("this reason is of no kind known to clear by waiting: ask the cluster's support what it means")
_USED_UP = Obstacle("the account's allocation is used up: renew it or name another slurm.account", stays=True)

KINDS = (
    # Held, by whomever.
    _Kind(pattern="JobHeldUser", obstacle=Obstacle("you hold the job: scontrol release it")),
    _Kind(pattern="JobHeldAdmin", obstacle=Obstacle("an administrator holds the job: ask the cluster's support")),
    _Kind(
        pattern=r"launch fail.*held|JobHoldMaxRequeue|JobLaunchFailure",
        obstacle=Obstacle("the node could not start the job, so Slurm holds it: ask the cluster's support"),
    ),
    _Kind(pattern=r".*\bheld\b|Job(Held|Hold)\w*", obstacle=HELD),
    # What the account has used up.
    _Kind(pattern=r"(Assoc|QOS)Grp\w*RunMin\w*", obstacle=None, hides=True),
    _Kind(pattern=r"(Assoc|QOS)Grp\w*Minutes\w*|(Assoc|QOS)GrpWall\w*|QOSUsageThreshold", obstacle=_USED_UP),
    # Limits on what all jobs of a user, account or QOS have at one time: some of them end.
    _Kind(pattern=r"(Assoc|QOS)Grp\w*|(QOS)?Max\w*Per(User|Account)\w*", obstacle=None, hides=True),
    _Kind(
        pattern=r"(AssocMax|QOSMax)(Submit)?Jobs?Limit|(Association|QOS)(Job|Resource)Limit", obstacle=None, hides=True
    ),
    # Limits on one job.
    _Kind(pattern=r"QOSMin\w*", obstacle=_request(f"{MISSING_KEYS}; {ANY_KEY}, {OTHERS}")),
    _Kind(
        pattern=r"(Assoc|QOS)Max\w*|(Association|QOS)TimeLimit|MaxMemPerLimit",
        obstacle=_request("the {owner} allows no job {that}: {key}, " + OTHERS),
    ),
    _Kind(
        pattern=r"Partition\w*Limit|PartitionConfig",
        obstacle=_request("the partition allows no job {that}: {key}, or name another slurm.partition"),
    ),
    _Kind(pattern="DeadLine", obstacle=_request("the job cannot end before its deadline: look at slurm.options")),
    # What the cluster refuses.
    _Kind(
        pattern=r"BadConstraints",
        obstacle=_request("no node has what the job asks for: look at slurm.constraint, slurm.gres and job"),
    ),
    _Kind(
        pattern=r"DependencyNeverSatisfied",
        obstacle=_request("the job waits for one that failed: look at slurm.options"),
    ),
    _Kind(pattern="InvalidAccount|AccountNotAllowed", obstacle=_request("slurm.account may not be used there")),
    _Kind(pattern="InvalidQOS|QOSNotAllowed", obstacle=_request("slurm.qos may not be used there")),
    _Kind(pattern=r"ReservationDeleted", obstacle=_request("slurm.reservation is gone: take it out or name another")),
    _Kind(
        pattern=r"Partition(Down|Inactive)",
        obstacle=Obstacle("the partition takes no jobs: name another slurm.partition, or wait until it is up"),
    ),
    # Nodes.
    _Kind(pattern=r"ReqNodeNotAvail, (Reserved|May be reserved)", obstacle=None),  # for maintenance, for other jobs
    _Kind(pattern=r"Nodes required for job are DOWN, DRAINED or reserved", obstacle=None),
    _Kind(
        pattern=r"ReqNodeNotAvail|NodeDown|FrontEndDown",
        obstacle=Obstacle("the nodes asked for are not available: look at slurm.constraint and slurm.reservation"),
    ),
    # Its turn.
    _Kind(pattern=r"None|Priority|JobArrayTaskLimit", obstacle=None, hides=True),
    _Kind(pattern=r"Resources|Constraints|Licenses|Cleaning|Prolog", obstacle=None),
    _Kind(
        pattern=r"BeginTime|Dependency|Reservation|SchedDefer|FedJobLock|BurstBuffer(Resources|StageIn)", obstacle=None
    ),
)
"""Kinds of reasons; the first one that matches counts."""


def obstacle(state: JobStatus) -> Obstacle | None:
    """Return why a job will not start by waiting; ``None`` for one that waits its turn, or does not wait.

    Args:
        state: State of the job.
    """
    if state.state is not JobState.PENDING:
        return None
    found = _of_reason(state.reason) if _is_slurms(state) else None
    if found is None and state.excess:
        return _request(state.excess)
    return found or (HELD if state.is_held else None)


def _is_slurms(state: JobStatus) -> bool:
    """Check whether a reason is one of Slurm's words; a launcher has others for jobs that it keeps itself."""
    return state.source is not JobSource.POOL and state.reason not in ("", WAITS_IN_JOB)


def _of_reason(reason: str) -> Obstacle | None:
    kind = _kind_of(reason)
    if kind is None:
        return UNKNOWN
    return None if kind.obstacle is None else _filled(kind.obstacle, reason.strip("()"))


def is_silent(state: JobStatus, *, before: Obstacle | None) -> bool:
    """Check whether a job that waits its turn may still have in its way what it had before.

    Args:
        state: State of the job, without an obstacle.
        before: What was in its way when it was last known.
    """
    if state.state is not JobState.PENDING or state.reason == "":
        return state.state is JobState.PENDING
    kind = _kind_of(state.reason) if _is_slurms(state) else None
    return before is not None and before.stays and kind is not None and kind.hides


def _kind_of(reason: str) -> _Kind | None:
    text = reason.strip("()")
    return next((kind for kind in KINDS if re.match(rf"({kind.pattern})(?!\w)", text)), None)


def _filled(found: Obstacle, reason: str) -> Obstacle:
    """Name in a remedy whose limit it is and which settings ask for less."""
    word = next((word for word, _ in REQUEST_KEYS if re.search(word, reason, re.IGNORECASE)), "")
    owner = "QOS" if reason.startswith("QOS") else "account"
    that = {"wall|time": "that long", "": "like that"}.get(word, "that large")
    return replace(found, remedy=found.remedy.format(owner=owner, that=that, key=dict(REQUEST_KEYS).get(word, ANY_KEY)))
