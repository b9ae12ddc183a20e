"""The search file that ``init`` writes: its text, with a comment where a reader would ask why."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from xautolm_hpc.commands.init_settings import EffortName, SearchSettings
from xautolm_hpc.config.reference import schema_line
from xautolm_hpc.durable import toml_text
from xautolm_hpc.profile.guess import DataGuess
from xautolm_hpc.records import Task

STORE = "experience-store"
SEED = "package:seed"
MAX_LISTED_CLASSES = 8
MAX_STEPS_UP = 2
"""Folders that a relative path goes up at most; one that leads further is written as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSearch:
    """What a new search file is written for.

    Attributes:
        path: The search file.
        name: Name of run and task.
        guess: What the data was found to be.
        hub: Data set of the hub and its commit, or ``None``.
        task: The task, profiled.
        majority_f1: F1 of always giving the same answer, 0..1.
        notes: What was left out of the data or looks wrong.
        profile: Cluster profile, or ``None``.
        effort: How much the search may cost.
        settings: What fits data and machine.
    """

    path: Path
    name: str
    guess: DataGuess
    hub: tuple[str, str] | None
    task: Task
    majority_f1: float | None
    notes: Sequence[str]
    profile: Path | None
    effort: EffortName
    settings: SearchSettings


def search_text(new: NewSearch) -> str:
    """Write a search file.

    Args:
        new: What it is written for.
    """
    sections = (
        _head(new), _data(new), _space(new), _params(new.settings), _search(new), _budget(new), _prior_and_store(),
    )  # fmt: skip
    return "\n".join(line for section in sections for line in (*section, ""))


def describe_rows(new: NewSearch) -> str:
    """Write in one line how the rows are divided, and what must be beaten."""
    task = new.task
    baseline = "" if new.majority_f1 is None else f"; always giving one answer has F1 {new.majority_f1:.2f}"
    return (
        f"{task.n_train:,} rows to train on, {task.n_dev:,} for early stopping, {task.n_validation:,} for validation, "
        f"{task.n_test:,} for the test{baseline}"
    )


def describe_columns(new: NewSearch) -> str:
    """Write in one line which columns are used, and which classes there are."""
    used = ", ".join(f"{setting} = {column}" for setting, column in new.guess.columns.items())
    labels = new.task.labels
    more = f" and {len(labels) - MAX_LISTED_CLASSES} more" if len(labels) > MAX_LISTED_CLASSES else ""
    classes = f"; {len(labels)} classes: {', '.join(labels[:MAX_LISTED_CLASSES])}{more}" if labels else ""
    unused = f"; not used: {', '.join(new.guess.unused)}" if new.guess.unused else ""
    return f"{new.task.kind} with {used}{classes}{unused}"


def unread_texts(guess: DataGuess) -> tuple[str, ...]:
    """Write in one line how to use other columns of text too; nothing where there are none."""
    if not guess.unused_texts:
        return ()
    *first, last = guess.columns["text"], *guess.unused_texts
    several = "both" if len(first) == 1 else "all"
    return (f"one column is read; join {', '.join(first)} and {last} into one to use {several}",)


def describe_budget(new: NewSearch) -> str:
    """Write in one line what the search costs at most."""
    settings = new.settings
    return (
        f"effort {new.effort}: ends after {settings.minutes} minutes or {settings.trials} trials, each of up to "
        f"{settings.time_limit_min:g} min; {len(settings.models)} model{'s' if len(settings.models) > 1 else ''}"
    )


def describe_fetch(settings: SearchSettings) -> str:
    """Write in one line what is to be fetched; empty where all is at hand."""
    if not settings.is_to_fetch:
        return ""
    n_models = len(settings.models)
    return f"to be fetched: {n_models} model{'s' if n_models > 1 else ''}, about {settings.fetch_gb:.1f} GB"


def _head(new: NewSearch) -> Iterator[str]:
    """Write the name, the profile and the task."""
    yield schema_line("search")
    yield f"# Written by `xautolm-hpc init`. `xautolm-hpc run {new.path.name}` runs it; the same command resumes it."
    yield "# `xautolm-hpc schema search --markdown` lists every key."
    yield f"name = {toml_text(new.name)}"
    if new.profile is not None:
        yield f"profile = {toml_text(_relative(new.profile, new.path))}"
    yield ""
    yield "[task]"
    yield f"name = {toml_text(new.name)}"
    yield f"kind = {toml_text(new.task.kind)}"


def _seen(new: NewSearch) -> tuple[str, ...]:
    return (describe_columns(new), *unread_texts(new.guess), describe_rows(new), *new.notes)


