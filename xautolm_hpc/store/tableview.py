"""Converts columns to the table that priors are computed from, without an object per experience."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.failures import FAILURE_KINDS, OutcomeStatus
from xautolm_hpc.pareto import OBJECTIVES
from xautolm_hpc.records import System, Task
from xautolm_hpc.store.columns import Array, Columns
from xautolm_hpc.store.decode import models, shared_records, values
from xautolm_hpc.store.layout import NO_CODE
from xautolm_hpc.table import ABSENT, BOOL, FLOAT, INT, TEXT, ExperienceTable, ParamColumn

T = TypeVar("T")
TYPE_OF = {bool: BOOL, int: INT, float: FLOAT, str: TEXT}


def to_table(columns: Columns) -> ExperienceTable:
    """Convert columns to the table that :func:`xautolm_hpc.table.build_table` builds of the same experiences.

    Args:
        columns: Rows ascending by id, with the columns of :data:`~xautolm_hpc.store.layout.TABLE`.

    Raises:
        StoreError: A task or system has a field this version does not know.
    """
    codes, counts = columns.groups["codes"], columns.groups["counts"]
    known = values(columns)
    tasks, task = _by_appearance(codes["task"], shared_records(columns, Task, dictionary="tasks"))
    systems, system = _by_appearance(codes["system"], shared_records(columns, System, dictionary="systems"))
    model_pairs, model = _by_appearance(codes["model"], models(columns))
    methods, method = _by_appearance(codes["method"], known)
    runs, run = _by_appearance(codes["run_id"], known)
    sites, site = _by_appearance(codes["site"], known)
    used, time_scope, params = _texts_and_params(columns, known)
    kind_of = np.array([FAILURE_KINDS.index(v) if v in FAILURE_KINDS else -1 for v in (*known, None)], np.int16)
    return ExperienceTable(
        tasks=tasks,
        systems=systems,
        models=model_pairs,
        methods=methods,
        runs=runs,
        sites=sites,
        texts=used,
        id=hex_digits(columns.groups["digests"]["id"]),
        task=task,
        system=system,
        model=model,
        method=method,
        run=run,
        site=site,
        trial=counts["trial"],
        attempt=counts["attempt"],
        restart=counts["restart"],
        succeeded=_equals(known, OutcomeStatus.SUCCEEDED)[codes["status"]],
        kind=kind_of[codes["kind"]],
        stopped=_equals(known, OutcomeStatus.STOPPED)[codes["status"]],
        truncated=columns.groups["numbers"]["truncated"] == 1,
        suspect=counts["suspect"].astype(np.bool_),
        pipeline=hex_digits(columns.groups["digests"]["pipeline"]),
        objectives={name: _objective(columns, name) for name in OBJECTIVES},
        time_scope=time_scope,
        captured=_equals(known, "graph")[codes["step"]],
        epochs_done=columns.groups["numbers"]["epochs_done"],
        was_evaluated=_is_known(columns, "numbers", name="eval_s") | _is_known(columns, "metrics", name="dev_f1"),
        params=params,
    )


def _equals(known: Sequence[Any], text: str) -> NDArray[np.bool_]:
    """Find which values are a text; the last one is for the null code."""
    return np.array([*(value == text for value in known), False])


def hex_digits(raw: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Write digests of 16 bytes, (n, 16), as 32 hex digits, (n,) S32."""
    return np.frombuffer(raw.tobytes().hex().encode(), f"S{2 * raw.shape[1]}")


def _objective(columns: Columns, name: str) -> NDArray[np.float64]:
    found = columns.groups["metrics" if OBJECTIVES[name].is_metric else "numbers"].get(name)
    return np.full(len(columns), np.nan) if found is None else found


def _is_known(columns: Columns, group: str, *, name: str) -> NDArray[np.bool_]:
    """Find the rows that have a number."""
    found = columns.groups[group].get(name)
    return np.zeros(len(columns), np.bool_) if found is None else ~np.isnan(found)


def _by_appearance(codes: Array, entries: Sequence[T]) -> tuple[tuple[T, ...], NDArray[np.int32]]:
    """Renumber dictionary entries in the order of their first occurrence in the rows."""
    order = _appearance(codes, len(entries))
    position = np.full(len(entries) + 1, -1, np.int32)
    position[order] = np.arange(len(order))
    return tuple(entries[i] for i in order.tolist()), position[codes]


def _appearance(codes: Array, n_entries: int) -> NDArray[np.intp]:
    """List the codes that occur, in the order of their first occurrence."""
    n = len(codes)
    first = np.full(n_entries + 1, n)  # the last one is the null code
    np.minimum.at(first, codes, np.arange(n))
    first = first[:-1]
    order = np.argsort(first, kind="stable")
    return order[: int((first < n).sum())]


@dataclass(frozen=True, slots=True)
class _Values:
    """Type and number of each entry of the dictionary of values; the last one is for the null code."""

    types: NDArray[np.uint8]
    numbers: NDArray[np.float64]

    @classmethod
    def of(cls, known: Sequence[Any]) -> "_Values":
        types = [TYPE_OF[type(value)] for value in known]
        numbers = [np.nan if isinstance(value, str) else float(value) for value in known]
        return cls(np.array([*types, ABSENT], np.uint8), np.array([*numbers, np.nan]))


def _texts_and_params(
    columns: Columns, known: Sequence[Any]
) -> tuple[tuple[str, ...], NDArray[np.int32], dict[str, ParamColumn]]:
    """Number the texts in the order of their first occurrence: in the time scopes, then in the parameters by name."""
    entries = _Values.of(known)
    is_text = entries.types == TEXT
    codes, floats = columns.groups["params"], columns.groups["param_floats"]
    coded = {name: column for name, column in sorted(codes.items()) if bool((column != NO_CODE).any())}
    names = sorted({*coded, *(name for name, column in floats.items() if not np.isnan(column).all())})
    scopes = columns.groups["codes"]["time_scope"]
    position = np.full(len(known) + 1, -1, np.int32)
    order: list[int] = []
    for column in (scopes, *coded.values()):
        for code in _appearance(column, len(known)).tolist():
            if position[code] < 0 and is_text[code]:
                position[code] = len(order)
                order.append(code)
    no_text = np.full(len(columns), -1, np.int32)
    params = {}
    for name in names:
        types, numbers = _typed_numbers(coded.get(name), floats.get(name), entries=entries)
        has_text = name in coded and bool((types == TEXT).any())
        params[name] = ParamColumn(type_code=types, number=numbers, text=position[coded[name]] if has_text else no_text)
    return tuple(known[code] for code in order), position[scopes], params


def _typed_numbers(
    codes: Array | None, floats: Array | None, *, entries: _Values
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Compute type and number of each value of a parameter; codes or floats may be ``None``, not both."""
    if codes is None:
        numbers = np.asarray(floats)
        return np.where(np.isnan(numbers), np.uint8(ABSENT), np.uint8(FLOAT)), numbers
    types, numbers = entries.types[codes], entries.numbers[codes]
    if floats is not None:
        is_float = ~np.isnan(floats)
        types[is_float], numbers[is_float] = FLOAT, floats[is_float]
    return types, numbers
