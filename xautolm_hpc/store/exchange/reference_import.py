"""Imports the reference records as experiences, with our names of models, methods, parameters and failure kinds."""

import hashlib
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from xautolm_hpc.catalogue import load_catalogue
from xautolm_hpc.errors import InputError, quoted
from xautolm_hpc.failures import FailureKind, OutcomeStatus, TextSource, kind_of_text
from xautolm_hpc.records import Experience, Outcome, Pipeline, Provenance, System, Task, Value, canonical_json
from xautolm_hpc.redact import cut_message
from xautolm_hpc.store.exchange.reference_files import ReferenceTrial, read_folder
from xautolm_hpc.store.ranges import check_experiences
from xautolm_hpc.store.store import ExperienceStore
from xautolm_hpc.table import REFERENCE_SCOPE

SITE = "xautolm"
TIME_SCOPE = f"{REFERENCE_SCOPE}load+train+validate of one split, median over splits"
UNKNOWN = "unknown"
"""Value of a parameter that was drawn but not recorded: the trial had a value, and it is unknown."""

NAMESPACE = uuid.UUID("7a1c3c52-6f5e-4d0c-8a41-2f0f5b7d9e11")
RUN_EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
TRIALS_A_SECOND = 8
TRAIN_SHARE = 0.7
GIB = 1024**3
TASKS = ("liar", "sst2", "meld", "ag_news", "squad", "drop")
PERCENT_TASKS = ("squad",)
KINDS_OF_TASK = {10: "text-classification", 11: "text-generation"}
SCHEMAS = {10: "xautolm-text-classification/1", 11: "xautolm-text-to-text/1"}
METHODS = {"FineTune": "full", "PartialFineTune": "partial", "Lora": "lora"}
CLASS_NAME = re.compile(r"(FineTune|PartialFineTune|Lora)(LLMEmbeddingClassifier|GenLLMClassifier|GenLLMTask)")
FLOATS = ("weight_decay", "learning_rate", "dropout_rate", "lora_dropout", "gradient_clipping_max_norm")
LOST = {"text-generation": ("optimizer", "use_gradient_clipping")}
GPU_CAPACITY = re.compile(r"has a total capacity of ([0-9]{1,6}(?:\.[0-9]{1,6})?) GiB")
OTHER_MODELS = ("mistralai/Mistral-Nemo-Instruct-FP8-2407",)
"""Models of the released records that the catalogue does not have: weights of 8 bits are not fine-tuned."""


@dataclass(slots=True)
class ReferenceImport:
    """Result of an import.

    Attributes:
        n_files: Files that were read.
        n_joined: Records that were the second one of a trial.
        n_trials: Trials found.
        n_new: Experiences the store did not have.
        by_task: Task -> status -> trials.
        by_kind: Failure kind -> trials.
        unknown_models: The reference code's model names that are not known; kept as they are.
        refused: Reason -> files, relative to the folder.
    """

    n_files: int
    n_joined: int
    n_trials: int = 0
    n_new: int = 0
    by_task: dict[str, dict[str, int]] = field(default_factory=dict)
    by_kind: dict[str, int] = field(default_factory=dict)
    unknown_models: tuple[str, ...] = ()
    refused: dict[str, list[str]] = field(default_factory=dict)


