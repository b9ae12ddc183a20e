"""``export-model``: write a trial's trained model as a folder that transformers can load."""

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xautolm_hpc.catalogue import Model
from xautolm_hpc.commands.report import read_summary
from xautolm_hpc.commands.status import profile_of
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.errors import InputError, LaunchError, RunFolderError
from xautolm_hpc.failures import OutcomeStatus
from xautolm_hpc.hyperparameters import ADAPTER_METHODS
from xautolm_hpc.jobdir import (
    COMMAND,
    EXPORT,
    PIPELINE,
    PROFILE_RESULT,
    TASK,
    TEST,
    WEIGHTS,
    Command,
    ProfileResult,
    TrialInput,
    TrialPlan,
)
from xautolm_hpc.records import Outcome, Pipeline, from_json, to_json
from xautolm_hpc.report.figure_numbers import all_trials
from xautolm_hpc.run.attempt_end import read_end, read_scores
from xautolm_hpc.run.folder import RunDir, find_run, trial_number
from xautolm_hpc.run.history import History
from xautolm_hpc.run.ledger import read_ledger
from xautolm_hpc.run.overview import best_trial
from xautolm_hpc.task_kinds import COLUMNS
from xautolm_hpc.view import FinishKind


def run(arguments: argparse.Namespace) -> int:
    """Write the folder on this machine, with the Python of the run's worker.

    Raises:
        InputError: The folder is not empty, the trial's weights were not kept, its base model is not there, it has
            no adapters to write alone, nobody said the licence of its base model, or the worker runs in an image.
        LaunchError: The worker failed.
    """
    run_dir = find_run(arguments.run_name, arguments.runs_dir)
    target = Path(arguments.to).resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"--to {arguments.to}: `{target}` exists already and is not empty; give a new folder")
    trial = _best(run_dir) if arguments.trial is None else arguments.trial
    trial_dir = _trial_dir(run_dir, trial)
    plan = from_json(TrialPlan, read_json(trial_dir / PIPELINE), where=PIPELINE)
    if arguments.adapter:
        _check_adapters(plan.pipeline, trial=trial)
    _check_place(plan.model)
    licence = _licence(plan.model, arguments.licence)
    command = from_json(Command, read_json(trial_dir / COMMAND), where=COMMAND)
    python = arguments.python or command.argv[0]
    if arguments.python is None and profile_of(run_dir).container is not None:
        raise InputError("the run's worker is in an image; name a Python that has torch and transformers with --python")
    with tempfile.TemporaryDirectory(dir=run_dir.path, prefix=".export-") as folder:
        step_dir, written = Path(folder), Path(folder) / "model"
        write_json(step_dir / COMMAND, to_json(command))
        trial_input = _trial_input(run_dir)
        write_json(step_dir / TASK, to_json(trial_input))
        facts = {**_facts(run_dir, trial_dir, trial=trial), "licence": licence}
        wanted = {"trial": str(trial_dir), "to": str(written), "facts": facts, "adapter": arguments.adapter}
        wanted["columns"] = _input_columns(run_dir, trial_input.task.kind)
        write_json(step_dir / EXPORT, wanted)
        done = subprocess.run(
            [python, "-m", "xautolm_hpc.train", "export", str(step_dir)],
            env={**arguments.environ, **command.environment},
            check=False,
        )
        if done.returncode:
            raise LaunchError(f"the export of trial {trial} failed with status {done.returncode}; see above")
        target.parent.mkdir(parents=True, exist_ok=True)
        # Contents alone: some writers make files that only their owner may read.
        shutil.copytree(written, target, dirs_exist_ok=True, copy_function=shutil.copyfile)
    print(f"`{target}` holds trial {trial}: weights, tokeniser and model card (README.md)")
    return 0


def _best(run_dir: RunDir) -> int:
    """Return the number of the best trial so far."""
    history = History(run_dir)
    for line in read_ledger(run_dir.ledger_path):
        history.apply(line)
    found = best_trial(history, tuple(read_json(run_dir.run_path)["search"]["search"]["objectives"]))
    if found is None:
        raise InputError(f"no trial of `{run_dir.path}` has succeeded, so there is no best one")
    return found.trial


def _trial_dir(run_dir: RunDir, trial: int) -> Path:
    """Find the attempt folder of a trial whose weights were kept."""
    kept = {trial_number(path): path for path in run_dir.attempt_dirs() if (path / WEIGHTS).exists()}
    if trial not in kept:
        listed = ", ".join(map(str, sorted(kept))) or "none"
        raise InputError(f"trial {trial} of `{run_dir.path}` has no weights; trials whose weights were kept: {listed}")
    return kept[trial]


