"""What checks are given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xautolm_hpc.config import BudgetSection, ClusterProfile, SearchFile, TaskSection, TrialSection
from xautolm_hpc.dataset import DataSection
from xautolm_hpc.driver.inputs import Inputs
from xautolm_hpc.driver.launchers import make_launcher, slurm_launcher, slurm_options
from xautolm_hpc.driver.setup import Setup, job_resources
from xautolm_hpc.launcher import Launcher, Resources
from xautolm_hpc.node import SystemClock
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.slurm import Partition, Slurm
from xautolm_hpc.submit.slurm_launcher import SlurmLauncher
from xautolm_hpc.view import RunView

DOCTOR = "doctor"


class _Silence:
    """A progress display that shows nothing."""

    def show(self, view: RunView) -> None:
        """Show nothing."""

    def log(self, text: str) -> None:
        """Show nothing."""

    def warn(self, text: str) -> None:
        """Show nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A person's files, and Slurm's answers about the cluster.

    Attributes:
        inputs: Search file, cluster profile and environment.
        runs_dir: Folder of run folders; it exists.
        slurm: Slurm's commands.
        settings: The controller's configuration, or ``None`` where it did not answer or is not asked.
        partitions: Kinds of nodes in the partitions, or ``None`` likewise.
    """

    inputs: Inputs
    runs_dir: Path
    slurm: Slurm
    settings: Mapping[str, str] | None = None
    partitions: Sequence[Partition] | None = None

    @classmethod
    def look(cls, inputs: Inputs, runs_dir: Path) -> "Site":
        """Ask Slurm, where the profile wants it, about itself.

        Args:
            inputs: Search file, cluster profile and environment.
            runs_dir: Folder of run folders; it exists.
        """
        slurm = Slurm(inputs.environ)
        is_slurm = inputs.profile.launcher == "slurm"
        return cls(
            inputs=inputs,
            runs_dir=runs_dir,
            slurm=slurm,
            settings=slurm.settings() if is_slurm else None,
            partitions=slurm.sinfo() if is_slurm else None,
        )

    @property
    def profile(self) -> ClusterProfile:
        """The cluster profile."""
        return self.inputs.profile

    @property
    def is_slurm(self) -> bool:
        """Whether jobs go to Slurm."""
        return self.profile.launcher == "slurm"

    def nodes(self) -> list[Partition]:
        """List the kinds of nodes in the partitions that jobs go to; empty if none is known or Slurm gave no answer."""
        names = self.partition_names
        return [kind for kind in self.partitions or [] if (kind.name in names if names else kind.is_default)]

    @property
    def partition_names(self) -> list[str]:
        """Names of the partitions that jobs go to, as the profile lists them; empty for the default one."""
        options = slurm_options(self.profile)
        return [name for name in (options.named("partition") or options.partition or "").split(",") if name]

    def slurm_launcher(self, *, node_checks: tuple[str, ...] = ()) -> SlurmLauncher:
        """Make the launcher that a search here would use, where jobs go to Slurm.

        Args:
            node_checks: Lines of shell that a job runs first.
        """
        clock = SystemClock()
        return slurm_launcher(self.profile, since=clock.now(), node_checks=node_checks)

    def launcher(self, *, node_checks: tuple[str, ...] = ()) -> Launcher:
        """Make the launcher that a search here would use.

        Args:
            node_checks: Lines of shell that a Slurm job runs first.

        Raises:
            InputError: The profile wants Slurm and there is none.
        """
        if self.is_slurm:
            return self.slurm_launcher(node_checks=node_checks)
        clock = SystemClock()
        return make_launcher(self.profile, self.inputs.environ, clock=clock, since=clock.now())

    def resources(self) -> Resources:
        """Return what one job of a search here asks for; one that runs several trials has their time together."""
        of_trial = job_resources(self.inputs.search, self.profile)
        return replace(of_trial, time_limit_s=of_trial.time_limit_s * self.profile.job.trials_per_job)

    def setup(self, folder: Path, launcher: Launcher) -> Setup:
        """Build what a search in a folder would be run with.

        Args:
            folder: Run folder.
            launcher: Starts and watches jobs.
        """
        return self.inputs.setup(
            RunDir(folder),
            DOCTOR,
            launcher=launcher,
            clock=SystemClock(),
            watcher=_Silence(),
            n_interrupts=lambda: 0,
        )


def search_of_doctor(time_limit_min: float) -> SearchFile:
    """Build an example search, where a person names only a cluster profile.

    Args:
        time_limit_min: Time limit of its trials, in minutes, above 0.
    """
    return SearchFile(
        name=DOCTOR,
        task=TaskSection(name=DOCTOR),
        data=DataSection(path=DOCTOR),
        budget=BudgetSection(trials=1),
        trial=TrialSection(time_limit_min=time_limit_min),
    )