def import_xautolm(folder: Path, into: ExperienceStore, *, site: str = SITE) -> ReferenceImport:
    """Commit the experiences that XAutoLM's authors released; importing again changes nothing.

    Args:
        folder: Their experience store, ``ALIAS/DATE/TIME-UUID.json``.
        into: Store to grow.
        site: Site that the experiences are stored under.

    Raises:
        InputError: The folder does not exist, or holds no JSON file.
        StoreError: The store could not be written.
    """
    found = read_folder(folder)
    refused = dict(found.refused)
    known = []
    for trial in found.trials:
        if CLASS_NAME.fullmatch(trial.method_class):
            known.append(trial)
        else:
            refused.setdefault(f"class {quoted(trial.method_class)} fine-tunes nothing", []).append(trial.file)
    records = []
    for trial, e in zip(known, experiences_of(known, site=site), strict=True):
        try:
            check_experiences([e], where="as an experience")
            records.append(e)
        except InputError as error:
            refused.setdefault(str(error), []).append(trial.file)
    done = ReferenceImport(n_files=found.n_files, n_joined=found.n_joined, n_trials=len(records), refused=refused)
    for e in records:
        counts = done.by_task.setdefault(e.task.name, dict.fromkeys((OutcomeStatus.SUCCEEDED, OutcomeStatus.FAILED), 0))
        counts[e.outcome.status] += 1
    done.by_kind = dict(Counter(e.outcome.kind for e in records if e.outcome.kind is not None).most_common())
    keys = {t.model_key for t in known}
    done.unknown_models = tuple(sorted({e.pipeline.model_id for e in records} & keys))
    done.n_new = into.append(records, is_own=False).n_new
    return done


def experiences_of(trials: Sequence[ReferenceTrial], *, site: str = SITE) -> list[Experience]:
    """Convert trials of known classes to experiences, in their order."""
    memory_bytes = _gpu_memory_bytes(trials)
    numbers = _trial_numbers(trials)
    return [
        Experience(
            task=_task(trial),
            system=_system(trial, site=site, gpu_memory_bytes=memory_bytes.get(trial.system_features)),
            pipeline=_pipeline(trial),
            outcome=_outcome(trial),
            provenance=_provenance(trial, number, site=site),
        )
        for trial, number in zip(trials, numbers, strict=True)
    ]


def kind_of_error(text: str | None) -> FailureKind:
    """Return the failure kind that an error text names; ``error`` for a lost or unknown text."""
    return kind_of_text(text or "", TextSource.REFERENCE) or FailureKind.ERROR


def task_name(alias: str) -> str:
    """Find the task in an alias: ``squad`` in ``squad_warmstart (a-pos f-neg)``."""
    for name in TASKS:
        if re.match(rf"{name}(?![A-Za-z0-9])", alias):
            return name
    return re.sub(r"_?(warmstart|baseline|knn|seed).*", "", alias).strip() or alias


def model_id(key: str) -> str:
    """Find our id of a model that the reference code names ``TEXT_GEN_...`` or ``WORD_EMB_...``; else return that."""
    bare = re.sub(r"^(TEXT_GEN|WORD_EMB)_", "", key)
    return _ids_by_key().get(_simple(bare), key)


@lru_cache(maxsize=1)
def _ids_by_key() -> Mapping[str, str]:
    return {_simple(one): one for one in (*OTHER_MODELS, *load_catalogue())}


