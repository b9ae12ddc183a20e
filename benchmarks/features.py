"""Measures the meta-features over 120,000 made-up texts: seconds and memory, semantic vectors apart."""

import json
import resource
import subprocess
import sys
import time

import numpy as np

from benchmarks.goals import Goal, run
from xautolm_hpc.profile.features import describe_rows
from xautolm_hpc.profile.features_pairs import describe_pairs, make_prompt
from xautolm_hpc.profile.rows import Row

N = 120_000
LIMIT_S, LIMIT_MIB = 60.0, 2048.0
MEAN_WORDS = {"classification": 38, "pairs": 130}
"""Words of a text: those of AG News, and of SQuAD's question with its context."""


def texts(n: int, *, mean_words: int) -> list[str]:
    """Make texts of words drawn as in natural text: a few often, most seldom."""
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlcumwfgypbvk"))
    vocabulary = np.array(["".join(rng.choice(letters, rng.integers(2, 11))) for _ in range(50_000)])
    lengths = rng.poisson(mean_words, n)
    ranks = np.minimum(rng.zipf(1.2, int(lengths.sum())), len(vocabulary)) - 1
    words, ends = vocabulary[ranks], np.cumsum(lengths)
    return [" ".join(part) + "." for part in np.split(words, ends[:-1])]


def measure_one(kind: str, n: int) -> None:
    """Measure one schema and print seconds and MiB, as JSON."""
    made = texts(n, mean_words=MEAN_WORDS[kind])
    start_s = time.perf_counter()
    if kind == "pairs":
        pairs = [(make_prompt(text, text[:60]), text[20:45]) for text in made]
        described = describe_pairs(pairs, cosine=None)
    else:
        rows = [Row(text, f"label-{len(text) % 4}") for text in made]
        described = describe_rows(rows, n_threads=2)
    seconds = time.perf_counter() - start_s
    assert described[0] == n
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def measure(n: int = N) -> list[Goal]:
    """Measure both schemas, each in a process of its own."""
    goals = []
    for kind in MEAN_WORDS:
        printed = subprocess.run(
            [sys.executable, "-m", "benchmarks.features", kind, str(n)], check=True, capture_output=True, text=True
        )
        seconds, mib = json.loads(printed.stdout)
        goals += [
            Goal(f"{kind}, {n:,} texts", seconds, LIMIT_S, "s"),
            Goal(f"{kind}, memory of the whole process", mib, LIMIT_MIB, "MiB"),
        ]
    return goals


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] in MEAN_WORDS:
        measure_one(sys.argv[1], int(sys.argv[2]))
    else:
        sys.exit(run(measure))
