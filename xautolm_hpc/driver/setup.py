"""What a search is run with, and the user's settings in the words of the steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xautolm_hpc.config import ClusterProfile, SearchFile
from xautolm_hpc.container import with_binds
from xautolm_hpc.dataset import find_data, repository_dir
from xautolm_hpc.driver.attempts import AttemptTemplate
from xautolm_hpc.driver.budget import Limits
from xautolm_hpc.execution import AtLimit, Foretelling
from xautolm_hpc.image import Container
from xautolm_hpc.jobdir import PROTOCOL, PROTOCOL_VARIABLE, Command, ProfileRequest, ProfileResult, TrialInput
from xautolm_hpc.launcher import Launcher, Resources
from xautolm_hpc.model_check import ModelCheckRequest, request_check
from xautolm_hpc.node import Clock
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.resume import RunConfig
from xautolm_hpc.space import Space
from xautolm_hpc.view import Watcher

LOCAL_GRACE_S = 2.0

FAITHFUL = ("xautolm", "knn")
"""Priors whose searches are as published: what came later is off unless it is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a search is run with.

    Attributes:
        search: The search file.
        profile: The cluster profile.
        space: The search space that the search file describes.
        run_dir: The run folder, created.
        run_id: UUID of the run.
        config: Settings and search space to store in ``run.json``.
        changes: What is set otherwise than when the run was last worked on, a line each.
        is_list: Whether it evaluates a list of pipelines instead of searching.
        final: Trials to evaluate on ``test`` in the end; ``None`` for those that no other beats.
        launcher: Starts and watches jobs.
        clock: Time.
        watcher: Is shown the run.
        worker: Program and arguments that start the worker's Python.
        worker_environment: Variables of the worker, allow-listed.
        hf_home: Offline cache of hub models, or ``None``.
        redact: Takes secrets out of a text.
        n_interrupts: Tells how often the person pressed Ctrl-C.
        container: The image the worker runs in, or ``None``.
    """

    search: SearchFile
    profile: ClusterProfile
    space: Space
    run_dir: RunDir
    run_id: str
    config: RunConfig
    launcher: Launcher
    clock: Clock
    watcher: Watcher
    worker: tuple[str, ...]
    worker_environment: Mapping[str, str]
    hf_home: str | None
    redact: Callable[[str], str]
    n_interrupts: Callable[[], int]
    container: Container | None = None
    changes: tuple[str, ...] = ()
    final: tuple[int, ...] | None = None
    is_list: bool = False

    def limits(self) -> Limits:
        """Return the budget in seconds and joules."""
        budget = self.search.budget
        return Limits(
            generations=budget.generations,
            trials=budget.trials,
            wall_s=None if budget.wall_h is None else budget.wall_h * 3600,
            gpu_s=None if budget.gpu_h is None else budget.gpu_h * 3600,
            energy_j=None if budget.energy_kwh is None else budget.energy_kwh * 3.6e6,
        )

    def resources(self) -> Resources:
        """Return what one job asks for; its wall time leaves room for loading and saving."""
        return job_resources(self.search, self.profile)

    def one_node(self) -> Resources:
        """Return what a job on one node asks for: one that measures, and trains nothing together with other nodes."""
        return replace(self.resources(), n_nodes=1)

    def n_processes(self) -> int:
        """Count the processes of a trial on each node: one for each GPU, or what the profile says without one."""
        return self.profile.job.n_gpus or self.profile.job.n_processes

    def has_one_process(self) -> bool:
        """Return whether a trial is a single process."""
        return self.n_processes() == self.profile.job.n_nodes == 1

    def _trial_arguments(self) -> tuple[str, ...]:
        """Return the words that start a trial: through a leader where several processes share it."""
        return ("trial",) if self.has_one_process() else ("lead", str(self.n_processes()))

    def outcome_grace_s(self) -> float:
        """Return how long to wait for a missing outcome; files of a local job are in no file server's cache."""
        grace_s = self.profile.patience.outcome_grace_s
        return min(grace_s, LOCAL_GRACE_S) if self.profile.launcher == "local" else grace_s

    def early_stopping_min_steps(self) -> int:
        """Return the steps after the warm-up before early stopping counts epochs: as written, else as in the preset."""
        written = self.search.trial.early_stopping_min_steps
        return self.space.early_stopping_min_steps if written is None else written

    def at_limit(self) -> AtLimit:
        """Return what a trial does when its budget is used up: as written, else by what the trials are for."""
        written = self.search.trial.at_limit
        return AtLimit(written or (AtLimit.EVALUATE if self._may_be_cut_short() else AtLimit.FAIL))

    def foretell(self) -> Foretelling:
        """Return what follows when a trial is foretold not to fit: as written, else by what the trials are for."""
        written = self.search.trial.foretell
        return Foretelling(written or (Foretelling.OBEY if self._may_be_cut_short() else Foretelling.OFF))

    def _may_be_cut_short(self) -> bool:
        """Check whether trials are a search's own, and its prior is not one that has to stay as it was published."""
        return not self.is_list and self.search.prior.kind not in FAITHFUL

    def command(self, module: str, *arguments: str, reads: Sequence[str] = (), writes: Sequence[str] = ()) -> Command:
        """Build the command that runs a module of this package on a node.

        Args:
            module: The module.
            arguments: Its arguments; the attempt folder follows them.
            reads: Files and folders that it reads beside what an image shows anyway.
            writes: Folders that it writes beside its attempt folder.
        """
        profile, trial = self.profile, self.search.trial
        return Command(
            argv=(*self.worker, "-m", module, *arguments),
            time_limit_s=trial.time_limit_min * 60,
            wall_limit_s=self.resources().time_limit_s,
            memory_bytes=self.resources().memory_bytes,
            n_threads=profile.job.n_cpus,
            heartbeat_s=profile.patience.heartbeat_s,
            deterministic=trial.deterministic,
            enforce_limits=profile.launcher == "local",
            environment={**self.worker_environment, PROTOCOL_VARIABLE: str(PROTOCOL)},
            site=profile.site,
            cluster=profile.cluster,
            container=self.container and with_binds(self.container, reads=reads, writes=writes),
        )

    def profile_command(self) -> Command:
        """Build the command of the profile job: it reads the user's data and writes the split and the cache."""
        request = self.profile_request()
        for folder in (request.data_dir, request.cache_dir):
            Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        hub = self.search.data.hub  # its files are links into the folder of the repository
        source = str(repository_dir(Path(self.hf_home or ""), hub)) if hub else request.data_path
        return self.command("xautolm_hpc.profile", reads=[source], writes=[request.data_dir, request.cache_dir])

    def profile_request(self) -> ProfileRequest:
        """Build what the profile job is to read, and where it writes the split."""
        task, data = self.search.task, self.search.data
        data_path, data_files = find_data(data, Path(self.hf_home or ""))
        return ProfileRequest(
            task_name=task.name,
            task_kind=task.kind,
            data_path=data_path,
            data_files=data_files,
            text_column=data.text,
            label_column=data.label,
            train_rows=data.train_rows,
            validation_rows=data.validation_rows,
            test_rows=data.test_rows,
            split_seed=data.split_seed,
            data_dir=str(self.run_dir.data_dir),
            cache_dir=str(self.run_dir.path.parent / ".profile-cache"),
            question_column=data.question,
            context_column=data.context,
            answers_column=data.answers,
            metric=task.metric,
            delimiter=data.delimiter,
        )

    def model_check_request(self) -> ModelCheckRequest:
        """Return which models the profile job checks: those of the space that can learn the task."""
        return request_check(self.search.task.kind, self.space.models, hf_home=self.hf_home)

    def template(self, profile: ProfileResult) -> AttemptTemplate:
        """Build what all attempts of the run have in common."""
        data_dir = str(self.run_dir.data_dir)
        return AttemptTemplate(
            command=self.command("xautolm_hpc.train", *self._trial_arguments(), reads=[data_dir]),
            resources=self.resources(),
            trial_input=TrialInput(task=profile.task, data_dir=data_dir, sha256=profile.sha256),
            max_attempts=self.search.trial.max_attempts,
            largest_memory_bytes=self.launcher.limits().memory_bytes,
            trials_per_job=self.profile.job.trials_per_job,
            model_paths={model.id: model.path for model in self.space.models},
            hf_home=self.hf_home,
        )


def job_resources(search: SearchFile, profile: ClusterProfile) -> Resources:
    """Return what one job of a search asks for; its wall time leaves room for loading and saving.

    Args:
        search: The search file.
        profile: The cluster profile.
    """
    job, limit = profile.job, search.trial.time_limit_min
    return Resources(
        n_nodes=job.n_nodes,
        n_cpus=job.n_cpus,
        n_gpus=job.n_gpus,
        memory_bytes=int(job.memory_gb * 1024**3),
        time_limit_s=(limit + job.queue_slack_min) * 60,
    )
