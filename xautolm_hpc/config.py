"""Search files and cluster profiles: TOML files are read into checked settings.

Every error names the file, the key, the value and what is valid. Paths in a file are relative to that file.
"""

import sys
import tomllib
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from xautolm_hpc.catalogue import SizeReader, read_own_models, stand_in
from xautolm_hpc.container import ContainerSection
from xautolm_hpc.dataset import DataSection
from xautolm_hpc.durable import decode_text
from xautolm_hpc.errors import ConfigError, InputError, SpaceError
from xautolm_hpc.jobdir import RUN_NAME
from xautolm_hpc.records import ObjectiveName, to_json
from xautolm_hpc.slurm import check_options
from xautolm_hpc.space import Space, SpaceSection, build_space, find_refused, searched_models
from xautolm_hpc.task_kinds import MetricName, TaskKindName

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
S = typing.TypeVar("S", bound="_Section")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class TaskSection(_Section):
    """``[task]``: the task; ``metric`` selects what ``f1`` means where a task kind has several."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$")]
    kind: TaskKindName = "text-classification"
    metric: MetricName | None = None


class SearchSection(_Section):
    """``[search]``: settings of the evolutionary search (NSPE)."""

    objectives: tuple[ObjectiveName, ...] = ("f1", "evaluation_time_s")
    population: Count = 20
    selection: Annotated[float, Field(gt=0, le=1)] = 0.2
    learning_factor: Share = 0.05
    epsilon: Share = 0.1
    seed: Annotated[int, Field(ge=0)] = 0


class BudgetSection(_Section):
    """``[budget]``: limits of the search, which ends at the first one reached; at least one is set."""

    generations: Count | None = None
    trials: Count | None = None
    wall_h: Positive | None = None
    gpu_h: Positive | None = None
    energy_kwh: Positive | None = None


class TrialSection(_Section):
    """``[trial]``: limits of one trial.

    Attributes:
        time_limit_min: Budget of training and evaluation, in minutes; a longer trial fails with ``time_limit``.
        max_attempts: Attempts of one trial at most, those after infrastructure failures or with more memory included.
        deterministic: Whether to avoid non-deterministic kernels.
        early_stopping_min_steps: Steps after the warm-up before early stopping counts epochs; absent, the preset's.
        step: Whether a GPU replays captured steps where it can (``graph``) or runs them kernel by kernel (``eager``).
    """

    time_limit_min: Positive = 60.0
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    deterministic: bool = False
    early_stopping_min_steps: Annotated[int, Field(ge=0)] | None = None
    step: Literal["eager", "graph"] = "graph"


class ConstraintsSection(_Section):
    """``[constraints]``: steps after the warm-up that a pipeline must have; the preset's when absent."""

    min_steps: Annotated[int, Field(ge=0)] | None = None


class PriorSection(_Section):
    """``[prior]``: how the first distribution is computed from past experiences; names as in the XAutoLM paper."""

    kind: Literal["uniform", "xautolm", "knn", "evidence"] = "uniform"
    distance: Literal["euclidean", "cosine"] = "euclidean"
    beta_scale: Annotated[float, Field(ge=0)] = 1.0
    k: Count = 25
    k_pos: Annotated[int, Field(ge=0)] = 10_000
    k_neg: Annotated[int, Field(ge=0)] = 10_000
    max_alpha: Share = 0.05
    min_alpha: Annotated[float, Field(ge=-1, le=0)] = -0.02
    adaptive_positive_limit: Positive | None = None
    adaptive_negative_limit: Annotated[float, Field(lt=0)] | None = None
    utility: Literal["weighted_sum", "linear_front", "logarithmic_front"] = "weighted_sum"
    weights: dict[ObjectiveName, Annotated[float, Field(ge=0)]] | None = None
    deduplicate: bool = True
    sites: dict[str, Share] | None = None


