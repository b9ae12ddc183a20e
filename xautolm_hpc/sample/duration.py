"""Time of a trial, estimated from its arithmetic and the hardware, and the calibration of that by past trials."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from xautolm_hpc.catalogue import Model
from xautolm_hpc.execution import AS_DRAWN, DeviceSpeed, Execution, StepMode
from xautolm_hpc.failures import FAILURE_KINDS, FailureKind, OutcomeStatus
from xautolm_hpc.hyperparameters import default_of, rules_of
from xautolm_hpc.records import TIME_SCOPE, Outcome, Pipeline, System, Task, Value
from xautolm_hpc.sample.estimates import n_train_rows, tokens_per_sample
from xautolm_hpc.sample.memory_need import NOTHING, StepFacts
from xautolm_hpc.sample.operations import operations_per_token
from xautolm_hpc.sample.step_time import least_epochs, step_seconds, trial_seconds
from xautolm_hpc.space import Space
from xautolm_hpc.table import BOOL, INT, TEXT, ExperienceTable

GPU_TFLOPS: Mapping[float, tuple[float, float]] = {
    6.0: (21, 10.6), 6.1: (13, 13), 7.0: (125, 15.7), 7.2: (30, 2), 7.5: (130, 16), 8.0: (312, 19.5),
    8.6: (160, 40), 8.7: (140, 5), 8.9: (362, 91), 9.0: (990, 67), 10.0: (2250, 80), 10.3: (2500, 80),
    12.0: (500, 126), 12.1: (250, 31),
}  # fmt: skip
"""Compute capability -> half- and single-precision teraflop/s, dense, of the fastest GPU that has it."""

UTILISATION_HALF, UTILISATION_SINGLE = 0.35, 0.6
"""Share of a GPU's peak that is assumed, in half and single precision: more than fine-tuning reaches."""

CPU_FLOPS_PER_CORE = 1e11
BLOCK_LAUNCH_S = 1e-4
"""Seconds a GPU's host takes to start the kernels of one block, forward; the backward pass takes twice that."""

MIN_RATIOS, MAX_RATIOS = 8, 2_000
"""Past trials that a calibration of the general estimate needs, and those it takes at most."""

FIRST_WEIGHT = 3
"""Past trials that an estimate by a measured speed counts for, when others correct it."""


def seconds_needed(pipeline: Pipeline, model: Model, *, task: Task, system: System, may_stop: bool = True) -> float:
    """Estimate the seconds of training and evaluation, the hardware at its best.

    A step takes the time of its arithmetic, or that of starting its kernels if that is longer. For each weight and
    token the arithmetic is two operations forward, two for the gradient of the input, two for that of the weight.

    Args:
        pipeline: The pipeline.
        model: Its model.
        task: Its number of rows and length of texts.
        system: The node; its throughput is unknown for a GPU newer than this program.
        may_stop: Whether training ends as early as early stopping allows; else it takes all its epochs.

    Returns:
        Seconds, 0 where the hardware is unknown.
    """
    rate = throughput_flops_per_s(system, is_half=pipeline.params.get("use_mixed_precision", True) is True)
    if rate is None:
        return 0.0
    params, n_tokens = pipeline.params, tokens_per_sample(pipeline, task, quantile=0)
    batch = int(params.get("batch_size", 1)) * n_tokens
    forward, backward = operations_per_token(pipeline, model, length=n_tokens)
    launch_s = 0.0 if system.n_gpus == 0 else BLOCK_LAUNCH_S * model.n_layers
    back_share = backward / (2 * forward)
    train_step_s = max(batch * (forward + backward) / rate, launch_s * (1 + 2 * back_share))
    eval_step_s = max(batch * forward / rate, launch_s)
    epochs = int(params.get("epochs", 1))
    if may_stop:
        epochs = min(epochs, 1 + int(params.get("early_stopping_patience", default_of("early_stopping_patience"))))
    per_row = max(int(params.get("batch_size", 1)), 1)
    n_evaluated = epochs * task.n_dev + task.n_validation
    return (epochs * n_train_rows(pipeline, task) * train_step_s + n_evaluated * eval_step_s) / per_row


