"""Meta-features of question answering: sizes and lengths; and the score of having no answer."""

from collections.abc import Sequence

import numpy as np

from xautolm_hpc.profile.features import TOKEN
from xautolm_hpc.profile.questions import NO_START, Question

FEATURES = (
    "n_samples",
    "n_contexts",
    "mean_context_chars",
    "std_context_chars",
    "mean_question_chars",
    "std_question_chars",
    "mean_answer_chars",
    "std_answer_chars",
    "mean_n_answers",
    "share_answered",
    "share_in_context",
)


def describe_questions(rows: Sequence[Question], *, n_threads: int) -> tuple[float | None, ...]:
    """Compute the meta-features of questions.

    Args:
        rows: The rows, at least one.
        n_threads: Unused: nothing here takes long.

    Returns:
        Values in the order of :data:`FEATURES`; lengths in characters (standard deviation with ddof 0), an
        answer's is that of the first reference; ``None`` for answers where no question has one.
    """
    answered = [row for row in rows if row.answers]
    answers = [sum(map(len, row.answers[0].spans)) for row in answered]
    return (
        float(len(rows)),
        float(len({row.context for row in rows})),
        *_mean_and_std([len(row.context) for row in rows]),
        *_mean_and_std([len(row.question) for row in rows]),
        *_mean_and_std(answers),
        float(np.mean([len(row.answers) for row in rows])),
        len(answered) / len(rows),
        float(np.mean([_is_extractive(row) for row in rows])),
    )


def length_tokens(rows: Sequence[Question]) -> tuple[float, float, float]:
    """Measure question and context together in words and punctuation marks: median, 95th percentile and longest."""
    n_words = {row.context: len(TOKEN.findall(row.context)) for row in rows}
    lengths = np.array([n_words[row.context] + len(TOKEN.findall(row.question)) for row in rows], dtype=np.float64)
    median, high = np.percentile(lengths, [50, 95])
    return float(median), float(high), float(lengths.max())


def empty_answer_f1(train: Sequence[Question], validation: Sequence[Question]) -> float:
    """Compute the F1 on ``validation`` of never giving an answer: the share of questions that have none."""
    return sum(not row.answers for row in validation) / len(validation)


def _is_extractive(row: Question) -> bool:
    return any(answer.start != NO_START or answer.spans[0] in row.context for answer in row.answers)


def _mean_and_std(lengths: Sequence[int]) -> tuple[float | None, float | None]:
    return (float(np.mean(lengths)), float(np.std(lengths))) if lengths else (None, None)