class StoreSection(_Section):
    """``[store]``: stores to read; ``path`` is also written; ``group`` may read it; ``check`` limits segment checks."""

    path: str = "experience-store"
    also_read: tuple[str, ...] = ()
    group: str | None = None
    check: dict[Literal["memory_gb", "cpu_s", "wall_s", "file_mb", "content_mb", "n_experiences"], Positive] = {}


class SearchFile(_Section):
    """A whole search file."""

    name: Annotated[str, Field(min_length=1, pattern=RUN_NAME)]
    profile: str | None = None
    task: TaskSection
    data: DataSection
    space: SpaceSection = SpaceSection()
    search: SearchSection = SearchSection()
    budget: BudgetSection
    trial: TrialSection = TrialSection()
    constraints: ConstraintsSection = ConstraintsSection()
    prior: PriorSection = PriorSection()
    store: StoreSection = StoreSection()
    model: tuple[dict[str, Any], ...] = ()

    @model_validator(mode="after")
    def _check_budget(self) -> "SearchFile":
        """Reject a budget without a limit, one shorter than a trial, and bad objectives."""
        budget = self.budget
        if all(limit is None for limit in budget.model_dump().values()):
            raise ValueError(f"budget: sets no limit; valid: {', '.join(BudgetSection.model_fields)}")
        if budget.wall_h is not None and self.trial.time_limit_min > budget.wall_h * 60:
            raise ValueError(
                f"budget.wall_h = {budget.wall_h} ({budget.wall_h * 60:g} min) is shorter than one trial, "
                f"trial.time_limit_min = {self.trial.time_limit_min}: no trial could use its time"
            )
        names, valid = self.search.objectives, ", ".join(typing.get_args(ObjectiveName))
        if not 1 <= len(set(names)) == len(names) <= 3:
            raise ValueError(f"search.objectives = {[*names]}: expected 1 to 3, each once, of {valid}")
        return self

    def build_space(self, read_sizes: SizeReader = lambda table: {}) -> Space:
        """Build the search space that ``[space]`` and ``[[model]]`` describe.

        Args:
            read_sizes: Reads what a ``[[model]]`` table leaves out.

        Raises:
            InputError: A ``[[model]]`` table lacks a key, has an unknown key, or repeats an id.
            SpaceError: A model, method, parameter or distribution is unknown or malformed.
        """
        part, kind = self.space, self.task.kind
        ids = searched_models(part.preset, task_kind=kind, models=part.models)
        own = read_own_models(to_json(self.model), read_sizes, searched=ids)
        return build_space(
            part.preset, task_kind=kind, models=ids, methods=part.methods, overrides=part.params, own_models=own
        )


class JobSection(_Section):
    """``[job]``: resources of a trial on each node; one process per GPU, or ``n_processes`` where there is none."""

    n_cpus: Count = 1  # also the worker's threads
    n_gpus: Annotated[int, Field(ge=0)] = 0
    n_nodes: Count = 1
    n_processes: Count = 1
    memory_gb: Positive = 4.0  # of 2**30 bytes
    queue_slack_min: Positive = 10.0  # beside the time limit, for loading and saving
    trials_per_job: Count = 1  # one after the other, at most


class LocalSection(_Section):
    """``[local]``: the local launcher: trials at once, and seconds between polls."""

    n_slots: Count = 2
    poll_s: Positive = 0.5


class SlurmSection(_Section):
    """``[slurm]``: options for sbatch; ``options`` takes any other option by its long name."""

    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    gres: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    reservation: str | None = None
    wckey: str | None = None
    options: dict[str, str | int | bool] = {}
    max_parallel: Count = 256
    max_queued: Count | None = None
    poll_s: Annotated[float, Field(ge=1)] = 30.0


class PatienceSection(_Section):
    """``[patience]``: timeouts: how long to wait for outcomes, pending jobs, heartbeats and the lease."""

    outcome_grace_s: Annotated[float, Field(ge=0)] = 60.0
    pending_patience_h: Positive = 24.0
    heartbeat_s: Positive = 30.0
    lease_stale_s: Positive = 120.0


