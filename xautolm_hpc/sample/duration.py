"""Time of a trial, estimated from its arithmetic and the hardware, and the calibration of that by past trials."""

from collections.abc import Mapping

import numpy as np

from xautolm_hpc.catalogue import Model
from xautolm_hpc.hyperparameters import default_of, rules_of
from xautolm_hpc.records import TIME_SCOPE, Pipeline, System, Task, Value
from xautolm_hpc.sample.estimates import block_width, n_train_rows, n_trained_blocks, tokens_per_sample
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

MIN_RATIOS, MAX_RATIOS, LOW_QUANTILE = 8, 2_000, 0.25
"""Past trials that a calibration needs, those it takes at most, and the quantile of their ratios."""


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
    forward, backward = _operations_per_token(pipeline, model, length=n_tokens)
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


def measure_time_calibration(table: ExperienceTable, space: Space, *, system: System) -> float | None:
    """Compute how many times longer than estimated past trials took on nodes like this one.

    Trials that stopped early count as if they had taken all their epochs, and the lower quartile of the ratios is
    returned: the calibration must not reject pipelines that would have ended in time.

    Args:
        table: Past experiences.
        space: The search space; experiences with other models are left out.
        system: The node of this search; its GPU, or its number of cores, must be that of an experience.

    Returns:
        A factor for :func:`seconds_needed`; ``None`` with fewer than 8 successes to go by.
    """
    alike = [_is_alike(system, other) for other in table.systems]
    time_s = table.objectives["evaluation_time_s"]
    scope = np.array([text == TIME_SCOPE for text in table.texts], dtype=np.bool_)
    is_usable = table.succeeded & np.isfinite(time_s) & np.array(alike, dtype=np.bool_)[table.system]
    is_usable &= scope[table.time_scope]
    ratios = []
    for row in np.flatnonzero(is_usable)[:MAX_RATIOS]:
        model = space.model(table.models[table.model[row]][0])
        if model is None:
            continue
        task, node = table.tasks[table.task[row]], table.systems[table.system[row]]
        pipeline = _pipeline_of(table, int(row))
        if not _is_trainable(pipeline):
            continue
        estimate_s = seconds_needed(pipeline, model, task=task, system=node, may_stop=False)
        if estimate_s > 0:
            ratios.append(float(time_s[row]) / estimate_s)
    return float(np.quantile(ratios, LOW_QUANTILE)) if len(ratios) >= MIN_RATIOS else None


def _operations_per_token(pipeline: Pipeline, model: Model, *, length: float) -> tuple[float, float]:
    """Count the operations of a token forward and backward; attention grows with the length of the text."""
    weights = _compute_weights(model)
    attention = 4 * length * block_width(model) * model.n_layers
    forward = 2 * weights + attention
    share = n_trained_blocks(pipeline, model) / model.n_layers
    backward = {
        "full": 4 * weights + 2 * attention,
        "partial": share * (4 * weights + 2 * attention),
        "head": 0.0,
    }.get(pipeline.method, 2 * weights + 2 * attention)
    return forward, backward


def _compute_weights(model: Model) -> float:
    """Compute the weights that a token is multiplied by: all but the embeddings; a shared block counts each time."""
    stored = model.n_parameters - model.vocab_size * model.hidden_size
    return max(stored, 12 * model.hidden_size**2 * model.n_layers)


def _is_alike(system: System, other: System) -> bool:
    if system.n_gpus == 0:
        return other.n_gpus == 0 and other.n_cpu_cores == system.n_cpu_cores
    return system.gpu_name is not None and (other.gpu_name, other.n_gpus) == (system.gpu_name, system.n_gpus)


def _pipeline_of(table: ExperienceTable, row: int) -> Pipeline:
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


def _is_trainable(pipeline: Pipeline) -> bool:
    """Check that no hyperparameter has a value that a worker refuses: a record of elsewhere may say anything."""
    rules = rules_of(pipeline.method)
    return all(rules[name].accepts(value) for name, value in pipeline.params.items() if name in rules)