def _data(new: NewSearch) -> Iterator[str]:
    """Write where the rows lie, with what was seen of them."""
    yield from (f"# {_comment(line)}" for line in _seen(new))
    yield "[data]"
    if new.hub is None:
        yield f"path = {toml_text(_relative(new.guess.path, new.path))}"
    else:
        yield f"hub = {toml_text(new.hub[0])}"
        yield f"revision = {toml_text(new.hub[1])}"
    for setting, column in new.guess.columns.items():
        yield f"{setting} = {toml_text(column)}"
    if new.guess.delimiter is not None:
        yield f"delimiter = {toml_text('tab' if new.guess.delimiter == chr(9) else new.guess.delimiter)}"
    if new.settings.rows:
        yield "# With all rows not even the smallest model would train in the time of a trial."
    for split, n_rows in new.settings.rows.items():
        yield f"{split}_rows = {n_rows}"


def _space(new: NewSearch) -> Iterator[str]:
    """Write the models and methods, and how to get the models."""
    settings = new.settings
    yield "[space]"
    fetch = f"`xautolm-hpc prefetch {new.path.name}`"
    if settings.is_to_fetch:
        yield f"# None is at hand yet: {fetch} fetches them, on a machine with a network;"
        yield f"# {describe_fetch(settings)}."
    elif settings.larger is not None:
        yield f'# What is at hand. For this GPU set models = "{settings.larger}", then {fetch}.'
    else:
        yield "# What is at hand; `xautolm-hpc models` lists the others."
    yield f"models = {_list(settings.models)}"
    yield f"methods = {_list(tuple(settings.learning_rates))}"


def _params(settings: SearchSettings) -> Iterator[str]:
    """Write the hyperparameters that depend on the data; the others are the preset's."""
    low, high = settings.epochs
    yield "# Lengths hold 19 of 20 texts; epochs give few rows enough steps, and fit into the time of a trial."
    for method, (lowest, highest) in settings.learning_rates.items():
        yield f"[space.params.{method}]"
        yield f"learning_rate = {{ low = {lowest:g}, high = {highest:g}, log = true }}"
        yield f"batch_size = {_list(settings.batch_sizes)}"
        yield "gradient_accumulation_steps = [1]"
        yield f"max_length = {_list(settings.max_lengths)}"
        yield f"epochs = {{ low = {low}, high = {high}, integer = true }}" if low < high else f"epochs = [{high}]"
        yield "early_stopping_patience = [2, 3, 5]"
        yield ""


def _search(new: NewSearch) -> Iterator[str]:
    yield "[search]"
    yield '# ["f1", "evaluation_time_s"] also looks for cheap models: the report then shows the best trade-offs.'
    yield 'objectives = ["f1"]'
    yield f"population = {new.settings.population}  # trials of a generation; then the search learns from them"
    yield "selection = 0.5" if new.effort == "quick" else "selection = 0.2"
    yield "seed = 1"


def _budget(new: NewSearch) -> Iterator[str]:
    """Write the limits of the search, of a trial and of a pipeline."""
    settings = new.settings
    yield f"# {describe_budget(new)[0].upper()}{describe_budget(new)[1:]}."
    yield "[budget]"
    yield f"wall_h = {settings.minutes / 60:.4g}  # {settings.minutes} minutes"
    yield f"trials = {settings.trials}"
    yield ""
    yield "[trial]"
    yield f"time_limit_min = {settings.time_limit_min:g}"
    yield ""
    yield "[constraints]"
    yield f"min_steps = {settings.min_steps}  # optimiser steps after the warm-up; with fewer a new head learns nothing"


def _prior_and_store() -> Iterator[str]:
    yield "# Starts from what past searches learned: yours, and the 1,200 trials that come with this program."
    yield "[prior]"
    yield 'kind = "evidence"'
    yield ""
    yield "[store]"
    yield f"path = {toml_text(STORE)}  # yours: every search adds to it"
    yield f"also_read = {_list((SEED,))}"


def _relative(path: Path, search_path: Path) -> str:
    """Write a path as a search file names it: relative to the file, unless it lies far away."""
    relative = os.path.relpath(path.resolve(), search_path.resolve().parent)
    return relative if Path(relative).parts.count("..") <= MAX_STEPS_UP else str(path.resolve())


def _list(values: Sequence[object]) -> str:
    return "[" + ", ".join(toml_text(value) if isinstance(value, str) else str(value) for value in values) + "]"


def _comment(text: str) -> str:
    """Keep text of the data within its line."""
    return "".join(character if character.isprintable() else " " for character in text)
