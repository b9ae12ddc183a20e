"""Meta-features of questions, their lengths, and the score of never answering."""

from collections.abc import Sequence

import numpy as np

from xautolm_hpc.profile.features import TOKEN
from xautolm_hpc.profile.features_pairs import describe_pairs, make_prompt
from xautolm_hpc.profile.features_semantic import embed_pairs
from xautolm_hpc.profile.questions import Question

Description = tuple[tuple[float | None, ...], tuple[float, ...] | None]
"""Meta-features, and the mean embedding of the texts or ``None``."""


def describe_questions(rows: Sequence[Question], *, n_threads: int) -> Description:
    """Compute the eleven meta-features of questions as prompts and of their first answers as targets.

    Args:
        rows: The rows in a fixed order, at least one.
        n_threads: Threads of the sentence encoder.

    Returns:
        Values in the order of :data:`xautolm_hpc.profile.features_pairs.FEATURES`, and the mean embedding of the
        questions; without the encoder's package cosine and embedding are ``None``.
    """
    pairs = [(make_prompt(row.context, row.question), _first_answer(row)) for row in rows]
    semantic, cosine = embed_pairs(pairs, n_threads=n_threads) or (None, None)
    return describe_pairs(pairs, cosine=cosine), semantic


def length_tokens(rows: Sequence[Question]) -> tuple[float, float, float]:
    """Measure question and context together in words and punctuation marks: median, 95th percentile and longest."""
    n_words = {row.context: len(TOKEN.findall(row.context)) for row in rows}
    lengths = np.array([n_words[row.context] + len(TOKEN.findall(row.question)) for row in rows], dtype=np.float64)
    median, high = np.percentile(lengths, [50, 95])
    return float(median), float(high), float(lengths.max())


def empty_answer_f1(train: Sequence[Question], validation: Sequence[Question]) -> float:
    """Compute the F1 on ``validation`` of never giving an answer: the share of questions that have none."""
    return sum(not row.answers for row in validation) / len(validation)


def _first_answer(row: Question) -> str:
    return "; ".join(row.answers[0].spans) if row.answers else ""
