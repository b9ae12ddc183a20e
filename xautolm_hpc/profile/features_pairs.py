"""The eleven meta-features of tasks with a prompt and a target text: question answering, generation.

Source:
    XAutoLM (arXiv 2508.00924), meta-features of question answering; stop words are scikit-learn's, not NLTK's.
"""

import re
import string
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from xautolm_hpc.profile.features_stem import stem

Vectors = NDArray[np.float32]

FEATURES = (
    "n_samples",
    "mean_prompt_chars",
    "std_prompt_chars",
    "prompt_lexical_diversity",
    "mean_target_chars",
    "std_target_chars",
    "target_lexical_diversity",
    "mean_length_ratio",
    "vocabulary_novelty",
    "mean_cosine",
    "mean_rouge_l",
)
SEMANTIC = FEATURES.index("mean_cosine")
STEMMED_LENGTH = 3
"""Longest word that is not stemmed for ROUGE-L, in letters."""

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WORD = re.compile(r"[a-z0-9]+")


def make_prompt(context: str, question: str) -> str:
    """Write the prompt that the features of a question are computed of."""
    return f"Context: {context} Question: {question} Answer:"


def describe_pairs(pairs: Sequence[tuple[str, str]], *, cosine: float | None) -> tuple[float | None, ...]:
    """Compute the eleven meta-features of prompts and targets.

    Args:
        pairs: Prompt and target of every row, at least one row; an empty target is unknown or not asked for.
        cosine: Mean cosine of prompt and target embeddings, or ``None``.

    Returns:
        Values in the order of :data:`FEATURES`; lengths in characters (standard deviation with ddof 0); ``None``
        where no row allows a feature to be computed.
    """
    prompt_chars = np.array([len(prompt) for prompt, _ in pairs], dtype=np.float64)  # (n_rows,)
    target_chars = np.array([len(target) for _, target in pairs], dtype=np.float64)
    prompts, targets = _Lexicon(), _Lexicon()
    novelties, overlaps = [], []
    for prompt, target in pairs:
        known, wanted = set(prompts.add(prompt)), targets.add(target)
        if wanted:
            novelties.append(sum(word not in known for word in wanted) / len(wanted))
        overlap = rouge_l(target, prompt)
        if overlap is not None:
            overlaps.append(overlap)
    has_prompt = prompt_chars > 0
    ratios = target_chars[has_prompt] / prompt_chars[has_prompt]
    return (
        float(len(pairs)),
        float(prompt_chars.mean()),
        float(prompt_chars.std()),
        prompts.diversity,
        float(target_chars.mean()),
        float(target_chars.std()),
        targets.diversity,
        _mean(ratios.tolist()),
        _mean(novelties),
        cosine,
        _mean(overlaps),
    )


def words_of(text: str) -> list[str]:
    """Split a text into words: lower case, without punctuation, letters only, no stop words."""
    words = text.lower().translate(_NO_PUNCTUATION).split()
    return [word for word in words if word.isalpha() and word not in ENGLISH_STOP_WORDS]


def rouge_l(target: str, prompt: str) -> float | None:
    """Compute ROUGE-L F1 of a target against a prompt, stemmed; ``None`` if one of them has no word.

    The longest common subsequence is computed bit-parallel: each word of the target is one bit of a number.

    Source:
        Lin 2004, ROUGE; Hyyro 2004, bit-parallel LCS-length computation revisited.
    """
    wanted = _stems(target)
    found = _WORD.findall(prompt.lower())
    if not wanted or not found:
        return None
    places: dict[str, int] = {}
    for place, word in enumerate(wanted):
        places[word] = places.get(word, 0) | 1 << place
    row = (1 << len(wanted)) - 1
    for word in found:
        hits = row & places.get(_stem(word), 0)
        if hits:
            row = (row + hits) | (row - hits)
    n_common = len(wanted) - (row & (1 << len(wanted)) - 1).bit_count()
    return 2.0 * n_common / (len(wanted) + len(found))


def mean_cosine(prompts: Vectors, targets: Vectors) -> float | None:
    """Compute the mean cosine of prompt and target vectors, both (n, d); ``None`` if all have length 0."""
    products = np.einsum("ij,ij->i", prompts.astype(np.float64), targets.astype(np.float64))
    lengths = np.linalg.norm(prompts, axis=1) * np.linalg.norm(targets, axis=1)
    return _mean((products[lengths > 0] / lengths[lengths > 0]).tolist())


class _Lexicon:
    """Counts words and distinct words."""

    def __init__(self) -> None:
        self.words: set[str] = set()
        self.n = 0

    def add(self, text: str) -> list[str]:
        """Count a text's words and return them."""
        words = words_of(text)
        self.words.update(words)
        self.n += len(words)
        return words

    @property
    def diversity(self) -> float | None:
        """Distinct words divided by words; ``None`` without any word."""
        return len(self.words) / self.n if self.n else None


def _stem(word: str) -> str:
    return stem(word) if len(word) > STEMMED_LENGTH else word


def _stems(text: str) -> list[str]:
    return [_stem(word) for word in _WORD.findall(text.lower())]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