def _check_place(model: Model) -> None:
    """Check that the folder of the base model is where the trial found it."""
    if model.path and not model.package and not Path(model.path).is_dir():
        raise InputError(
            f"model {model.id!r}: `{model.path}` is not there. If the project was moved, give its `run` command again: "
            "the run then knows where its models are"
        )


def _licence(model: Model, given: str | None) -> str:
    """Return the licence of the base model, which the model card names."""
    licence = given or model.licence
    if not licence:
        raise InputError(
            f"model {model.id!r} has no licence in its [[model]] table, and the model card names it: give --licence, "
            "for instance --licence apache-2.0"
        )
    return licence


def _check_adapters(pipeline: Pipeline, *, trial: int) -> None:
    """Check that a trial has adapters that work beside its base model as it is published."""
    if pipeline.method not in ADAPTER_METHODS:
        raise InputError(
            f"--adapter: trial {trial} is trained with {pipeline.method}, which has no adapters; "
            f"these have: {', '.join(ADAPTER_METHODS)}. Leave --adapter out"
        )
    if pipeline.params.get("init_lora_weights") == "pissa":
        raise InputError(
            f"--adapter: trial {trial} began with init_lora_weights = pissa, which changes the base model's weights: "
            "its adapters do not fit the published ones. Leave --adapter out"
        )


def _trial_input(run_dir: RunDir) -> TrialInput:
    """Read the task and the split of a run from the result of its profile job."""
    paths = [path for folder in run_dir.profile_attempt_dirs() if (path := folder / PROFILE_RESULT).exists()]
    if not paths:
        raise InputError(f"run `{run_dir.path}` was not profiled")
    result = from_json(ProfileResult, read_json(paths[-1]), where=str(paths[-1]))
    return TrialInput(task=result.task, data_dir=str(run_dir.data_dir), sha256=result.sha256)


def _input_columns(run_dir: RunDir, kind: str) -> dict[str, str]:
    """Return the columns that the model reads, by which ``predict`` finds them in rows like those of the run."""
    data = read_json(run_dir.run_path)["search"]["data"]
    return {name: data.get(name, name) for name in COLUMNS[kind]}


def _reported(summary: Mapping[str, Any], trial: int) -> dict[str, Any]:
    """Collect what the report adds to a model card: intervals, the GPU, the grid, and how the trial was found."""
    certainty, counts = summary.get("certainty") or {}, summary["counts"]
    best = summary["best"] is not None and summary["best"]["trial"] == trial
    names = " and ".join(objective["name"] for objective in summary["objectives"])
    prior = summary["prior"]["kind"]
    start = "from a uniform start" if prior == "uniform" else f"with the prior {prior}, which learns from past searches"
    found = f"Models, methods and hyperparameters were searched for {names}, {start} (XAutoLM, arXiv 2508.00924)."
    if summary["run"].get("finish_kind") == FinishKind.LIST_EVALUATED:
        found = "They were given as a list."
    return {
        "intervals": certainty.get("intervals", {}).get(str(trial), {}),
        "co2_g_per_kwh": summary["spent"].get("co2_g_per_kwh"),
        "gpu": next((each["gpu"] for each in all_trials(summary) if each["trial"] == trial), None),
        "search": [
            f"It is {'the best' if best else 'one'} of {counts['trials']:,} trials, of which {counts['succeeded']:,} "
            f"succeeded. {found}"
        ],
    }


def _facts(run_dir: RunDir, trial_dir: Path, *, trial: int) -> dict[str, Any]:
    """Collect the results that the model card states."""
    end = read_end(trial_dir)
    outcome = end.outcome if end else Outcome(status=OutcomeStatus.FAILED)
    try:
        reported = _reported(read_summary(run_dir), trial)
    except (RunFolderError, LookupError, TypeError, AttributeError):  # it can be written again; a model does without it
        reported = {}
    return {
        **reported,
        "hub_data": read_json(run_dir.run_path)["search"]["data"].get("hub"),
        "run": run_dir.path.name,
        "trial": trial,
        "metrics": dict(outcome.metrics),
        "epochs_done": outcome.epochs_done if outcome.truncated else None,
        "test": read_scores(trial_dir / TEST),
        "time_s": outcome.evaluation_time_s,
        "energy_j": outcome.gpu_energy_j,
    }
