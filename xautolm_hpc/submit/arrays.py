"""submitit's Slurm executor, made fit for arrays that outlive the driver, and the options of their scripts."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from submitit.core.core import Job
from submitit.core.utils import DelayedSubmission
from submitit.slurm.slurm import SlurmExecutor, SlurmJob

from xautolm_hpc.launcher import Resources, Submission
from xautolm_hpc.slurm import Slurm

CALL, SCRIPT = "call.pkl", "submission.sh"
"""The pickled call of every element; the batch script."""

SIGNAL_LEAD_S = 120
"""Seconds before the time limit at which Slurm signals the batch shell, which ignores it (see the wrapper)."""

SETUP = ["trap '' USR2", 'export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"']
"""The signal stays with the shell; Slurm 22.05 to 23.02 does not pass ``--cpus-per-task`` on to srun."""


GPU_OPTIONS = ("gpus-per-node", "gpus-per-task", "gpus")
OTHER_GPU_OPTIONS = ("gres", "gpus-per-socket", "tres-per-job", "tres-per-node", "tres-per-socket", "tres-per-task")
MEMORY_OPTIONS = ("mem", "mem-per-cpu", "mem-per-gpu")
"""Options of sbatch of which a job has one; what the profile names replaces this program's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmOptions:
    """Options of sbatch, from the cluster profile.

    Attributes:
        account: Account to charge.
        partition: Partition.
        qos: Quality of service.
        gres: Generic resources, for instance ``gpu:a100:1``; asked for instead of a plain number of GPUs.
        constraint: Features of the nodes.
        exclude: Nodes not to use, in Slurm's notation.
        reservation: Reservation.
        wckey: Workload characterisation key; ``None`` sets none.
        options: Further options of sbatch by their long names; ``True`` for those without a value.
        max_parallel: Jobs of a run that run at the same time.
        max_queued: Jobs of a run in the queue, running ones included; ``None`` leaves it to Slurm's own limits.
        node_checks: Lines of shell that every job runs first; one that ends the script ends the job.
    """

    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    gres: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    reservation: str | None = None
    wckey: str | None = None
    options: Mapping[str, str | int | bool] = field(default_factory=dict)
    max_parallel: int = 256
    max_queued: int | None = None
    node_checks: tuple[str, ...] = ()

    @property
    def sets_memory(self) -> bool:
        """Whether an option says what memory a job has: then this program asks for none, and for no more."""
        return any(name.replace("_", "-") in MEMORY_OPTIONS for name in self.options)

    def named(self, *names: str) -> str | None:
        """Return the value of the first of some further options that is given, or ``None``."""
        given = {name.replace("_", "-"): value for name, value in self.options.items()}
        return next((str(given[name]) for name in names if given.get(name)), None)


