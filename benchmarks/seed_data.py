"""Makes DROP a task of extraction: who points at a span can answer some of its questions only.

An answer that does not stand in its passage is dropped. A training question left without an answer goes; one of
validation or test stays without any, and since training knows no question without an answer, it counts 0.
"""

import argparse
import gzip
import json
import sys
from pathlib import Path
from typing import Any

SPLITS = ("train", "validation", "test")


def make_extractive(rows: list[dict[str, Any]], *, is_train: bool) -> list[dict[str, Any]]:
    """Keep the answers that stand in their passages."""
    placed = [{**row, "answers": [a for a in row["answers"] if a in row["context"]]} for row in rows]
    return [row for row in placed if row["answers"]] if is_train else placed


def write_extractive(source: Path, folder: Path) -> str:
    """Write the three files anew and say how many questions of each can be answered."""
    folder.mkdir(parents=True, exist_ok=True)
    said = []
    for split in SPLITS:
        with gzip.open(source / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        kept = make_extractive(rows, is_train=split == "train")
        with gzip.open(folder / f"{split}.jsonl.gz", "wt", encoding="utf-8") as out:
            out.writelines(json.dumps(row) + "\n" for row in kept)
        n_spans = sum(bool(row["answers"]) for row in kept)
        said.append(f"{split}: {len(rows)} questions, {len(kept)} kept, {n_spans} answered by a span")
    return "\n".join(said)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make DROP a task of extraction.")
    parser.add_argument("source", type=Path, help="folder of train, validation and test.jsonl.gz")
    parser.add_argument("folder", type=Path, help="folder to write to")
    given = parser.parse_args()
    sys.stdout.write(write_extractive(given.source, given.folder) + "\n")
