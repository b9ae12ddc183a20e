"""Search files and cluster profiles: TOML files are read into checked settings.

Every error names the file, the key, the value and what is valid. Paths in a file are relative to that file.
"""

import typing
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from xautolm_hpc.catalogue import SizeReader, read_own_models, stand_in
from xautolm_hpc.config.cluster_profile import ClusterProfile
from xautolm_hpc.config.section import Count, Positive, SettingsSection, Share, apply_setting, check_section, read_toml
from xautolm_hpc.container import locate
from xautolm_hpc.dataset import DataSection
from xautolm_hpc.durable import check_depth
from xautolm_hpc.errors import ConfigError, InputError, SpaceError
from xautolm_hpc.jobdir import RUN_NAME
from xautolm_hpc.records import ObjectiveName, to_json
from xautolm_hpc.space import Space, SpaceSection, build_space, find_refused, searched_models
from xautolm_hpc.task_kinds import MetricName, TaskKindName

__all__ = [
    "BudgetSection", "ClusterProfile", "ConstraintsSection", "PriorSection", "SearchFile", "SearchSection",
    "StoreSection", "TaskSection", "TrialSection", "load_profile", "load_search", "read_written", "rebuild_search",
]  # fmt: skip
OF_PACKAGE = "package:"
OF_SEARCH = {"task", "data"}
"""Sections that every search file has and no cluster profile."""
"""Beginning of what names no path but a thing that comes with this program, wherever it is installed."""


class TaskSection(SettingsSection):
    """``[task]``: the task.

    Attributes:
        name: Name of the task in reports and in the store: letters, digits, dots, dashes and underscores.
        kind: What is learnt: the class of a text, the place of an answer in a context, or a text as an answer.
        metric: What ``f1`` means where a kind of task has several; by default the first one of the kind.
    """

    name: Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$")]
    kind: TaskKindName = "text-classification"
    metric: MetricName | None = None


class SearchSection(SettingsSection):
    """``[search]``: settings of the evolutionary search (NSPE).

    Attributes:
        objectives: One to three objectives, the first one deciding which trial is called the best.
        population: Trials of a generation.
        selection: Share of a generation's successes from which the search learns, above 0 and at most 1.
        learning_factor: How far the search moves towards them after a generation, from 0 to 1.
        epsilon: Share of the trials that are drawn at random whatever was learnt, from 0 to 1.
        seed: Seed of every random draw of the search.
    """

    objectives: tuple[ObjectiveName, ...] = ("f1", "evaluation_time_s")
    population: Count = 20
    selection: Annotated[float, Field(gt=0, le=1)] = 0.2
    learning_factor: Share = 0.05
    epsilon: Share = 0.1
    seed: Annotated[int, Field(ge=0)] = 0


class BudgetSection(SettingsSection):
    """``[budget]``: limits of the search, which ends at the first one reached; at least one is set.

    Attributes:
        generations: Generations; no limit when absent, as for the others.
        trials: Trials.
        wall_h: Hours during which a driver is at work.
        gpu_h: GPU-hours of all trials.
        energy_kwh: Kilowatt-hours of all trials.
    """

    generations: Count | None = None
    trials: Count | None = None
    wall_h: Positive | None = None
    gpu_h: Positive | None = None
    energy_kwh: Positive | None = None


