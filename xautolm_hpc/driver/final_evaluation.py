"""The final step of a search: the trials that no other beats, or those a person names, meet ``test`` once."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from xautolm_hpc.driver.attempts import objectives_of
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.errors import InputError
from xautolm_hpc.jobdir import COMMAND, TASK, TEST, WEIGHTS, Command, TrialInput, write_members
from xautolm_hpc.pareto import front_indices, oriented
from xautolm_hpc.records import to_json
from xautolm_hpc.run.history import Trial


def chosen_trials(trials: Sequence[Trial], objectives: Sequence[str]) -> list[Trial]:
    """Take the trials that no other beats in every objective.

    Args:
        trials: Trials of a run; those without all objectives are passed over.
        objectives: Names of the objectives.
    """
    known = [(trial, values) for trial in trials if (values := objectives_of(trial, objectives)) is not None]
    points = np.array([[values[name] for name in objectives] for _, values in known], dtype=np.float64)
    fronts = front_indices(oriented(points.reshape(len(known), len(objectives)), objectives))
    return [trial for (trial, _), front in zip(known, fronts, strict=True) if front == 0]


def named_trials(trials: Mapping[int, Trial], numbers: Sequence[int]) -> list[Trial]:
    """Take the trials that a person names.

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


def test_metrics(trials: Sequence[Trial]) -> dict[int, Mapping[str, float]]:
    """Read what trials scored on ``test``: trial number -> metric -> value."""
    found = {trial.number: trial.last.path / TEST for trial in trials}
    return {number: read_json(path) for number, path in found.items() if path.exists()}
