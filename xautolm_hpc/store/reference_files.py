"""Reads the JSON records that XAutoLM's authors released; returns each trial once, however many files record it.

Three layouts exist: ``old`` (f1, accuracy and evaluation_time at the top), ``new`` (the three in a list ``metrics``)
and ``qa`` (``task_features`` with a semantic vector). Up to January 2025 every failure was written twice, at most two
seconds apart: once with the error text, once with -Infinity in place of F1. A trial may also occur in both of the
first two layouts.
"""

import json
import math
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xautolm_hpc.errors import InputError, quoted
from xautolm_hpc.records import canonical_json
from xautolm_hpc.store.flat import check_containers
from xautolm_hpc.store.listing import not_regular

LARGEST_FILE_BYTES = 4 * 1024**2
TWIN_S = 2
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
YEARS = range(2024, 2032)
LARGEST_NUMBER = 2**53
SCORES = ("f1", "accuracy", "exact_match")
METRICS = (*SCORES, "evaluation_time", "time_train_mean_seconds", "time_valid_mean_seconds")
FEATURE_COUNTS = {"dataset_features": 10, "meta": 11}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceTrial:
    """One trial as its files record it.

    Attributes:
        alias: Name of the folder below the imported one, or the alias in the record if there is no folder.
        ended_at: End of the trial by the clock of the machine, taken as UTC.
        method_class: Class name of the pipeline.
        model_key: The reference code's name of the pretrained model, for instance ``TEXT_GEN_Gpt2_Xl``.
        params: Parameter name -> value, as recorded.
        features: Meta-features of the task: 10 numbers of classification, 11 of text-to-text tasks.
        semantic: Mean embedding of the prompts, or ``None``.
        system_features: Cores, threads, GHz, GiB of memory, 0.
        metrics: Metric name -> finite value; empty for a failure.
        error: Text of the error, or ``None`` for a success or if it was lost.
        file: The file, relative to the folder.
    """

    alias: str
    ended_at: datetime
    method_class: str
    model_key: str
    params: Mapping[str, Any]
    features: tuple[float, ...]
    semantic: tuple[float, ...] | None
    system_features: tuple[float, ...]
    metrics: Mapping[str, float]
    error: str | None
    file: str = ""

    @property
    def failed(self) -> bool:
        """Whether the trial has no F1."""
        return "f1" not in self.metrics

    def configuration(self) -> str:
        """Encode alias and pipeline: equal for the two records of one failure."""
        return canonical_json([self.alias, self.method_class, self.model_key, dict(self.params)])


@dataclass(slots=True)
class ReferenceFiles:
    """Content of a folder.

    Attributes:
        trials: The trials, by alias and end.
        n_files: Files that were read.
        n_joined: Records that were the second one of a trial.
        refused: Why a file was refused -> the files, relative to the folder.
    """

    trials: list[ReferenceTrial] = field(default_factory=list)
    n_files: int = 0
    n_joined: int = 0
    refused: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def read_folder(folder: Path) -> ReferenceFiles:
    """Read every ``.json`` file below a folder; a file that is not a record is refused, the others are read.

    Raises:
        InputError: The folder does not exist, or holds no JSON file.
    """
    if not folder.is_dir():
        raise InputError(f"`{folder}` is no folder; expected XAutoLM's experience store: ALIAS/DATE/TIME-UUID.json")
    found = ReferenceFiles()
    records = []
    for path in sorted(folder.rglob("*.json")):
        found.n_files += 1
        where = path.relative_to(folder)
        try:
            record = _read_record(path, alias=where.parts[0] if len(where.parts) > 1 else None)
            records.append(replace(record, file=str(where)))
        except InputError as error:
            found.refused[str(error)].append(str(where))
    if not found.n_files:
        raise InputError(f"`{folder}` holds no .json file; expected XAutoLM's experience store")
    found.trials = sorted(_join(records), key=lambda trial: (trial.alias, trial.ended_at, trial.configuration()))
    found.n_joined = len(records) - len(found.trials)
    return found


def _read_record(path: Path, *, alias: str | None) -> ReferenceTrial:
    """Read one file of any layout.

    Raises:
        InputError: It is not such a record; the message does not name the file, so that equal reasons can be counted.
    """
    text = _content(path)
    check_containers(text, where="no record")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError("no JSON") from error
    if not isinstance(data, dict):
        raise InputError("no JSON object")
    method_class, model_key, params = _read_pipeline(data)
    features, semantic = _read_features(data)
    metrics = _read_metrics(data)
    message = data.get("error")
    failed = "f1" not in metrics
    return ReferenceTrial(
        alias=_encodable(alias or _text(data.get("alias"), name="alias"), name="alias"),
        ended_at=_read_time(data.get("timestamp")),
        method_class=method_class,
        model_key=model_key,
        params=params,
        features=features,
        semantic=semantic,
        system_features=_numbers(data.get("system_features"), name="system_features", n=5),
        metrics={} if failed else metrics,
        error=_text(message, name="error") if failed and message is not None else None,
    )


