"""What trials can measure: objectives and budgets that nothing measures are refused, or end a search that shows it.

What the profile and this machine tell is found out before anything is submitted, what the node of the profile job
tells before the first trial, and what only trials tell after the first generation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xautolm_hpc.config import BudgetSection, ClusterProfile, SearchFile
from xautolm_hpc.driver.attempts import objectives_of
from xautolm_hpc.errors import ConfigError
from xautolm_hpc.node import rapl_zones, reads_gpu_energy
from xautolm_hpc.pareto import OBJECTIVES, Need
from xautolm_hpc.records import Outcome, System
from xautolm_hpc.view import Spent

SET_GPUS = "set job.n_gpus in the cluster profile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmeasured:
    """Why trials cannot measure something; ``None`` where they can, or where it is not known yet.

    Attributes:
        gpu: Why they have no GPU: then there is no GPU time and no GPU memory.
        gpu_energy: Why the energy of GPUs is unknown.
        energy: Why all energy is unknown, that of CPUs too.
        remedy: What makes it measurable, or "".
    """

    gpu: str | None = None
    gpu_energy: str | None = None
    energy: str | None = None
    remedy: str = ""

    def why_not(self, need: Need | None) -> str | None:
        """Return why what an objective needs is not there; ``None`` if it may be."""
        reasons = {Need.GPU: self.gpu, Need.GPU_ENERGY: self.gpu_energy}
        return None if need is None else reasons[need]


def unmeasured_by_profile(profile: ClusterProfile, *, environ: Mapping[str, str]) -> Unmeasured:
    """Find what no trial can measure by its profile, and on this machine if trials run here.

    Args:
        profile: The cluster profile.
        environ: The person's environment.
    """
    has_gpus = profile.job.n_gpus > 0 or _asks_slurm_for_gpus(profile)
    gpu = None if has_gpus else "jobs of this profile have no GPU (job.n_gpus = 0)"
    if profile.launcher != "local":
        return Unmeasured(gpu=gpu, gpu_energy=gpu, remedy=SET_GPUS)
    gpu_energy = gpu
    if has_gpus and not reads_gpu_energy(environ.get("CUDA_VISIBLE_DEVICES")):
        gpu_energy = "NVML counts no energy of a GPU on this machine"
    no_rapl = "only root may read RAPL here, or there is none (/sys/class/powercap)"
    energy = f"{gpu_energy}, and {no_rapl}" if gpu_energy and not rapl_zones() else None
    return Unmeasured(gpu=gpu, gpu_energy=gpu_energy, energy=energy, remedy="" if has_gpus else SET_GPUS)


def unmeasured_on(system: System) -> Unmeasured:
    """Find what no trial can measure on a node like this one."""
    gpu = "the node that was measured shows no GPU to a job" if system.n_gpus == 0 else None
    return Unmeasured(gpu=gpu, gpu_energy=gpu, remedy="ask for GPUs in the cluster profile (job.n_gpus, slurm.gres)")


def check_measured(search: SearchFile, unmeasured: Unmeasured) -> list[str]:
    """Refuse objectives that no trial can measure, and budgets of which none can ever be reached.

    Args:
        search: The search file.
        unmeasured: What trials cannot measure.

    Returns:
        A warning for each budget that will never be reached, while another one ends the search.

    Raises:
        ConfigError: An objective cannot be measured, or nothing would end the search.
    """
    why = {name: unmeasured.why_not(objective.needs) for name, objective in OBJECTIVES.items()}
    names, or_remedy = search.search.objectives, f", or {unmeasured.remedy}" if unmeasured.remedy else ""
    valid = ", ".join(name for name in OBJECTIVES if not why[name])
    for name in names:
        if reason := why[name]:
            raise ConfigError(
                f"search.objectives = {[*names]}: no trial can measure {name!r}: {reason}. Take it out (valid here: "
                f"{valid}){or_remedy}"
            )
    never = {name: reason for name, reason in _unreachable(search.budget, unmeasured).items() if reason}
    lines = [f"budget.{name} = {getattr(search.budget, name):g} is never reached: {why}" for name, why in never.items()]
    if lines and not _others(search.budget, never):
        remedy = f"Set another limit (valid here: {', '.join(_measurable(unmeasured))})"
        raise ConfigError(f"{'; '.join(lines)}; so nothing would end the search. {remedy}{or_remedy}")
    return lines


def end_of_unmeasured(search: SearchFile, outcomes: Sequence[Outcome], *, spent: Spent) -> tuple[str | None, list[str]]:
    """Decide, from what trials came to, whether a search goes on that lacks what it was to measure.

    Args:
        search: The search file.
        outcomes: What the trials of whole generations came to.
        spent: Cost of the search.

    Returns:
        Why the search ends, or ``None``; and a warning for each budget that nothing has measured so far.
    """
    shown = _unmeasured_in(outcomes, spent)
    never = {name: reason for name, reason in _unreachable(search.budget, shown).items() if reason}
    lines = [f"budget.{name} = {getattr(search.budget, name):g} is never reached: {why}" for name, why in never.items()]
    text = _incomparable(outcomes, search.search.objectives)
    if text is None and lines and not _others(search.budget, never):
        text = f"{'; '.join(lines)}. Set another limit ({', '.join(_measurable(shown))}); the same command then goes on"
    return text, lines


def _incomparable(outcomes: Sequence[Outcome], names: Sequence[str]) -> str | None:
    """Describe why no success can be compared with another; ``None`` if one can, or there is none."""
    successes = [outcome for outcome in outcomes if outcome.succeeded]
    if not successes or any(objectives_of(outcome, names) for outcome in successes):
        return None
    lacking = [name for name in names if any(outcome.objective(name) is None for outcome in successes)]
    sources = ", ".join(sorted({f"{o.energy_source} ({o.energy_scope})" for o in successes}))
    lacks_energy = any(OBJECTIVES[name].needs is Need.GPU_ENERGY for name in lacking)
    energy = f" (energy was read from: {sources})" if lacks_energy else ""
    return (
        f"none of the {len(successes)} trials that succeeded measured {' and '.join(lacking)}{energy}, so they cannot "
        f"be compared by search.objectives = {[*names]}. Their records are kept. Begin a search without it, "
        "under a new name: run --fork NEWNAME"
    )


def _unmeasured_in(outcomes: Sequence[Outcome], spent: Spent) -> Unmeasured:
    """Find what no trial has measured that was trained."""
    trained = [outcome for outcome in outcomes if outcome.train_s]
    if not trained:
        return Unmeasured()
    has_energy = any(o.gpu_energy_j is not None or o.cpu_energy_j is not None for o in trained)
    return Unmeasured(
        gpu=None if spent.gpu_s else f"none of the {len(trained)} trials that were trained had a GPU",
        energy=None if has_energy else f"no energy was measured in any of the {len(trained)} trials that were trained",
    )


def _unreachable(budget: BudgetSection, unmeasured: Unmeasured) -> dict[str, str | None]:
    """Map the limits that are set and need a measurement to why there is none, or ``None``."""
    reasons = {"gpu_h": unmeasured.gpu, "energy_kwh": unmeasured.energy}
    return {name: reason for name, reason in reasons.items() if getattr(budget, name) is not None}


def _others(budget: BudgetSection, never: Mapping[str, object]) -> list[str]:
    """List the limits that are set and can be reached."""
    return [name for name, limit in budget.model_dump().items() if limit is not None and name not in never]


def _measurable(unmeasured: Unmeasured) -> list[str]:
    reasons = {"gpu_h": unmeasured.gpu, "energy_kwh": unmeasured.energy}
    return [f"budget.{name}" for name in BudgetSection.model_fields if not reasons.get(name)]


def _asks_slurm_for_gpus(profile: ClusterProfile) -> bool:
    """Check whether a Slurm option asks for GPUs that ``job.n_gpus`` does not count."""
    slurm = profile.slurm
    texts = [slurm.gres or "", *(f"{name}={value}" for name, value in slurm.options.items())]
    return profile.launcher == "slurm" and any("gpu" in text.lower() for text in texts)