class EnvironmentSection(_Section):
    """``[environment]``: variables passed to jobs, in addition to a few basic ones."""

    allow: tuple[str, ...] = ()
    set: dict[str, str] = {}


class SystemSection(_Section):
    """``[system]``: the compute node, used by ``plan`` and for early constraints; a run measures the real node."""

    n_cpu_cores: Count | None = None
    ram_gb: Positive | None = None
    n_gpus: Annotated[int, Field(ge=0)] | None = None
    gpu_name: str | None = None
    gpu_memory_gb: Positive | None = None
    gpu_capability: Positive | None = None


class ClusterProfile(_Section):
    """A whole cluster profile; the default runs trials on this machine."""

    site: Annotated[str, Field(min_length=1)] = "local"
    cluster: Annotated[str, Field(min_length=1)] = "local"
    launcher: Literal["local", "slurm"] = "local"
    driver_python: str = sys.executable
    worker_python: str | None = None
    container: ContainerSection | None = None
    hf_home: str | None = None
    job: JobSection = JobSection()
    local: LocalSection = LocalSection()
    slurm: Annotated[SlurmSection, AfterValidator(check_options)] = SlurmSection()
    patience: PatienceSection = PatienceSection()
    environment: EnvironmentSection = EnvironmentSection()
    system: SystemSection = SystemSection()

    @model_validator(mode="after")
    def _check_worker(self) -> "ClusterProfile":
        """Reject a profile that names no worker or two, or several trials in a job where a trial has several ranks."""
        if self.worker_python and self.container:
            raise ValueError("worker_python and container: name one of them, not both")
        if self.launcher == "slurm" and not (self.worker_python or self.container):
            raise ValueError("launcher = 'slurm' needs worker_python, or [container] with an image")
        n_ranks = (self.job.n_gpus or self.job.n_processes) * self.job.n_nodes
        if self.job.trials_per_job > 1 and n_ranks > 1:
            raise ValueError(
                f"job.trials_per_job = {self.job.trials_per_job}: expected 1 where a trial has {n_ranks} processes"
            )
        return self

    @property
    def poll_s(self) -> float:
        """Seconds between two polls of the jobs."""
        return self.local.poll_s if self.launcher == "local" else self.slurm.poll_s


def load_search(
    path: Path, settings: tuple[str, ...] = (), *, has_trials: Callable[[str], bool] = lambda name: False
) -> SearchFile:
    """Read and check a search file.

    Args:
        path: The file.
        settings: ``KEY=VALUE`` pairs that replace values of the file, KEY dotted, VALUE as TOML or plain text.
        has_trials: Tells by its name whether a search has trials; if so, it goes on with what is now refused.

    Raises:
        ConfigError: The file is missing or is not TOML, or a key or value is not valid.
        InputError: ``[space]`` or a ``[[model]]`` table is not valid, or names what no trial can be trained with.
    """
    written = read_written(path, settings)
    search = _check(SearchFile, written, path=path)
    problems = [] if has_trials(search.name) else find_refused(written.get("space"))
    try:
        search.build_space(stand_in)
    except InputError as found:
        problems = [*str(found).splitlines(), *problems]
    if problems:
        error = SpaceError("\n".join(dict.fromkeys(problems)))
        error.add_note(f"in `{path}`")
        raise error

    def resolve(key: str, written: str) -> str:
        is_set = any(f"{key}.".startswith(setting.partition("=")[0] + ".") for setting in settings)
        return str(((Path.cwd() if is_set else path.resolve().parent) / Path(written).expanduser()).resolve())

    located = search.model_dump() | {"profile": search.profile and resolve("profile", search.profile)}
    located["data"]["path"] = search.data.path and resolve("data.path", search.data.path)
    located["store"]["path"] = resolve("store.path", search.store.path)
    located["store"]["also_read"] = tuple(resolve("store.also_read", written) for written in search.store.also_read)
    for entry in located["model"]:
        if "path" in entry and "package" not in entry:
            entry["path"] = resolve("model", entry["path"])
    return SearchFile.model_validate(located)


