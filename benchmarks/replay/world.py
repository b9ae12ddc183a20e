"""Tasks to replay on, plans of replays, and the processes that run them; their number changes no row."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from threadpoolctl import threadpool_limits

from benchmarks.replay.limits import ReplayLimits, allowed
from benchmarks.replay.measures import measure_search
from benchmarks.replay.past import is_usable_past, make_past
from benchmarks.replay.search_methods import EVIDENCE, METHODS, SHIPPED, ReplayedSearch
from benchmarks.replay.trials import Oracle, TaskTable, build_space, evaluated_at_limit
from xautolm_hpc.priors import AcquisitionSettings, PriorSettings

MOST_TRIALS, SEARCHED_SHARE = 60, 0.8
"""A search tries sixty pipelines; where there are fewer than 75 to try, four fifths of them."""

LEAST_SPREAD_SD = 3.0
"""A task whose best F1 is fewer standard deviations above the median is not pooled with the others."""


@dataclass(frozen=True)
class World:
    """Tasks to replay on.

    Attributes:
        tables: Task -> its trials.
        shared: Task -> other task -> share of the rows of one that the other has.
        limits: Task -> time and memory of a trial.
    """

    tables: Mapping[str, TaskTable]
    shared: Mapping[str, Mapping[str, float]]
    limits: Mapping[str, ReplayLimits] = field(default_factory=dict)

    def past_tasks(self, name: str, *, without: str | None = None) -> list[TaskTable]:
        """List the tasks that one may learn from, with one of them left out."""
        task = self.tables[name].task
        others = [table for other, table in self.tables.items() if other not in (name, without)]
        return [table for table in others if is_usable_past(table.task, task, shared=self.shared)]

    def pooled(self) -> list[str]:
        """List the tasks over which results are pooled."""
        return [name for name, table in self.tables.items() if table.spread_sd() >= LEAST_SPREAD_SD]


@dataclass(frozen=True)
class ReplayPlan:
    """Plan of a replay.

    Attributes:
        methods: Names in :data:`benchmarks.replay.search_methods.METHODS`.
        seeds: Seeds of the searches.
        oracle: ``table``, or the kind of surrogate used in its place.
        objectives: Objectives of the searches.
        past: One of :data:`benchmarks.replay.past.PASTS`: what is in the store.
        acquisition: Task -> acquisition settings of ``evidence``; a task not named has the default ones.
        tasks: Tasks to search; all if ``None``.
        without: A task that no search may learn from.
        at_limit: What trials do at their limit.
    """

    methods: Sequence[str]
    seeds: Sequence[int]
    oracle: str = "table"
    objectives: tuple[str, ...] = ("f1",)
    past: str = "real"
    acquisition: Mapping[str, AcquisitionSettings] = field(default_factory=dict)
    tasks: Sequence[str] | None = None
    without: str | None = None
    at_limit: str = "fail"

    def units(self, names: Sequence[str]) -> Iterator["ReplayUnit"]:
        """List the parts that can be run independently."""
        for task in names if self.tasks is None else self.tasks:
            yield from (ReplayUnit(self, task, half, method) for half in (0, 1) for method in self.methods)


@dataclass(frozen=True)
class ReplayUnit:
    """The searches of one method in one half of a task."""

    plan: ReplayPlan
    task: str
    half: int
    method: str

    def replay(self, world: World) -> list[dict[str, Any]]:
        """Replay them: one row a search, with the measures of :func:`benchmarks.replay.measures.measure_search`."""
        plan, whole = self.plan, world.tables[self.task]
        others = world.past_tasks(self.task, without=plan.without)
        space, halves = build_space([whole, *others]), [table.half(1 - self.half) for table in others]
        searched = allowed(
            whole.half(self.half), halves, space=space, limits=world.limits.get(self.task, ReplayLimits())
        )
        if plan.at_limit == "evaluate":
            searched = evaluated_at_limit(searched)
        rows, priors = [], dict[PriorSettings, dict[str, Any]]()
        for seed in plan.seeds:
            search = ReplayedSearch(
                past=make_past(plan.past, halves, task=whole, seed=seed),
                space=space,
                oracle=Oracle(searched, space, kind=plan.oracle),
                objectives=plan.objectives,
                n_trials=min(MOST_TRIALS, round(SEARCHED_SHARE * len(searched.pipelines))),
                seed=seed,
                acquisition=plan.acquisition.get(self.task, AcquisitionSettings()),
                priors={} if plan.past == "permuted" else priors,
                at_limit=plan.at_limit,
            )
            measured = measure_search(METHODS[self.method](search), searched)
            rows.append({"task": self.task, "half": self.half, "seed": seed, "method": self.method, **measured})
        return rows


def replay(world: World, plans: Sequence[ReplayPlan], *, n_jobs: int = 1) -> list[list[dict[str, Any]]]:
    """Replay plans, all their searches spread over processes.

    Args:
        world: Tasks to replay on.
        plans: What to replay.
        n_jobs: Processes, at least 1.

    Returns:
        The rows of each plan, the same whatever ``n_jobs``.
    """
    units = [(number, unit) for number, plan in enumerate(plans) for unit in plan.units(list(world.tables))]
    longest_first = sorted(range(len(units)), key=lambda i: units[i][1].method not in (EVIDENCE, SHIPPED))
    with ProcessPoolExecutor(n_jobs, initializer=_begin, initargs=(world,)) as pool:
        done = dict(zip(longest_first, pool.map(_replay, [units[i][1] for i in longest_first]), strict=True))
    rows: list[list[dict[str, Any]]] = [[] for _ in plans]
    for index, (number, _) in enumerate(units):
        rows[number] += done[index]
    return rows


_worlds: list[World] = []


def _begin(world: World) -> None:
    """Prepare a process of the pool: keep the world, use one thread."""
    threadpool_limits(1)
    _worlds.append(world)


def _replay(unit: ReplayUnit) -> list[dict[str, Any]]:
    return unit.replay(_worlds[-1])
