"""Records of trials that the rules of hyperparameters refuse: the worker ended them before it trained anything."""

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.failures import FAILURE_KINDS, FailureKind
from xautolm_hpc.hyperparameters import (
    ANYTHING,
    IGNORED,
    METHODS,
    ParamRule,
    ValueKind,
    find_method_problem,
    find_name_problem,
    find_value_problem,
    rules_of,
)
from xautolm_hpc.records import Experience
from xautolm_hpc.table import ABSENT, BOOL, FLOAT, INT, REFERENCE_SCOPE, TEXT, ExperienceTable, ParamColumn

Bools = NDArray[np.bool_]

KINDS = (FailureKind.UNSUPPORTED, FailureKind.ERROR)
"""Kinds of failure of a trial that the rules refuse; all others come from a trial that was trained."""


def refused_by_rules(table: ExperienceTable) -> Bools:
    """Find the failures whose hyperparameters the worker refuses, so that they say nothing about training.

    A name that the method lacks, or a value that is not valid, is refused. What a record lacks is not: a record need
    not hold all parameters. Records of the reference implementation are never refused: it trains by other rules.

    Args:
        table: n experiences.

    Returns:
        Whether each is refused, shape (n,).
    """
    refused = np.zeros(len(table), dtype=np.bool_)
    rows = np.flatnonzero(_may_be_refused(table))
    if not len(rows):
        return refused
    method = table.method[rows]
    is_refused = ~np.isin(method, [i for i, name in enumerate(table.methods) if name in METHODS])
    for name, column in table.params.items():
        found = ParamColumn(type_code=column.type_code[rows], number=column.number[rows], text=column.text[rows])
        for code, known_method in enumerate(table.methods):
            of_method = (method == code) & (found.type_code != ABSENT)
            if known_method in METHODS and of_method.any():
                rule = ANYTHING if name in IGNORED else rules_of(known_method).get(name)
                is_refused |= of_method if rule is None else of_method & ~_accepted(found, rule, texts=table.texts)
    refused[rows] = is_refused
    return refused


def find_refusal(experience: Experience) -> str | None:
    """Return which rule of hyperparameters refuses one failure, as :func:`refused_by_rules` does; ``None`` if none."""
    pipeline, outcome = experience.pipeline, experience.outcome
    if outcome.kind not in KINDS or (outcome.time_scope or "").startswith(REFERENCE_SCOPE):
        return None
    method = pipeline.method
    found = [find_method_problem(method)]
    if found[0] is None:
        found = [
            find_name_problem(method, name) or find_value_problem(method, name, value=value)
            for name, value in pipeline.params.items()
        ]
    return next((problem.text for problem in found if problem is not None), None)


def _may_be_refused(table: ExperienceTable) -> Bools:
    """Find the failures of :data:`KINDS` that the reference implementation did not make, shape (n,)."""
    kinds = [FAILURE_KINDS.index(kind) for kind in KINDS]
    reference = [index for index, text in enumerate(table.texts) if text.startswith(REFERENCE_SCOPE)]
    may_be: Bools = np.isin(table.kind, kinds) & ~table.succeeded & ~np.isin(table.time_scope, reference)
    return may_be


def _accepted(column: ParamColumn, rule: ParamRule, *, texts: tuple[str, ...]) -> Bools:
    """Apply a rule to a column as :meth:`~xautolm_hpc.hyperparameters.ParamRule.accepts` does to a value."""
    code, number = column.type_code, column.number
    if rule.kind is ValueKind.ANY:
        return np.ones(len(code), dtype=np.bool_)
    if rule.kind is ValueKind.SWITCH:
        is_switch: Bools = code == BOOL
        return is_switch
    if rule.kind is ValueKind.WORD:
        choices = [i for i, text in enumerate(texts) if text in rule.choices]
        is_choice: Bools = (code == TEXT) & np.isin(column.text, choices)
        return is_choice
    is_number = (code == INT) | ((code == FLOAT) & (rule.kind is ValueKind.REAL))
    is_above = number > rule.low if rule.is_low_excluded else number >= rule.low
    is_valid: Bools = is_number & is_above & (number <= rule.high)
    return is_valid