def _simple(name: str) -> str:
    """Simplify a name as the reference code does: no dots, other special characters as underscores, lower case."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower().replace(".", ""))


def _gpu_memory_bytes(trials: Iterable[ReferenceTrial]) -> dict[tuple[float, ...], int]:
    """Find the GPU memory of each machine, which only the texts of out-of-memory errors contain."""
    found = {
        t.system_features: GPU_CAPACITY.search(t.error) for t in trials if t.error and GPU_CAPACITY.search(t.error)
    }
    return {machine: int(float(match[1]) * GIB) for machine, match in found.items() if match}


def _trial_numbers(trials: Sequence[ReferenceTrial]) -> list[int]:
    """Number trials by the second of their end, independent of which part of a run is imported."""
    ranks: Counter[tuple[str, datetime]] = Counter()
    numbers = []
    for trial in trials:  # sorted, so that the order within one second is fixed
        rank = ranks[trial.alias, trial.ended_at]
        ranks[trial.alias, trial.ended_at] += 1
        seconds = int((trial.ended_at - RUN_EPOCH).total_seconds())
        numbers.append(seconds * TRIALS_A_SECOND + rank)
    return numbers


def _task(trial: ReferenceTrial) -> Task:
    """Build the task; of its rows only the number is recorded, and the reference code trained on 70 % of them."""
    name, n_features = task_name(trial.alias), len(trial.features)
    n_rows = round(trial.features[0])
    n_train = round(n_rows * TRAIN_SHARE)
    content = canonical_json(["xautolm", name, list(trial.features)])
    return Task(
        name=name,
        kind=KINDS_OF_TASK[n_features],
        dataset_id=hashlib.sha256(content.encode()).hexdigest()[:32],
        fingerprint=hashlib.sha256(f"split of {content}".encode()).hexdigest()[:32],
        metric="macro-f1" if n_features == 10 else f"{name}-f1",
        n_train=n_train,
        n_dev=0,
        n_validation=n_rows - n_train,
        n_test=0,
        labels=(),
        feature_schema=SCHEMAS[n_features],
        features=trial.features,
        semantic=trial.semantic,
    )


def _system(trial: ReferenceTrial, *, site: str, gpu_memory_bytes: int | None) -> System:
    n_cores, _, _, ram_gib, _ = trial.system_features
    return System(
        site=site,
        cluster=f"xautolm-{n_cores:g}-cores",
        n_cpu_cores=int(n_cores),
        ram_bytes=int(ram_gib * GIB),
        n_gpus=1,  # every published search ran on one GPU
        gpu_memory_bytes=gpu_memory_bytes,
    )


def _pipeline(trial: ReferenceTrial) -> Pipeline:
    """Build the pipeline with the names of the preset ``xautolm``."""
    named = CLASS_NAME.fullmatch(trial.method_class)
    method = METHODS[named[1]] if named else trial.method_class
    kind = KINDS_OF_TASK[len(trial.features)]
    params: dict[str, Value] = {
        name: float(value) if name in FLOATS and type(value) is int else value for name, value in trial.params.items()
    }
    if method == "lora":
        params.setdefault("init_lora_weights", "none")  # the reference code does not write a value of None
    for name in LOST.get(kind, ()):
        params.setdefault(name, UNKNOWN)
    return Pipeline(
        task_kind=kind, model_id=model_id(trial.model_key), model_revision=None, method=method, params=params
    )


def _outcome(trial: ReferenceTrial) -> Outcome:
    """Build the outcome: F1 and exact match are converted from percent to 0..1, a failure is classified by its text."""
    if trial.failed:
        kind, message = kind_of_error(trial.error), None if trial.error is None else cut_message(trial.error)
        return Outcome(
            status=OutcomeStatus.FAILED, kind=kind, origin=kind.origin, message=message, time_scope=TIME_SCOPE
        )
    is_percent = task_name(trial.alias) in PERCENT_TASKS or trial.metrics["f1"] > 1
    scale = 0.01 if is_percent else 1.0
    scores = {name: trial.metrics[name] for name in ("f1", "accuracy", "exact_match") if name in trial.metrics}
    return Outcome(
        status=OutcomeStatus.SUCCEEDED,
        metrics={name: value if name == "accuracy" else value * scale for name, value in scores.items()},
        train_s=trial.metrics.get("time_train_mean_seconds"),
        eval_s=trial.metrics.get("time_valid_mean_seconds"),
        evaluation_time_s=trial.metrics.get("evaluation_time"),
        time_scope=TIME_SCOPE,
    )


def _provenance(trial: ReferenceTrial, number: int, *, site: str) -> Provenance:
    """Build the provenance; the alias contains the seed of the search and the kind of its prior."""
    seed = re.search(r"(?:seed_|rn:)(\d{1,9})", trial.alias)
    warm = re.search(r"warmstart|knn", trial.alias)
    return Provenance(
        run_id=str(uuid.uuid5(NAMESPACE, trial.alias)),
        trial=number,
        attempt=0,
        restart=0,
        generation=0,
        seed=int(seed[1]) if seed else 42,  # the seed of every search that names none
        site=site,
        started_at=None,
        ended_at=trial.ended_at.isoformat(timespec="milliseconds"),
        prior_kind={"warmstart": "xautolm", "knn": "knn"}[warm[0]] if warm else "uniform",
        package_version="xautolm",
    )