class ArrayExecutor(SlurmExecutor):
    """submitit's Slurm executor, always as an array, with one pickle to which every element makes a link on its node.

    So the pickle is there before a job can start, whatever becomes of the driver after sbatch took it.

    Args:
        folder: Folder for submitit's files.
        python: Interpreter on the node.
        slurm: Slurm's commands.
        exports: Variables for the job.
        parameters: What :func:`sbatch_parameters` gave.
    """

    def __init__(
        self,
        folder: Path,
        *,
        python: str,
        slurm: Slurm,
        exports: Mapping[str, str],
        parameters: Mapping[str, object],
    ) -> None:
        super().__init__(folder, python=shlex.quote(python))
        self._slurm = slurm
        self._exports = exports
        self.update_parameters(**parameters)

    @classmethod
    def affinity(cls) -> int:
        """Return that a script can be made, srun at hand or not: its text needs none."""
        return 2

    def script(self, n_elements: int) -> str:
        """Write the batch script of an array."""
        self.parameters["map_count"] = n_elements
        return str(self._make_submission_file_text(self._submitit_command_str, ""))

    def _internal_process_submissions(self, delayed_submissions: list[DelayedSubmission]) -> list[Job[None]]:
        """Write call and script, and submit them."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        delayed_submissions[0].dump(self.folder / CALL)
        script_path = self.folder / SCRIPT
        script_path.write_text(self.script(len(delayed_submissions)))
        array_id = self._slurm.sbatch(script_path, self._exports)
        return [SlurmJob(folder=self.folder, job_id=f"{array_id}_{k}") for k in range(len(delayed_submissions))]


def sbatch_parameters(submission: Submission, options: SlurmOptions, *, exports: Sequence[str]) -> dict[str, object]:
    """Build the parameters of submitit's executor, so that its script asks for what the profile and the job need.

    Variables are exported by name alone: their values come from sbatch's own environment and stand in no file.

    Args:
        submission: The submission.
        options: Options from the cluster profile.
        exports: Names of the variables for the wrapper.
    """
    resources = submission.resources
    named = {
        "account": options.account,
        "partition": options.partition,
        "qos": options.qos,
        "constraint": options.constraint,
        "exclude": ",".join([*filter(None, [options.exclude]), *resources.exclude]) or None,
    }
    further: dict[str, object] = {
        "export": ",".join(exports),
        "mem": f"{math.ceil(resources.memory_bytes / 2**20)}M",
        "requeue": "no-requeue" not in options.options,
        "signal": f"B:USR2@{SIGNAL_LEAD_S}",
    }
    if options.sets_memory:
        del further["mem"]
    if options.reservation:
        further["reservation"] = options.reservation
    return {
        **{name: value for name, value in named.items() if value},
        **_gpu_parameters(resources, options),
        "job_name": submission.name,
        "time": math.ceil(resources.time_limit_s / 60),
        "nodes": resources.n_nodes,
        "ntasks_per_node": 1,
        "cpus_per_task": resources.n_cpus,
        "array_parallelism": submission.max_parallel or options.max_parallel,
        "wckey": options.wckey,
        "setup": [*options.node_checks, *SETUP, link_call(submission.folder)],
        # Without --export srun would take the script's and drop what it sets; one node's end ends all of them.
        "srun_args": ["--export=ALL", "--kill-on-bad-exit=1"],
        "additional_parameters": {name: value for name, value in {**further, **options.options}.items() if value},
    }


def link_call(folder: Path) -> str:
    """Write the shell line by which an element links the pickled call to the name that submitit looks for."""
    link = f'{shlex.quote(str(folder))}/"${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}_submitted.pkl"'
    return f"ln -sf {CALL} {link}"


def asked_gres(options: SlurmOptions, *, n_gpus: int, n_nodes: int = 1) -> str | None:
    """Return what a job asks for on each node in the notation of ``--gres``, by whichever option it asks.

    Args:
        options: Options from the cluster profile.
        n_gpus: GPUs on each node, where no option names another number.
        n_nodes: Nodes of the job, with a task on each.
    """
    if gres := options.gres or options.named("gres"):
        return gres
    per_node, of_all = options.named("gpus-per-node", "gpus-per-task"), options.named("gpus")
    if per_node is None and of_all is None:
        return f"gpu:{n_gpus}" if n_gpus else None
    items = [item.rpartition(":") for item in (per_node or of_all or "").split(",")]
    n_shares = 1 if per_node else n_nodes
    counts = [f"{kind}{colon}{-(-int(n) // n_shares) if n.isdecimal() else n}" for kind, colon, n in items]
    return ",".join(f"gpu:{count}" for count in counts)


def _gpu_parameters(resources: Resources, options: SlurmOptions) -> dict[str, object]:
    if options.gres:
        return {"gres": options.gres}
    is_asked = options.named(*GPU_OPTIONS, *OTHER_GPU_OPTIONS) is not None
    return {"gpus_per_node": resources.n_gpus} if resources.n_gpus and not is_asked else {}
