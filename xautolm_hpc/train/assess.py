"""The final step: chosen pipelines that are trained already are evaluated once on ``test``.

One job evaluates them all, so that libraries are imported once. The weights lie in the attempt folders.
"""

import time
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file

from xautolm_hpc.durable import create_json, read_json
from xautolm_hpc.failures import FailureKind, OutcomeStatus
from xautolm_hpc.jobdir import (
    COMMAND,
    MEMBERS,
    OUTCOME,
    PIPELINE,
    TASK,
    TEST,
    WEIGHTS,
    Command,
    TrialInput,
    TrialPlan,
    read_members,
)
from xautolm_hpc.predictions import PREDICTION_FILES, write_predictions
from xautolm_hpc.records import Outcome, from_json, to_json
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.frozen.precision import read_frozen
from xautolm_hpc.train.limit.trial_budget import Progress, TrialBudget
from xautolm_hpc.train.loop import TrainState, evaluate, load_trainable
from xautolm_hpc.train.prepare import AttemptInputs, build_train_state, start_torch
from xautolm_hpc.train.recipe import parse_recipe
from xautolm_hpc.train.stop import StopFlag
from xautolm_hpc.train.worker import Job, attempt_result


def run_final(job: Job, stop: StopFlag) -> int:
    """Evaluate every member of a final step on ``test`` and write ``test.json`` into its folder.

    Args:
        job: The final step's own folder, with ``task.json``, ``command.json`` and ``members.json``.
        stop: Set by a signal.

    Returns:
        0 once everything is written; a member that was tested before is skipped.

    Raises:
        TrialError: Data or a model is missing.
        OSError: A result could not be written.
    """
    started_at = time.time()
    command = from_json(Command, read_json(job.attempt_dir / COMMAND), where=COMMAND)
    trial = from_json(TrialInput, read_json(job.attempt_dir / TASK), where=TASK)
    for member in read_members(job.attempt_dir / MEMBERS):
        if not (member / TEST).exists():
            train_state = load_trained(member, command=command, trial=trial, stop=stop)
            scores = evaluate(train_state, "test")
            metrics = {name: value for name, value in scores.as_metrics().items() if name != "validation_loss"}
            write_predictions(member / PREDICTION_FILES["test"], scores.predictions)  # test.json says it is done
            create_json(member / TEST, {**metrics, "loss": scores.loss})
    outcome = Outcome(status=OutcomeStatus.SUCCEEDED)
    if not (job.attempt_dir / OUTCOME).exists():
        create_json(job.attempt_dir / OUTCOME, to_json(attempt_result(job, outcome, started_at=started_at)))
    return 0


def load_trained(
    attempt_dir: Path, *, command: Command, trial: TrialInput, stop: StopFlag, in_single: bool = False
) -> TrainState:
    """Load a trained pipeline, with its best weights and the rows of ``test``.

    Args:
        attempt_dir: Its attempt folder, with pipeline and weights.
        command: Limits and threads.
        trial: Task and data.
        stop: Set by a signal.
        in_single: Whether it computes in single precision; its frozen weights have the rounded values of training.

    Raises:
        TrialError: Its weights or the files of its model are missing, kind ``data_unavailable``.
    """
    plan = from_json(TrialPlan, read_json(attempt_dir / PIPELINE), where=PIPELINE)
    weights = attempt_dir / WEIGHTS
    if not weights.exists():
        raise TrialError(FailureKind.DATA_UNAVAILABLE, f"`{weights}` is missing: its trial's weights were not kept")
    recipe = parse_recipe(plan.pipeline.method, plan.pipeline.params)
    if in_single:
        recipe = replace(recipe, use_mixed_precision=False)
    inputs = AttemptInputs(
        attempt_dir=attempt_dir,
        command=command,
        trial=trial,
        plan=plan,
        expects_gpu=False,
        trained_as=read_frozen(weights),
    )
    progress = Progress()
    budget = TrialBudget(progress, stop, time_limit_s=command.time_limit_s)
    accelerator = start_torch(inputs, recipe)
    train_state = build_train_state(
        inputs, recipe, accelerator=accelerator, progress=progress, budget=budget, splits=("train", "test")
    )
    load_trainable(train_state.model, load_file(weights))
    return train_state
