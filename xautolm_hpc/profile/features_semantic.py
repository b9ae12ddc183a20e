"""Embeds texts as vectors, in a process of its own, because only train imports torch."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from xautolm_hpc.profile.features_pairs import Vectors, mean_cosine

MAX_EMBEDDED = 256
"""Rows that are embedded at most; of more rows, evenly spaced ones in their order."""

TIME_LIMIT_S = 600


def embed_pairs(
    pairs: Sequence[tuple[str, str]], *, n_threads: int = 1
) -> tuple[tuple[float, ...], float | None] | None:
    """Embed prompts and targets.

    Args:
        pairs: Prompt and target of every row, at least one row, in a fixed order.
        n_threads: Threads of the encoder.

    Returns:
        Mean vector of the prompts (384 numbers) and mean cosine of prompt and target; ``None`` if texts cannot be
        embedded here, for instance without the encoder's package.
    """
    sample = [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), MAX_EMBEDDED)).astype(int))]
    vectors = embed_texts([text for pair in sample for text in pair], n_threads=n_threads)
    if vectors is None:
        return None
    prompts, targets = vectors[::2], vectors[1::2]
    has_target = np.array([bool(target) for _, target in sample])
    mean = prompts.astype(np.float64).mean(axis=0)
    return tuple(float(f"{x:.6g}") for x in mean), mean_cosine(prompts[has_target], targets[has_target])


def embed_texts(texts: Sequence[str], *, n_threads: int = 1) -> Vectors | None:
    """Embed texts in a child process, (n_texts, 384); ``None`` if it fails; its messages go to stderr."""
    with TemporaryDirectory(prefix="xautolm-embed-") as name:
        folder = Path(name)
        (folder / "texts.json").write_text(json.dumps(list(texts)), encoding="utf-8")
        argv = [sys.executable, "-m", "xautolm_hpc.train", "embed", str(folder), str(n_threads)]
        try:
            ended = subprocess.run(argv, check=False, timeout=TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            return None
        path = folder / "vectors.npy"
        if ended.returncode != 0 or not path.exists():
            return None
        vectors: Vectors = np.load(path, allow_pickle=False)
        return vectors