def throughput_flops_per_s(system: System, *, is_half: bool) -> float | None:
    """Compute a node's arithmetic throughput at its best, in operations a second; ``None`` where it is unknown.

    Args:
        system: The node.
        is_half: Whether a GPU computes in half precision.
    """
    if system.n_gpus == 0:
        return None if system.n_cpu_cores is None else system.n_cpu_cores * CPU_FLOPS_PER_CORE
    tflops = GPU_TFLOPS.get(system.gpu_capability or 0.0)
    if tflops is None:
        return None
    half, single = tflops[0] * UTILISATION_HALF, tflops[1] * UTILISATION_SINGLE
    return (system.n_gpus or 1) * (max(half, single) if is_half else single) * 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeKnowledge:
    """What is known of the time where trials run.

    Attributes:
        system: The node, with the GPUs of the whole job; its throughput is unknown for a GPU newer than this program.
        speed: Speed of its GPU, or ``None`` where nobody has measured it.
        measured: What steps cost there, and how they are computed.
    """

    system: System
    speed: DeviceSpeed | None = None
    measured: StepFacts = NOTHING

    def seconds(
        self, pipeline: Pipeline, model: Model, *, task: Task, epochs: float, execution: Execution = AS_DRAWN
    ) -> float:
        """Estimate the seconds of training so many epochs, and of all evaluations.

        Args:
            pipeline: The pipeline.
            model: Its model.
            task: Its number of rows and length of texts.
            epochs: Epochs that are trained.
            execution: How its steps are computed.

        Returns:
            Seconds, 0 where the hardware is unknown.
        """
        parts = None
        if self.speed is not None and self.system.n_gpus == 1:
            parts = step_seconds(
                pipeline, model, task=task, speed=self.speed, measured=self.measured, execution=execution
            )
        if parts is not None:
            return trial_seconds(parts, pipeline, task=task, epochs=epochs)
        planned = max(int(pipeline.params.get("epochs", 1)), 1)
        whole_s = seconds_needed(pipeline, model, task=task, system=self.system, may_stop=False)
        return whole_s * epochs / planned


def measure_time_calibration(
    table: ExperienceTable, space: Space, *, system: System, knowledge: TimeKnowledge | None = None
) -> float | None:
    """Compute how many times longer than estimated past trials took on nodes like this one: the median.

    Trials whose time ended, and those left before their end, took at least as long as they did: they count as such
    (Kaplan and Meier's estimate of the median). Times are compared within one way to compute steps alone.

    Args:
        table: Past experiences.
        space: The search space; experiences with other models are left out.
        system: The node of this search; its GPU, or its number of cores, must be that of an experience.
        knowledge: What the estimates are made of; ``None`` for the node alone.

    Returns:
        A factor for the estimates; ``None`` with too few experiences to go by: with a measured speed one is enough.

    Source:
        Kaplan and Meier 1958, "Nonparametric estimation from incomplete observations".
    """
    known = knowledge or TimeKnowledge(system=system)
    alike = np.array([is_alike(system, other) for other in table.systems], dtype=np.bool_)
    time_s = table.objectives["evaluation_time_s"]
    scope = np.array([text == TIME_SCOPE for text in table.texts], dtype=np.bool_)
    is_cut = table.stopped | (table.kind == FAILURE_KINDS.index("time_limit"))
    is_usable = (table.succeeded | is_cut) & np.isfinite(time_s) & alike[table.system] & scope[table.time_scope]
    is_usable &= table.captured == (known.measured.step is StepMode.GRAPH)
    ratios, is_whole = [], []
    for row in np.flatnonzero(is_usable)[:MAX_RATIOS]:
        ratio = _ratio(table, int(row), space=space, known=known)
        if ratio is not None:
            ratios.append(ratio)
            is_whole.append(not is_cut[row])
    if known.speed is None:
        return _median(ratios, is_whole) if sum(is_whole) >= MIN_RATIOS else None
    if not any(is_whole):
        return None
    median = _median(ratios, is_whole)
    return float(median ** (len(ratios) / (len(ratios) + FIRST_WEIGHT)))


def _ratio(table: ExperienceTable, row: int, *, space: Space, known: TimeKnowledge) -> float | None:
    """Compute how many times longer than estimated a trial took; ``None`` where there is no estimate of it.

    Where the epochs that were done are unknown, they are between the least that early stopping allows and all.
    """
    model = space.model(table.models[table.model[row]][0])
    pipeline = pipeline_of(table, row)
    if model is None or not is_trainable(pipeline):
        return None
    done = float(table.epochs_done[row])
    planned = int(pipeline.params.get("epochs", 1))
    if not np.isfinite(done):
        done = planned if table.truncated[row] else float(np.sqrt(planned * least_epochs(pipeline)))
    node = replace(known, system=table.systems[table.system[row]])
    estimate_s = node.seconds(pipeline, model, task=table.tasks[table.task[row]], epochs=done)
    return float(table.objectives["evaluation_time_s"][row]) / estimate_s if estimate_s > 0 else None


