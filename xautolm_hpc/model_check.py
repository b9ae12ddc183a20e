"""What is asked of the worker about the models of a search, and what it answers: whether their files fit together.

The folder that is handed over holds ``models.json``; the worker's command ``check-model`` prints its findings. Whoever
asks needs no torch: the profile job, and ``prefetch`` where the worker's interpreter starts.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xautolm_hpc.catalogue import Model, can_learn
from xautolm_hpc.errors import InputError, XAutoLMError
from xautolm_hpc.execution import DeviceSpeed, ModelCosts
from xautolm_hpc.records import from_json

MODELS = "models.json"
TIMEOUT_S = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCheckRequest:
    """``models.json``: the models to check.

    Attributes:
        task_kind: Kind of task that they are to learn; it decides the head.
        models: The models.
        hf_home: Offline cache of hub models, or ``None``.
    """

    task_kind: str
    models: tuple[Model, ...]
    hf_home: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFinding:
    """What was found about one model.

    Attributes:
        model: Its id.
        kind: Failure kind that its trials would end with; ``None`` if its files fit together.
        reason: Why; ``None`` if they fit.
        notes: How its files are read otherwise than by their names.
        attention: How the worker's transformers computes its attention: ``sdpa``, ``eager``; ``None`` if unknown.
        costs: What its steps cost, measured where there is a GPU to train on and the catalogue does not have it.
    """

    model: str
    kind: str | None = None
    reason: str | None = None
    notes: tuple[str, ...] = ()
    attention: str | None = None
    costs: ModelCosts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerAnswer:
    """What the worker found out.

    Attributes:
        findings: What was found about each model.
        speed: Speed of the node's GPU; ``None`` without one.
    """

    findings: tuple[ModelFinding, ...]
    speed: DeviceSpeed | None = None


class NotCheckedError(XAutoLMError):
    """The worker's interpreter could not check the models here."""


def request_check(task_kind: str, models: Sequence[Model], *, hf_home: str | None) -> ModelCheckRequest:
    """Build the request for the models of a space that can learn a kind of task at all."""
    able = [model for model in models if can_learn(model, task_kind)]
    return ModelCheckRequest(task_kind=task_kind, models=tuple(able), hf_home=hf_home)


def ask_worker(worker: Sequence[str], folder: Path, *, environ: Mapping[str, str] | None = None) -> WorkerAnswer:
    """Run ``check-model`` in a process of its own.

    Args:
        worker: Program and arguments that start the worker's Python.
        folder: Holds ``models.json``.
        environ: Environment variables of the process; ``None`` for those of this one.

    Raises:
        NotCheckedError: The interpreter does not start, lacks torch, or fails; the message has its last words.
    """
    argv = [*worker, "-m", "xautolm_hpc.train", "check-model", str(folder)]
    try:
        ended = subprocess.run(
            argv,
            env=None if environ is None else dict(environ),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotCheckedError(f"`{worker[0]}` did not check the models: {error}") from error
    if ended.returncode:
        words = (ended.stderr.strip().splitlines() or ["without a message"])[-1]
        raise NotCheckedError(f"`{worker[0]}` did not check the models: status {ended.returncode}: {words}")
    try:
        return from_json(WorkerAnswer, json.loads(ended.stdout), where="check-model")
    except (ValueError, InputError) as error:
        raise NotCheckedError(f"`{worker[0]}` did not check the models: what it printed is no finding") from error


def refuse_unfit(findings: Sequence[ModelFinding]) -> None:
    """Refuse models whose files do not fit together.

    Raises:
        InputError: There are some; the message names each with its reason.
    """
    reasons = [finding.reason for finding in findings if finding.reason is not None]
    if reasons:
        raise InputError("\n".join(reasons))
