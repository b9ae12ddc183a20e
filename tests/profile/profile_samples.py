"""Small data sets and requests for the tests of the profile step."""

import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tests.nouns import system
from xautolm_hpc.jobdir import ProfileRequest
from xautolm_hpc.profile.rows import Row

NODE = system(site="site-a", cluster="alpha", n_cpu_cores=4, n_gpus=0)
WORDS = ["node", "queue", "disk", "quota", "module", "compiler", "licence", "account", "driver", "memory", "budget"]


def sample_rows(n_rows: int, *, labels: Sequence[str] = ("jobs", "storage"), seed: int = 0) -> list[Row]:
    """Make rows of different texts, labels in turn."""
    rng = np.random.default_rng(seed)
    return [
        Row(f"{' '.join(rng.choice(WORDS, size=4))} number{seed}x{index}", labels[index % len(labels)])
        for index in range(n_rows)
    ]


def write_jsonl(path: Path, rows: Iterable[Row]) -> Path:
    """Write rows as JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row._asdict()) + "\n" for row in rows), encoding="utf-8")
    return path


def make_request(data_path: Path, out_dir: Path, *, seed: int = 13, **rows: int) -> ProfileRequest:
    """Ask for the profile of a data set; ``rows`` may hold ``train``, ``validation`` and ``test``."""
    return ProfileRequest(
        task_name="tickets",
        task_kind="text-classification",
        data_path=str(data_path),
        text_column="text",
        label_column="label",
        train_rows=rows.get("train"),
        validation_rows=rows.get("validation"),
        test_rows=rows.get("test"),
        split_seed=seed,
        data_dir=str(out_dir / "data"),
        cache_dir=str(out_dir / "cache"),
    )


def read_split(request: ProfileRequest, name: str) -> list[Row]:
    """Read a split back."""
    with gzip.open(Path(request.data_dir) / f"{name}.jsonl.gz", "rt", encoding="utf-8", newline="\n") as file:
        return [Row(**json.loads(line)) for line in file]
