"""The ten meta-features of text classification, text lengths, and the score of the majority class.

Source:
    XAutoLM (arXiv 2508.00924), meta-features of text classification; the names of features 1 to 9 follow from the
    published records, feature 10 is rebuilt with scikit-learn's stop words in place of NLTK's.
"""

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import StratifiedKFold
from sklearn.tree import DecisionTreeClassifier

from xautolm_hpc.profile.rows import Row

FEATURES = (
    "n_samples",
    "n_classes",
    "class_entropy_bits",
    "min_class_share",
    "max_class_share",
    "imbalance",
    "mean_length_chars",
    "std_length_chars",
    "relative_std_length",
    "landmark_accuracy",
)
MAX_WORDS, MAX_COMPONENTS, N_FOLDS, MAX_DEPTH, LANDMARK_SEED = 5000, 100, 5, 5, 42
TOKEN = re.compile(r"\w+|[^\w\s]")


def describe_rows(rows: Sequence[Row], *, n_threads: int) -> tuple[float | None, ...]:
    """Compute the ten meta-features of labelled texts.

    Args:
        rows: The rows in a fixed order, at least one; the folds of the landmark depend on the order.
        n_threads: Threads for the landmark; the values do not depend on it.

    Returns:
        Values in the order of :data:`FEATURES`; entropy in bits, lengths in characters (standard deviation with
        ddof 0), ``imbalance`` the smallest class over the largest; ``None`` where the landmark cannot be computed.
    """
    counts = np.array(sorted(Counter(row.label for row in rows).values()), dtype=np.float64)  # (n_classes,)
    shares = counts / counts.sum()
    lengths = np.array([len(row.text) for row in rows], dtype=np.float64)  # (n_rows,)
    return (
        float(len(rows)),
        float(len(counts)),
        float(-(shares * np.log2(shares)).sum()) + 0.0,  # one class gives -0
        float(shares.min()),
        float(shares.max()),
        float(counts.min() / counts.max()),
        float(lengths.mean()),
        float(lengths.std()),
        float(lengths.std() / lengths.mean()),
        landmark_accuracy(rows, n_threads=n_threads),
    )


def landmark_accuracy(rows: Sequence[Row], *, n_threads: int) -> float | None:
    """Compute the accuracy of a small decision tree on the texts: how well single words predict the class.

    Args:
        rows: The rows in a fixed order.
        n_threads: Number of folds fitted at the same time, at least 1.

    Returns:
        Mean accuracy over the folds, 0..1; ``None`` if no class has a row for every fold, or if the texts have
        fewer than two different words besides stop words.
    """
    labels = np.array([row.label for row in rows])  # (n_rows,)
    if max(Counter(row.label for row in rows).values()) < N_FOLDS:
        return None
    points = _text_points([row.text for row in rows])
    if points is None:
        return None
    with warnings.catch_warnings(), ThreadPoolExecutor(max_workers=min(n_threads, N_FOLDS)) as pool:
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=LANDMARK_SEED).split(points, labels)
        scores = list(pool.map(lambda fold: _fold_accuracy(points, labels, fold=fold), list(folds)))
    return float(np.mean(scores))


def length_tokens(rows: Sequence[Row]) -> tuple[float, float, float]:
    """Measure text lengths in words and punctuation marks: median, 95th percentile and longest."""
    lengths = np.array([len(TOKEN.findall(row.text)) for row in rows], dtype=np.float64)  # (n_rows,)
    median, high = np.percentile(lengths, [50, 95])
    return float(median), float(high), float(lengths.max())


def majority_f1(train: Sequence[Row], validation: Sequence[Row], *, n_classes: int) -> float:
    """Compute the macro-F1 on ``validation`` of always answering train's most frequent label.

    Args:
        train: Rows that decide the label, at least one; of equally frequent labels the first in order is taken.
        validation: Rows to score, at least one.
        n_classes: Number of classes, for the mean.

    Returns:
        Macro-F1, 0..1.
    """
    counts = Counter(row.label for row in train)
    answer = min(counts, key=lambda label: (-counts[label], label))
    share = sum(row.label == answer for row in validation) / len(validation)
    return 2 * share / (1 + share) / n_classes  # precision is the share, recall 1; every other label scores 0


def _text_points(texts: list[str]) -> NDArray[np.float32] | None:
    """Project the texts to at most :data:`MAX_COMPONENTS` dimensions; ``None`` if there are too few words."""
    vectorizer = TfidfVectorizer(max_features=min(MAX_WORDS, len(texts) // 2), stop_words="english")
    try:
        words = vectorizer.fit_transform(texts)  # (n_rows, n_words), sparse
    except ValueError:  # only stop words
        return None
    n_components = min(MAX_COMPONENTS, words.shape[1] - 1, words.shape[0] - 1)
    if n_components < 1:
        return None
    reducer = TruncatedSVD(n_components, random_state=LANDMARK_SEED)
    with np.errstate(divide="ignore", invalid="ignore"):  # in its explained variance, which is unused
        points: NDArray[np.float32] = reducer.fit_transform(words).astype(np.float32)  # as the tree would do
    return points


def _fold_accuracy(
    points: NDArray[np.float32], labels: NDArray[np.str_], *, fold: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> float:
    train, held_out = fold
    tree = DecisionTreeClassifier(max_depth=MAX_DEPTH, random_state=LANDMARK_SEED)
    tree.fit(points[train], labels[train])
    return float(tree.score(points[held_out], labels[held_out]))