def _content(path: Path) -> str:
    """Read a file if it is a regular one and no larger than any record is."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(not_regular(status.st_mode))
        if status.st_size > LARGEST_FILE_BYTES:
            raise InputError(f"larger than {LARGEST_FILE_BYTES // 1024**2} MiB, which no record is")
        return path.read_bytes().decode()
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError("no JSON: not in UTF-8") from error


def _text(value: Any, *, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"`{name}` is no text")
    return value


def _read_time(value: object) -> datetime:
    try:
        found = datetime.strptime(_text(value, name="timestamp"), TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise InputError("`timestamp` is no time such as 2024-11-02 11:20:22") from error
    if found.year not in YEARS:
        raise InputError(f"`timestamp` is not in {YEARS[0]} to {YEARS[-1]}")
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_NUMBER


def _numbers(values: object, *, name: str, n: int | None = None) -> tuple[float, ...]:
    if not isinstance(values, list) or not all(map(_is_number, values)) or (n is not None and len(values) != n):
        raise InputError(f"`{name}` is no list of {n or 'some'} finite numbers")
    return tuple(map(float, values))


def _read_pipeline(data: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Find class, model and parameters of the one algorithm."""
    algorithms = data.get("algorithms")
    if not isinstance(algorithms, list) or len(algorithms) != 1 or not isinstance(algorithms[0], dict):
        raise InputError("`algorithms` is no list of one algorithm")
    if len(algorithms[0]) != 1:
        raise InputError("the algorithm has no single class name")
    method_class, settings = next(iter(algorithms[0].items()))
    try:
        values = {name: setting["value"] for name, setting in settings.items()}
        (model_key,) = _names_in(values.pop("inner_model"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError("the algorithm's parameters are not {name: {'value': ...}} with one `inner_model`") from error
    _text(model_key, name="inner_model")
    for name, value in values.items():
        if not name or "\0" in name or not (isinstance(value, bool | str) or _is_number(value)):
            raise InputError(f"parameter {quoted(name)} is no finite number, bool or text")
    return method_class, model_key, values


def _encodable(text: str, *, name: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"`{name}` is no text that UTF-8 can encode") from error
    return text


def _names_in(value: Any) -> list[Any]:
    if not isinstance(value, list | dict):
        raise TypeError("no object")
    return list(value)


def _read_features(data: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...] | None]:
    """Find the meta-features of the task, and its semantic vector where there is one."""
    if "task_features" not in data:
        return _numbers(
            data.get("dataset_features"), name="dataset_features", n=FEATURE_COUNTS["dataset_features"]
        ), None
    features: Any = data["task_features"]
    if not isinstance(features, dict):
        raise InputError("`task_features` is no object")
    semantic = features.get("semantic")
    return (
        _numbers(features.get("meta"), name="task_features.meta", n=FEATURE_COUNTS["meta"]),
        None if semantic is None else _numbers(semantic, name="task_features.semantic"),
    )


def _read_metrics(data: Mapping[str, Any]) -> dict[str, float]:
    """Collect the finite metrics of either layout; infinities and nulls are no values."""
    listed = data.get("metrics")
    if listed is None:
        found = {name: data[name] for name in METRICS if name in data}
        if "f1" not in found:
            raise InputError("no `metrics`, and no `f1` at the top")
    else:
        try:
            found = {metric["name"]: metric["value"] for metric in listed}
        except (KeyError, TypeError) as error:
            raise InputError("`metrics` is no list of {'name': ..., 'value': ...}") from error
    wrong = [name for name, value in found.items() if value is not None and type(value) not in (int, float)]
    if wrong:
        raise InputError(f"metric {quoted(wrong[0])} is no number")
    known = {
        name: value for name, value in found.items() if name in METRICS and value is not None and not _is_endless(value)
    }
    outside = [name for name, value in known.items() if not 0 <= value <= (100 if name in SCORES else LARGEST_NUMBER)]
    if outside:
        raise InputError(f"metric `{outside[0]}` is out of range")
    return {name: float(value) for name, value in known.items()}


def _is_endless(value: Any) -> bool:
    """Check for an infinity or NaN; a whole number of any length is neither."""
    return isinstance(value, float) and not math.isfinite(value)


def _join(records: Iterable[ReferenceTrial]) -> Iterator[ReferenceTrial]:
    """Join the records of the same trial to one."""
    alike: dict[tuple[str, bool], list[ReferenceTrial]] = defaultdict(list)
    for record in records:
        alike[record.configuration(), record.failed].append(record)
    for group in alike.values():
        group.sort(key=lambda record: record.ended_at)
        run: list[ReferenceTrial] = []
        for record in group:
            if run and not _is_same_trial(record, run):
                yield _joined(run)
                run = []
            run.append(record)
        yield _joined(run)


def _is_same_trial(record: ReferenceTrial, run: Sequence[ReferenceTrial]) -> bool:
    """Check whether a record is of the same trial; not if error texts differ or more than two seconds are between."""
    near = (record.ended_at - run[0].ended_at).total_seconds() <= TWIN_S
    texts = {one.error for one in (record, *run)} - {None}
    return near and len(texts) <= 1 and record.metrics == run[0].metrics


def _joined(run: Sequence[ReferenceTrial]) -> ReferenceTrial:
    return replace(run[0], error=next((record.error for record in run if record.error is not None), None))
