"""The final step of a search: the trials that no other beats, or those a person names, meet ``test`` once."""

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

import numpy as np

from xautolm_hpc.driver.attempts import AttemptTemplate, objectives_of
from xautolm_hpc.driver.display import Display
from xautolm_hpc.driver.jobs import Jobs
from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.durable import set_aside, write_json
from xautolm_hpc.errors import InputError
from xautolm_hpc.jobdir import COMMAND, TASK, TEST, WEIGHTS, Command, TrialInput, write_members
from xautolm_hpc.pareto import front_indices, oriented
from xautolm_hpc.records import to_json
from xautolm_hpc.run.attempt_end import read_end, read_scores
from xautolm_hpc.run.history import Trial
from xautolm_hpc.view import Phase


def test_trials(
    setup: Setup, jobs: Jobs, *, template: AttemptTemplate, trials: Mapping[int, Trial], display: Display
) -> None:
    """Evaluate the Pareto set, or the trials a person named, in one job; a job that fails is logged, not repeated.

    Args:
        setup: What the search is run with.
        jobs: Runs the job.
        template: What all attempts of the run have in common.
        trials: Trial number -> trial of the run.
        display: Shows the run.

    Raises:
        InputError: A named trial has no weights to evaluate.
    """
    chosen = pareto_trials(setup, trials) if setup.final is None else named_trials(trials, setup.final)
    for path in (trial.last.path / TEST for trial in chosen):
        if path.exists() and read_scores(path) is None:
            setup.watcher.log(f"`{path}` is damaged; it is set aside, and written again if the weights are there")
            set_aside(path)
    members = untested(chosen)
    if not members:
        return
    display.enter(Phase.TEST)
    paths = map(setup.run_dir.final_attempt_dir, count())
    number, path = next((n, path) for n, path in enumerate(paths) if read_end(path) is None)
    command = setup.command("xautolm_hpc.train", "final")
    write_final(path, members, command=command, trial_input=template.trial_input)
    outcome = jobs.run_single(path, setup.resources(), name=f"final-{number}").outcome
    if not outcome.succeeded:
        setup.watcher.log(f"the evaluation on test failed with {outcome.kind}; see `{path}/stderr`")


def kept_trials(setup: Setup, trials: Mapping[int, Trial]) -> list[Trial]:
    """List the trials whose weights stay: the Pareto set, and those a person named."""
    named = [trial for number, trial in trials.items() if number in (setup.final or ())]
    return [*pareto_trials(setup, trials), *named]


def pareto_trials(setup: Setup, trials: Mapping[int, Trial]) -> list[Trial]:
    """List the trials that no other beats in every objective of the search."""
    return chosen_trials(list(trials.values()), setup.search.search.objectives)


def chosen_trials(trials: Sequence[Trial], objectives: Sequence[str]) -> list[Trial]:
    """Select the trials that no other beats in every objective.

    Args:
        trials: Trials of a run; those without all objectives are passed over.
        objectives: Names of the objectives.
    """
    known = [(trial, values) for trial in trials if (values := objectives_of(trial.last.outcome, objectives))]
    points = np.array([[values[name] for name in objectives] for _, values in known], dtype=np.float64)
    fronts = front_indices(oriented(points.reshape(len(known), len(objectives)), objectives))
    return [trial for (trial, _), front in zip(known, fronts, strict=True) if front == 0]


def named_trials(trials: Mapping[int, Trial], numbers: Sequence[int]) -> list[Trial]:
    """Select the trials that a person names.

    Args:
        trials: Trial number -> trial of the run.
        numbers: Numbers of those to take.

    Raises:
        InputError: One of them has no weights to evaluate: it failed, was never run, or others beat it and its
            weights went with its generation.
    """
    able = {number: trial for number, trial in trials.items() if (trial.last.path / WEIGHTS).exists()}
    for number in numbers:
        if number not in able:
            listed = ", ".join(map(str, sorted(able))) or "none"
            raise InputError(
                f"trial {number} has no weights to evaluate on test. Kept are those of the Pareto set, and of trials "
                f"named with --final before they ran; here: {listed}"
            )
    return [able[number] for number in numbers]


def untested(trials: Sequence[Trial]) -> list[Path]:
    """List the attempt folders of trials whose weights were kept and that were not evaluated on ``test`` yet."""
    paths = [trial.last.path for trial in trials]
    return [path for path in paths if (path / WEIGHTS).exists() and not (path / TEST).exists()]


def write_final(path: Path, members: Sequence[Path], *, command: Command, trial_input: TrialInput) -> None:
    """Write the folder of a final step.

    Args:
        path: The folder; made if absent.
        members: Attempt folders of the trials to evaluate.
        command: What the job runs.
        trial_input: Task and data.
    """
    write_members(path, members)
    write_json(path / TASK, to_json(trial_input))
    write_json(path / COMMAND, to_json(command))
