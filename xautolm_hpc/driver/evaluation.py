"""Trials of a given list of pipelines: paired designs, portfolios, re-runs with other seeds.

Everything else is a search's: the ledger, attempts, verdicts, store and report. Ten trials are a generation, so
the store gets a segment every ten trials, and a killed evaluation goes on where it was.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from xautolm_hpc.distribution import FrozenPrior, uniform
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.driver.proposal import NextTrials, Past, plan_trial
from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.durable import create_bytes
from xautolm_hpc.errors import InputError
from xautolm_hpc.hyperparameters import METHODS
from xautolm_hpc.jobdir import ProfileResult
from xautolm_hpc.records import Pipeline, Value, from_json
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.history import KnownEnd, read_history
from xautolm_hpc.sample import training_seed
from xautolm_hpc.space import Space
from xautolm_hpc.table import ExperienceTable
from xautolm_hpc.view import Finish, FinishKind, RunFacts

SEGMENT = 10
"""Trials of a generation."""

LIST = "pipelines.jsonl"
"""The list as it was when the evaluation began, in the run folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the list.

    Attributes:
        model: Model id, in the search file's space.
        method: Fine-tuning method.
        params: Hyperparameter -> value.
        seed: Training seed; ``None`` takes one that follows from ``search.seed`` and the place in the list.
    """

    model: str
    method: str
    params: Mapping[str, Value]
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One trial to run.

    Attributes:
        pipeline: What is trained.
        seed: Training seed.
    """

    pipeline: Pipeline
    seed: int


def read_list(path: Path, space: Space, *, search_seed: int) -> list[Listed]:
    """Read the pipelines to evaluate: JSON lines of ``model``, ``method``, ``params`` and perhaps ``seed``.

    Args:
        path: The list.
        space: The search file's space; it holds the models. Values may lie outside it.
        search_seed: Gives the seeds of lines that have none.

    Raises:
        InputError: The file is missing, or a line is no JSON, malformed, or names an unknown model or method; the
            message names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"`{path}` cannot be read: {error}. Give a file of one pipeline a line, as JSON") from error
    listed = [
        _read_line(line, space, where=f"`{path}` line {number}", default_seed=training_seed(search_seed, number - 1))
        for number, line in enumerate(lines, start=1)
    ]
    if not listed:
        raise InputError(f"`{path}` holds no pipelines; each line is one, for instance: {EXAMPLE}")
    return listed


EXAMPLE = '{"model": "minilm-l2", "method": "head", "params": {"learning_rate": 0.001, "epochs": 3}, "seed": 1}'


def _read_line(line: str, space: Space, *, where: str, default_seed: int) -> Listed:
    """Read one line of the list."""
    try:
        data = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: is no JSON: {error.msg}; a line is for instance: {EXAMPLE}") from error
    entry = from_json(Entry, data, where=where)
    model = space.model(entry.model)
    if model is None:
        valid = ", ".join(known.id for known in space.models)
        raise InputError(f"{where}: model {entry.model!r} is not in the search file's space; valid: {valid}")
    if entry.method not in METHODS:
        raise InputError(f"{where}: unknown method {entry.method!r}; valid: {', '.join(METHODS)}")
    pipeline = Pipeline(
        task_kind=space.task_kind,
        model_id=model.id,
        model_revision=model.revision,
        method=entry.method,
        params=entry.params,
    )
    return Listed(pipeline=pipeline, seed=default_seed if entry.seed is None else entry.seed)


def run_evaluation(setup: Setup, path: Path) -> RunFacts:
    """Evaluate a list of pipelines to its end, or go on with one.

    Args:
        setup: What it is run with.
        path: The list; lines may be added while an evaluation is under way, none may change.

    Raises:
        InputError: The list is malformed, or a line that was there before has changed.
        XAutoLMError: As in :func:`xautolm_hpc.driver.loop.run_search`.
    """
    listed = read_list(path, setup.space, search_seed=setup.search.search.seed)
    _check_unchanged(setup.run_dir, listed)
    create_bytes(setup.run_dir.path / LIST, path.read_bytes())
    return run_search(setup, partial(ListProposer, listed=listed))


def _check_unchanged(run_dir: RunDir, listed: Sequence[Listed]) -> None:
    """Refuse a list whose lines differ from those that were drawn already."""
    for number, trial in read_history(run_dir).trials.items():
        known = Listed(pipeline=trial.plan.pipeline, seed=trial.plan.seed)
        if number >= len(listed) or listed[number] != known:
            raise InputError(
                f"line {number + 1} of the list has changed since the evaluation began; put it back (the list as "
                f"it was: `{run_dir.path / LIST}`), add lines at the end only, or take another name"
            )


class ListProposer:
    """Takes pipelines from a list, ten at a time; learns nothing and rejects nothing.

    Args:
        setup: What the evaluation is run with.
        profile: The task and the system.
        past: What a search would begin with; a frozen prior is kept as it is.
        listed: The pipelines, in order.
    """

    def __init__(self, setup: Setup, profile: ProfileResult, *, past: Past, listed: Sequence[Listed]) -> None:
        self.setup = setup
        self.profile = profile
        self.listed = listed
        start = FrozenPrior(kind="uniform", counts={}, distribution=uniform(setup.space).to_json(setup.space))
        self.prior = start if isinstance(past, ExperienceTable) else past

    def finish(self, n_drawn: int) -> Finish | None:
        """Return that the list is done once all of it was drawn."""
        if n_drawn < len(self.listed):
            return None
        return Finish(FinishKind.LIST_EVALUATED, f"evaluated all {len(self.listed)} pipelines of the list")

    def propose(
        self, drawn: Sequence[Pipeline], known: Sequence[KnownEnd], *, unfit: Collection[str] = ()
    ) -> NextTrials:
        """Take the next pipelines of the list; a pipeline that must fail is part of a design."""
        del known, unfit
        first = len(drawn)
        numbered = enumerate(self.listed[first : first + SEGMENT], start=first)
        plans = tuple(
            plan_trial(self.setup, number, profile=self.profile, pipeline=listed.pipeline, seed=listed.seed)
            for number, listed in numbered
        )
        return NextTrials(plans=plans, refusals={}, is_exhausted=False)
