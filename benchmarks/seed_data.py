"""Makes DROP a task of extraction, and finds the rows that tasks share.

An extractive model can answer only some of DROP's questions. An answer that is no span of its passage is dropped. A
training question left without an answer is dropped too; one of validation or test stays, without an answer, and its F1
is 0, because the model always answers.
"""

import argparse
import gzip
import hashlib
import json
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

SPLITS = ("train", "validation", "test")


def make_extractive(rows: list[dict[str, Any]], *, is_train: bool) -> list[dict[str, Any]]:
    """Keep the answers that stand in their passages."""
    placed = [{**row, "answers": [a for a in row["answers"] if a in row["context"]]} for row in rows]
    return [row for row in placed if row["answers"]] if is_train else placed


def write_extractive(source: Path, folder: Path) -> str:
    """Write the three files and return how many questions of each can be answered."""
    folder.mkdir(parents=True, exist_ok=True)
    counts = []
    for split in SPLITS:
        with gzip.open(source / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        kept = make_extractive(rows, is_train=split == "train")
        with gzip.open(folder / f"{split}.jsonl.gz", "wt", encoding="utf-8") as out:
            out.writelines(json.dumps(row) + "\n" for row in kept)
        n_spans = sum(bool(row["answers"]) for row in kept)
        counts.append(f"{split}: {len(rows)} questions, {len(kept)} kept, {n_spans} answered by a span")
    return "\n".join(counts)


def row_digests(folder: Path) -> set[bytes]:
    """Compute the digests of a task's rows: its texts, or its contexts with their questions."""
    digests = set()
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                text = row.get("text") or f"{row['context']} {row['question']}"
                digests.add(hashlib.sha256(text.encode()).digest())
    return digests


def shared_rows(folders: list[Path]) -> dict[str, dict[str, float]]:
    """Find, for every two tasks, the largest share of one's rows that the other has, too."""
    digests = {folder.name: row_digests(folder) for folder in folders}
    shares: dict[str, dict[str, float]] = {name: {} for name in sorted(digests)}
    for a, b in combinations(sorted(digests), 2):
        share = len(digests[a] & digests[b]) / min(len(digests[a]), len(digests[b]))
        shares[a][b] = shares[b][a] = share
    return shares


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make DROP a task of extraction, or find the rows that tasks share.")
    parser.add_argument(
        "folders", type=Path, nargs="+", help="DROP's folder and one to write to; or with --shared, tasks"
    )
    parser.add_argument(
        "--shared", action="store_true", help="print the share of its rows that a task has in common with each other"
    )
    given = parser.parse_args()
    shown = json.dumps(shared_rows(given.folders), indent=1) if given.shared else write_extractive(*given.folders)
    sys.stdout.write(shown + "\n")