def read_written(path: Path, settings: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a search file and the ``KEY=VALUE`` pairs that replace values of it, unchecked and without defaults.

    Raises:
        ConfigError: The file is missing or no TOML.
    """
    data = _read_toml(path)
    for setting in settings:
        _apply_setting(data, setting)
    return data


def rebuild_search(settings: Mapping[str, Any], *, path: Path) -> SearchFile:
    """Rebuild the settings that a ``run.json`` keeps whole; what is not valid in this version is a ConfigError."""
    return _check(SearchFile, dict(settings), path=path)


def load_profile(path: Path | None) -> ClusterProfile:
    """Read and check a cluster profile; ``None`` returns the default.

    Raises:
        ConfigError: The file is missing or is not TOML, or a key or value is not valid.
    """
    if path is None:
        return ClusterProfile()
    profile = _check(ClusterProfile, _read_toml(path), path=path)
    # A bare program is looked up on PATH. Links stay: a virtual environment's python is one.
    paths = profile.model_dump(include={"driver_python", "worker_python", "hf_home"}, exclude_none=True)
    folder = path.resolve().parent
    updates = {key: str(folder / Path(p).expanduser()) for key, p in paths.items() if key == "hf_home" or "/" in p}
    container = {} if profile.container is None else {"container": profile.container.located(folder)}
    return profile.model_copy(update=updates | container)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(decode_text(path.read_bytes()))
    except FileNotFoundError as error:
        raise ConfigError(f"`{path}` does not exist; give the path of a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"`{path}` cannot be read as TOML: {error}") from error


def _apply_setting(data: dict[str, Any], setting: str) -> None:
    """Apply one ``KEY=VALUE`` to the file's data, in place."""
    key, separator, text = setting.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {setting!r}: expected KEY=VALUE, for instance --set budget.generations=3")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise ConfigError(f"--set {setting!r}: {parent!r} is a value, not a table")
    data[last] = value


def _check(section: type[S], data: dict[str, Any], *, path: Path) -> S:
    try:
        return TypeAdapter(section).validate_python(_tuples(data))
    except ValidationError as error:
        lines = [_explain(section, e, path=path) for e in error.errors()]
        refused = find_refused(data.get("space")) if section is SearchFile else []
        raise ConfigError("\n".join([*lines, *(f"`{path}`: {line}" for line in refused)])) from error


def _tuples(value: Any) -> Any:
    """Convert TOML arrays to tuples, which strict frozen sections need; ``params`` keeps its lists."""
    if isinstance(value, dict):
        return {key: item if key == "params" else _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _explain(section: type[BaseModel], error: Any, *, path: Path) -> str:
    """Write the key of a wrong value and what is valid there."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        valid = ", ".join(_section_at(section, error["loc"][:-1]).model_fields)
        return f"`{path}`: unknown key `{key}`; valid here: {valid}"
    if error["type"] in ("missing", "value_error"):
        return f"`{path}`: " + (f"`{key}` is missing" if error["type"] == "missing" else str(error["ctx"]["error"]))
    expected = error["msg"].removeprefix("Input should be ").replace("String should", "text that should")
    in_toml = {"tuple_type": "an array", "model_type": "a table", "dict_type": "a table"}  # by pydantic's error type
    return f"`{path}`: `{key}` = {to_json(error['input'])!r}: expected {in_toml.get(error['type'], expected)}"


def _section_at(section: type[BaseModel], location: tuple[Any, ...]) -> type[BaseModel]:
    for part in location:
        choices = (annotation := section.model_fields[part].annotation, *typing.get_args(annotation))
        section = next(c for c in choices if isinstance(c, type) and issubclass(c, BaseModel))
    return section
