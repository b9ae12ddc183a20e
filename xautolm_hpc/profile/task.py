"""Profiles a task: reads, normalises and divides its rows, measures them, writes the split."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from xautolm_hpc.errors import DataError
from xautolm_hpc.jobdir import PROTOCOL, SPLITS, ProfileRequest, ProfileResult
from xautolm_hpc.profile.cache import Profile, cache_key, load_profile, save_profile, write_files
from xautolm_hpc.profile.classes import rare_classes
from xautolm_hpc.profile.data_rows import DataRows, read_data
from xautolm_hpc.profile.readers import reader_for
from xautolm_hpc.profile.rows import Sample, compress, digest_rows, encode_rows
from xautolm_hpc.profile.source import find_files, read_content, unread_notes
from xautolm_hpc.profile.split import Split, split_rows
from xautolm_hpc.records import System, Task, canonical_json
from xautolm_hpc.task_kinds import TASK_KINDS


def profile_task(
    request: ProfileRequest, *, system: System, log: Callable[[str], object] = lambda line: None
) -> ProfileResult:
    """Measure a task and write its split to ``request.data_dir``.

    It imports scikit-learn and keeps all rows in memory: call it in a process of its own.

    Args:
        request: What to read and where to write.
        system: The node, for the result.
        log: Called with short lines of progress.

    Returns:
        The task, digests of the split's files, and what was left out. ``dataset_id`` digests the sorted rows of all
        files together; ``fingerprint`` the rows of each split in their order, and the metric.

    Raises:
        DataError: The data cannot be read (the cause is then an ``OSError``) or cannot be learnt from.
        OSError: The split cannot be written.
    """
    reader_for(request)
    paths = find_files(Path(request.data_path), request.data_files)
    contents = {path: read_content(path) for group in paths.values() for path in group}
    unread = () if request.data_files is not None else unread_notes(Path(request.data_path), paths)
    for note in unread:
        log(note)
    entry_dir = Path(request.cache_dir) / cache_key(request, paths, contents=contents)
    cached = load_profile(entry_dir)
    if cached is not None:
        log(f"the same data was profiled before: taken from {entry_dir}")
        write_files(Path(request.data_dir), cached.files)
        result = dataclasses.replace(cached.result, system=system, from_cache=True, has_quantiser=_has_quantiser())
        return dataclasses.replace(result, notes=(*unread, *result.notes))
    profile = _measure(request, read_data(request, paths, contents=contents), system=system, log=log)
    write_files(Path(request.data_dir), profile.files)
    try:
        save_profile(entry_dir, profile)
    except OSError as error:
        log(f"the profile could not be cached in {entry_dir}: {error}")
    return dataclasses.replace(profile.result, notes=(*unread, *profile.result.notes))


def _measure(request: ProfileRequest, data: DataRows, *, system: System, log: Callable[[str], object]) -> Profile:
    """Divide the rows and compute the result."""
    files = data.files
    log("read " + ", ".join(f"{len(rows):,} rows of {name}" for name, rows in files.items()))
    limits = {"train": request.train_rows, "validation": request.validation_rows, "test": request.test_rows}
    for note in data.notes:
        log(note)
    try:
        split = split_rows(files, limits=limits, split_seed=request.split_seed, where=request.data_path)
    except DataError as error:  # a class written in two ways may be why one of them is too small
        raise DataError(". ".join([str(error), *data.notes])) from None
    split_notes = (*split.notes, *rare_classes(split.parts))
    for note in split_notes:
        log(note)
    log("divided into " + ", ".join(f"{len(split.parts[name]):,} rows of {name}" for name in SPLITS))
    n_threads = len(os.sched_getaffinity(0))
    task = _describe_task(request, data, split=split, n_threads=n_threads)
    log(f"computed the meta-features of {len(split.described):,} rows")
    packed = {name: compress(encode_rows(split.parts[name])) for name in SPLITS}
    result = ProfileResult(
        protocol=PROTOCOL,
        task=task,
        system=system,
        sha256={name: hashlib.sha256(content).hexdigest() for name, content in packed.items()},
        from_cache=False,
        majority_f1=reader_for(request).baseline(split.parts["train"], split.parts["validation"]),
        notes=(*data.notes, *split_notes),
        has_quantiser=_has_quantiser(),
    )
    return Profile(result, packed)


def _has_quantiser() -> bool:
    """Check whether this environment, which is the worker's, can quantise; the package is not imported."""
    return find_spec("bitsandbytes") is not None


def _describe_task(request: ProfileRequest, data: DataRows, *, split: Split[Sample], n_threads: int) -> Task:
    """Build the record of the task."""
    parts, reader = split.parts, reader_for(request)
    traits = TASK_KINDS[request.task_kind]
    metric = request.metric or traits.metrics[0]
    described, semantic = reader.describe(split.described, n_threads=n_threads)
    return Task(
        name=request.task_name,
        kind=request.task_kind,
        dataset_id=digest_rows(sorted(row for rows in data.files.values() for row in rows)),
        fingerprint=_fingerprint(parts, metric),
        metric=metric,
        n_train=len(parts["train"]),
        n_dev=len(parts["dev"]),
        n_validation=len(parts["validation"]),
        n_test=len(parts["test"]),
        labels=reader.labels([row for rows in parts.values() for row in rows], data.class_names),
        feature_schema=traits.feature_schema,
        features=described,
        semantic=semantic,
        length_tokens=reader.lengths(parts["train"]),
    )


def _fingerprint(parts: Mapping[str, Sequence[Sample]], metric: str) -> str:
    content = [metric, {name: digest_rows(parts[name]) for name in SPLITS}]
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()