class TrialSection(SettingsSection):
    """``[trial]``: limits of one trial.

    Attributes:
        time_limit_min: Budget of training and evaluation, in minutes; ``at_limit`` says what follows then.
        at_limit: What a trial does when its budget is used up: ``evaluate`` its best state so far, in time kept for
            that, so that it succeeds, truncated; or ``fail`` with ``time_limit``. Absent, ``evaluate``; ``fail`` with
            the priors ``xautolm`` and ``knn`` and for lists of pipelines.
        foretell: What follows when a trial is foretold not to fit into its budget: ``obey`` ends it, or draws another
            one in its place; ``log`` only says so; ``off`` foretells nothing. Absent, ``obey``, and ``off`` where
            ``at_limit`` is ``fail`` when absent.
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
    at_limit: Literal["evaluate", "fail"] | None = None
    foretell: Literal["obey", "log", "off"] | None = None


class ConstraintsSection(SettingsSection):
    """``[constraints]``: what a pipeline must fulfil to be submitted.

    Attributes:
        min_steps: Optimiser steps after the warm-up that a pipeline must have; the preset's when absent.
    """

    min_steps: Annotated[int, Field(ge=0)] | None = None


class PriorSection(SettingsSection):
    """``[prior]``: how the first distribution is computed from past experiences; names as in the XAutoLM paper.

    Attributes:
        kind: ``uniform`` learns nothing from the past, ``xautolm`` is the paper's prior, ``knn`` its memory baseline,
            ``evidence`` a surrogate model of this project.
        distance: How far apart two tasks, or two systems, are.
        beta_scale: Sharpness of the decay of an experience's weight with its distance; 0 weighs all alike.
        k: Nearest experiences that ``knn`` uses.
        k_pos: Nearest successes that ``xautolm`` uses; 0 uses none.
        k_neg: Nearest failures that ``xautolm`` uses; 0 uses none.
        max_alpha: Learning rate of the best, nearest success, from 0 to 1.
        min_alpha: Learning rate of the nearest failure, from -1 to 0.
        adaptive_positive_limit: What the learning rates of all successes may add up to, instead of ``max_alpha``.
        adaptive_negative_limit: The same for failures, below 0, instead of ``min_alpha``.
        utility: How ``xautolm`` makes one number of the objectives of a success.
        weights: Objective -> weight in the weighted sum; all alike when absent.
        deduplicate: Whether all records of one configuration count once.
        sites: Site -> weight from 0 to 1, no other site being used; every site with weight 1 when absent.
    """

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


class StoreSection(SettingsSection):
    """``[store]``: where experiences are kept and read.

    Attributes:
        path: Store of this site, which is read and written; relative to the search file.
        also_read: Further stores that are only read; ``package:seed`` is the one that comes with this program.
        group: Group of the operating system that may read ``path``; nobody else when absent.
        check: Limits of the check of foreign segments: memory in GiB, processor and wall time in seconds, sizes of
            file and content in MiB, number of experiences.
    """

    path: str = "experience-store"
    also_read: tuple[str, ...] = ()
    group: str | None = None
    check: dict[Literal["memory_gb", "cpu_s", "wall_s", "file_mb", "content_mb", "n_experiences"], Positive] = Field(
        default={}
    )


class SearchFile(SettingsSection):
    """A whole search file.

    Attributes:
        name: Name of the run and of its folder: letters, digits, dots, dashes and underscores.
        profile: Cluster profile, relative to the search file; without one, trials run on this machine.
        task: The task.
        data: Where its rows lie.
        space: Models, methods and hyperparameters to search.
        search: How to search.
        budget: When to stop.
        trial: Limits of one trial.
        constraints: What a pipeline must fulfil.
        prior: What is learnt from past experiences before the first trial.
        store: Where experiences are kept and read.
        model: Models of your own, beside the catalogue: a table for each, with ``repo`` or ``path``.
    """

    elsewhere = dict.fromkeys(ClusterProfile.model_fields, "cluster profile")

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
    search = check_section(SearchFile, written, path=path)
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
        if written.startswith(OF_PACKAGE):
            return written
        is_set = any(f"{key}.".startswith(setting.partition("=")[0] + ".") for setting in settings)
        return locate(written, Path.cwd() if is_set else path.resolve().parent, where=f"`{path}`: {key}")

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
    data = read_toml(path)
    for setting in settings:
        apply_setting(data, setting)
    check_depth(data, where=f"`{path}`")
    return data


def rebuild_search(settings: Mapping[str, Any], *, path: Path) -> SearchFile:
    """Rebuild the settings that a ``run.json`` keeps whole; what is not valid in this version is a ConfigError."""
    return check_section(SearchFile, dict(settings), path=path)


def load_profile(path: Path | None) -> ClusterProfile:
    """Read and check a cluster profile; ``None`` returns the default.

    Raises:
        ConfigError: The file is missing or is not TOML, or a key or value is not valid.
    """
    if path is None:
        return ClusterProfile()
    written = read_toml(path)
    if written.keys() >= OF_SEARCH:
        raise ConfigError(f"`{path}`: this is a search file; expected a cluster profile")
    profile = check_section(ClusterProfile, written, path=path)
    # A bare program is looked up on PATH. Links stay: a virtual environment's python is one.
    paths = profile.model_dump(include={"driver_python", "worker_python", "hf_home"}, exclude_none=True)
    find = partial(locate, folder=path.resolve().parent, follows_links=False)
    updates = {key: find(p, where=f"`{path}`: {key}") for key, p in paths.items() if key == "hf_home" or "/" in p}
    container = {} if profile.container is None else {"container": profile.container.located(path)}
    return profile.model_copy(update=updates | container)
