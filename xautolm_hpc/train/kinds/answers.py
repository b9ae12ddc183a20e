"""Scores of text answers: SQuAD's exact match and token F1, and DROP's F1.

Written here because the libraries that have them load their code from a hub, or would add seconds to every trial.

Source:
    Rajpurkar et al. 2016, "SQuAD", and its ``evaluate-v2.0.py``; Dua et al. 2019, "DROP", and its ``drop_eval.py``.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Reference = tuple[str, ...]
"""The spans of one accepted answer, mostly one; an empty tuple says that the question has no answer."""

Pair = tuple[float, float]
"""Exact match and F1, each 0..1."""

SPAN_SEPARATOR = "; "
"""Separates the spans of an answer that is written as one text."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = set(string.punctuation)
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad_scores(answer: str, references: Sequence[Reference]) -> Pair:
    """Score an answer as SQuAD does: the best score over all references.

    Args:
        answer: The answer; empty means that there is none.
        references: Accepted answers; empty means that the question has no answer.
    """
    gold = [SPAN_SEPARATOR.join(reference) for reference in references] or [""]
    return _best([_squad_pair(answer, reference) for reference in gold])


def drop_scores(answer: str, references: Sequence[Reference]) -> Pair:
    """Score an answer as DROP does: numbers must agree, and several spans are matched one to one.

    Args:
        answer: The answer; its spans separated by :data:`SPAN_SEPARATOR` where a reference has several.
        references: Accepted answers; an empty one is skipped, as in ``drop_eval.py``.
    """
    pairs = []
    for reference in references:
        if any(span.strip() for span in reference):
            spans = answer.split(SPAN_SEPARATOR) if len(reference) > 1 else [answer]
            pairs.append(_drop_pair(spans, reference))
    return _best(pairs)


METRICS: Mapping[str, Callable[[str, Sequence[Reference]], Pair]] = {"squad-f1": squad_scores, "drop-f1": drop_scores}
"""Name of a task's metric -> function that scores an answer."""


def row_scores(
    metric: str, answers: Sequence[str], *, references: Sequence[Sequence[Reference]]
) -> NDArray[np.float64]:
    """Score the answer to each question.

    Args:
        metric: One of :data:`METRICS`.
        answers: Answer to each question, at least one.
        references: Accepted answers of each question.

    Returns:
        Exact match and F1 of each, (n_questions, 2).
    """
    pairs = [METRICS[metric](answer, accepted) for answer, accepted in zip(answers, references, strict=True)]
    return np.array(pairs, dtype=np.float64)


def _best(pairs: Sequence[Pair]) -> Pair:
    """Return the best exact match and, separately, the best F1, as the published scripts do."""
    return max((exact for exact, _ in pairs), default=0.0), max((f1 for _, f1 in pairs), default=0.0)


def _squad_pair(answer: str, reference: str) -> Pair:
    given, gold = _squad_words(answer), _reference_words(reference)
    exact = float(given == gold)
    if not given or not gold or exact:
        return exact, exact
    n_common = (Counter(given) & Counter(gold)).total()
    return exact, 2 * n_common / (len(given) + len(gold))


def _squad_words(text: str) -> list[str]:
    """Split a text into words without case, punctuation and articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split()


@lru_cache(maxsize=2**16)
def _reference_words(reference: str) -> list[str]:
    """Split a reference into words; ``dev`` has the same ones in each epoch."""
    return _squad_words(reference)


def _drop_pair(spans: Sequence[str], reference: Sequence[str]) -> Pair:
    from scipy.optimize import linear_sum_assignment

    given, gold = [_drop_text(span) for span in spans], [_drop_text(span) for span in reference]
    exact = float(set(given) == set(gold) and len(given) == len(gold))
    scores = np.array([[_bag_f1(set(g.split()), set(a.split())) for a in given] for g in gold])  # (n_gold, n_given)
    rows, columns = linear_sum_assignment(-scores)
    f1 = float(scores[rows, columns].sum()) / max(len(given), len(gold))
    return exact, round(f1, 2)  # as published


def _bag_f1(gold: set[str], given: set[str]) -> float:
    """Compute the F1 of two sets of words; 0 if the reference has numbers and the answer none of them."""
    numbers = {word for word in gold if _is_number(word)}
    if numbers and not numbers & {word for word in given if _is_number(word)}:
        return 0.0
    n_common = len(gold & given)
    precision = n_common / len(given) if given else 1.0
    recall = n_common / len(gold) if gold else 1.0
    return 2 * precision * recall / (precision + recall) if n_common else float(not given and not gold)


def _drop_text(text: str) -> str:
    """Normalise a span word by word: case, punctuation outside numbers, articles; numbers as floats."""
    words = (_drop_word(word) for word in re.split(r" |-", text))
    return " ".join(word for word in words if word.strip()).strip()


def _drop_word(word: str) -> str:
    lowered = word.lower()
    plain = lowered if _is_number(lowered) else "".join(c for c in lowered if c not in _PUNCTUATION)
    plain = str(float(plain)) if _is_number(plain) else plain
    return " ".join(_ARTICLES.sub(" ", plain).split())


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