def recalibrate_time(
    first: float,
    results: Iterable[tuple[Pipeline, Outcome]],
    *,
    space: Space,
    task: Task,
    knowledge: TimeKnowledge,
) -> float:
    """Update a time calibration by the trials of a search, as :func:`measure_time_calibration` does by past ones.

    Args:
        first: The calibration that the search began with, which counts for :data:`FIRST_WEIGHT` trials.
        results: Pipelines and outcomes of its trials.
        space: The search space.
        task: The task.
        knowledge: What the estimates are made of.

    Returns:
        A factor for the estimates; ``first`` while no trial says more.
    """
    ratios, is_whole = [], []
    for pipeline, outcome in results:
        ratio = _own_ratio(pipeline, outcome, space=space, task=task, known=knowledge)
        if ratio is not None:
            ratios.append(ratio)
            is_whole.append(outcome.succeeded)
    if not any(is_whole):
        return first
    n = len(ratios)
    return float(first ** (FIRST_WEIGHT / (n + FIRST_WEIGHT)) * _median(ratios, is_whole) ** (n / (n + FIRST_WEIGHT)))


def _own_ratio(pipeline: Pipeline, outcome: Outcome, *, space: Space, task: Task, known: TimeKnowledge) -> float | None:
    """Compute how many times longer than estimated a trial took; ``None`` where that cannot be compared."""
    model, took_s, done = space.model(pipeline.model_id), outcome.evaluation_time_s, outcome.epochs_done
    is_cut = outcome.status == OutcomeStatus.STOPPED or outcome.kind == FailureKind.TIME_LIMIT
    is_captured = known.measured.step is StepMode.GRAPH
    if model is None or not took_s or not done or not (outcome.succeeded or is_cut):
        return None
    if outcome.time_scope != TIME_SCOPE or (outcome.step == StepMode.GRAPH) != is_captured:
        return None
    estimate_s = known.seconds(pipeline, model, task=task, epochs=done)
    return took_s / estimate_s if estimate_s > 0 else None


def _median(ratios: Sequence[float], is_whole: Sequence[bool]) -> float:
    """Estimate the median of ratios, some of which are only known to be larger than what they are."""
    order = sorted(zip(ratios, is_whole, strict=True))
    surviving, n_left = 1.0, len(order)
    for place, (ratio, whole) in enumerate(order):
        if whole:
            surviving *= 1 - 1 / n_left
            if surviving < HALF_OF_ALL:
                return ratio
            if surviving == HALF_OF_ALL:
                following = order[place + 1][0]
                return float(np.sqrt(ratio * following))
        n_left -= 1
    return order[-1][0]


HALF_OF_ALL = 0.5


def is_alike(system: System, other: System) -> bool:
    """Check whether trials take as long on two nodes: the same GPUs, or as many cores."""
    if system.n_gpus == 0:
        return other.n_gpus == 0 and other.n_cpu_cores == system.n_cpu_cores
    return system.gpu_name is not None and (other.gpu_name, other.n_gpus) == (system.gpu_name, system.n_gpus)


def pipeline_of(table: ExperienceTable, row: int) -> Pipeline:
    """Build the pipeline of one experience."""
    params: dict[str, Value] = {}
    for name, column in table.params.items():
        code, number = column.type_code[row], column.number[row]
        if code == TEXT:
            params[name] = table.texts[column.text[row]]
        elif code in (BOOL, INT):
            params[name] = bool(number) if code == BOOL else int(number)
        elif np.isfinite(number):
            params[name] = float(number)
    model_id, revision = table.models[table.model[row]]
    kind, method = table.tasks[table.task[row]].kind, table.methods[table.method[row]]
    return Pipeline(task_kind=kind, model_id=model_id, model_revision=revision, method=method, params=params)


def is_trainable(pipeline: Pipeline) -> bool:
    """Check that no hyperparameter has a value that a worker refuses: a record of elsewhere may say anything."""
    rules = rules_of(pipeline.method)
    return all(rules[name].accepts(value) for name, value in pipeline.params.items() if name in rules)
