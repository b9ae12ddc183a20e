"""Trials of a given list of pipelines: paired designs, portfolios, re-runs with other seeds.

Everything else is a search's: the ledger, attempts, verdicts, store and report. Ten trials are a generation, so
the store gets a segment every ten trials, and a killed evaluation goes on where it was.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from xautolm_hpc import report
from xautolm_hpc.catalogue import Model
from xautolm_hpc.distribution import FrozenPrior, uniform
from xautolm_hpc.driver.budget import trials_left
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.driver.proposal import NextTrials, Past, plan_trial
from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.durable import create_bytes, decode_text
from xautolm_hpc.errors import InputError
from xautolm_hpc.hyperparameters import METHODS, ParamProblem, check_params, nearest_name
from xautolm_hpc.jobdir import ProfileResult
from xautolm_hpc.records import LARGEST_SEED, Pipeline, Value, from_json
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


def read_list(path: Path, space: Space, *, search_seed: int, n_drawn: int = 0) -> list[Listed]:
    """Read the pipelines to evaluate: JSON lines of ``model``, ``method``, ``params`` and perhaps ``seed``.

    Args:
        path: The list.
        space: The search file's space; it holds the models. Values may lie outside it.
        search_seed: Gives the seeds of lines that have none.
        n_drawn: Lines at the beginning that are trials already: their hyperparameters and seeds are not checked again.

    Raises:
        InputError: The file is missing, or lines are no JSON, malformed, or name an unknown model or method, or
            hyperparameters that the worker would refuse; the message names file, line, key and value of each.
    """
    try:
        lines = decode_text(path.read_bytes()).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"`{path}` cannot be read: {error}. Give a file of one pipeline a line, as JSON") from error
    listed, problems = [], []
    for number, line in enumerate(lines):
        seed, where = training_seed(search_seed, number), f"`{path}` line {number + 1}"
        try:
            entry, model = _read_line(line, space, where=where)
            if number >= n_drawn:
                _check_entry(entry, where=where)
            listed.append(_listed(entry, model, task_kind=space.task_kind, default_seed=seed))
        except InputError as error:
            problems.append(str(error))
    if problems:
        more = [f"and {len(problems) - MOST_SHOWN} lines more"] if len(problems) > MOST_SHOWN else []
        raise InputError("\n".join([*problems[:MOST_SHOWN], *more]))
    if not listed:
        raise InputError(f"`{path}` holds no pipelines; each line is one, for instance: {EXAMPLE}")
    return listed


def read_list_of_run(path: Path, space: Space, *, run_dir: RunDir, search_seed: int) -> list[Listed]:
    """Read the pipelines to evaluate in a run, which need not exist; lines that are trials already are not checked.

    Args:
        path: The list.
        space: The space of the run.
        run_dir: The run folder.
        search_seed: Gives the seeds of lines that have none.

    Raises:
        InputError: As :func:`read_list`.
    """
    return read_list(path, space, search_seed=search_seed, n_drawn=len(read_history(run_dir).trials))


EXAMPLE = json.dumps(
    {
        "model": "minilm-l2",
        "method": "head",
        "params": {"learning_rate": 0.001, "batch_size": 16, "max_length": 64, "epochs": 3},
        "seed": 1,
    }
)
MOST_SHOWN = 10


def _read_line(line: str, space: Space, *, where: str) -> tuple[Entry, Model]:
    """Read one line of the list and look its model up; its method is known."""
    try:
        data = json.loads(line, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else error
        raise InputError(f"{where}: is no JSON: {reason}; a line is for instance: {EXAMPLE}") from error
    entry = from_json(Entry, data, where=where)
    model = space.model(entry.model)
    if model is None:
        known = [model.id for model in space.models]
        text = f"model {entry.model!r} is not in the search file's space; valid: {', '.join(known)}"
        problem = ParamProblem(name="model", text=text, nearest=nearest_name(entry.model, known))
        raise InputError(f"{where}: {problem.full_text}")
    if entry.method not in METHODS:
        check_params(entry.method, {}, where=where)
    return entry, model


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Build an object of a line; of two equal keys JSON readers would silently take the last one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice")
    return found


def _check_entry(entry: Entry, *, where: str) -> None:
    """Refuse what the worker would refuse before it trains; a pipeline that fails later may be part of a design.

    Raises:
        InputError: A hyperparameter or the seed is not valid.
    """
    check_params(entry.method, entry.params, where=f"{where}: params")
    if entry.seed is not None and not 0 <= entry.seed <= LARGEST_SEED:
        raise InputError(f"{where}: seed = {entry.seed!r:.80}: expected a whole number from 0 to {LARGEST_SEED}")


def _listed(entry: Entry, model: Model, *, task_kind: str, default_seed: int) -> Listed:
    pipeline = Pipeline(
        task_kind=task_kind,
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
    listed = read_list_of_run(path, setup.space, run_dir=setup.run_dir, search_seed=setup.search.search.seed)
    _check_unchanged(setup.run_dir, listed)
    create_bytes(setup.run_dir.path / LIST, path.read_bytes())
    facts = run_search(replace(setup, is_list=True), partial(ListProposer, listed=listed))
    evaluated = {experience.provenance.trial for experience in facts.experiences}
    left_out = tuple(number for number in range(len(listed)) if number not in evaluated)
    if not left_out:
        return facts
    facts = replace(facts, left_out=left_out)
    report.write_report(facts, setup.run_dir.report_dir)
    return facts


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

    is_search = False

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
        """Return the next pipelines of the list; a pipeline that must fail is part of a design."""
        del known, unfit
        first = len(drawn)
        # The preset's rule is for draws; a listed pipeline is trained as it is written.
        min_steps = self.setup.search.trial.early_stopping_min_steps or 0
        n_trials = trials_left(self.setup.limits(), first, population=SEGMENT)
        numbered = enumerate(self.listed[first : first + n_trials], start=first)
        plans = tuple(
            plan_trial(
                self.setup,
                number,
                profile=self.profile,
                pipeline=listed.pipeline,
                seed=listed.seed,
                early_stopping_min_steps=min_steps,
            )
            for number, listed in numbered
        )
        return NextTrials(plans=plans, rejections={}, is_exhausted=False)
