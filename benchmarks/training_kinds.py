"""The kinds of task in the training benchmark: samples, head, F1."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import transformers
from sklearn.metrics import f1_score

from xautolm_hpc.train.kinds.answers import row_scores
from xautolm_hpc.train.kinds.tasks import references_of

Rows = list[dict[str, Any]]
LONGEST_SPAN = 30
"""Tokens of an answer at most, as usual for SQuAD."""


class TrainedTask(Protocol):
    """A kind of task as XAutoLM's recipe and the Trainer need it."""

    @property
    def name(self) -> str:
        """Name the kind of task."""
        ...

    @property
    def metric(self) -> str:
        """Name what F1 is."""
        ...

    @property
    def auto_class(self) -> str:
        """Name the class of transformers that has the head."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Name the classes, if there are any."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """Return what the model's configuration must say."""
        ...

    def encode(self, tokenizer: Any, rows: Rows, *, max_length: int, padding: str | bool) -> list[dict[str, Any]]:
        """Turn rows into samples, their targets as the model's own loss names them."""
        ...

    def f1(self, model: Any, tokenizer: Any, *, rows: Rows, max_length: int) -> float:
        """Score a model on rows."""
        ...


@dataclass(frozen=True)
class Labels:
    """Text classification.

    Attributes:
        labels: Label names.
    """

    labels: tuple[str, ...]
    name: str = "text-classification"
    metric: str = "macro-f1"
    auto_class: str = "AutoModelForSequenceClassification"

    @property
    def settings(self) -> dict[str, Any]:
        """Return what the model's configuration must say."""
        return {"num_labels": len(self.labels)}

    def encode(self, tokenizer: Any, rows: Rows, *, max_length: int, padding: str | bool) -> list[dict[str, Any]]:
        """Turn rows into samples."""
        texts = [row["text"] for row in rows]
        encoded = tokenizer(texts, padding=padding, truncation=True, max_length=max_length)
        targets = [{"labels": self.labels.index(row["label"])} for row in rows]
        return [{name: encoded[name][number] for name in encoded} | target for number, target in enumerate(targets)]

    def f1(self, model: Any, tokenizer: Any, *, rows: Rows, max_length: int) -> float:
        """Compute the macro-F1."""
        answers: list[int] = []
        for start in range(0, len(rows), 32):
            texts = [row["text"] for row in rows[start : start + 32]]
            inputs = tokenizer(texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
            answers += model(**inputs.to(model.device)).logits.argmax(-1).tolist()
        return float(f1_score([self.labels.index(row["label"]) for row in rows], answers, average="macro"))


@dataclass(frozen=True)
class Spans:
    """Extractive question answering; of a context longer than ``max_length`` the end is cut off."""

    name: str = "question-answering"
    metric: str = "squad-f1"
    auto_class: str = "AutoModelForQuestionAnswering"
    labels: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """Return what the model's configuration must say: nothing."""
        return {}

    def encode(self, tokenizer: Any, rows: Rows, *, max_length: int, padding: str | bool) -> list[dict[str, Any]]:
        """Turn rows into samples; an answer that was cut off is the first token."""
        encoded = _pairs(tokenizer, rows, max_length=max_length, padding=padding)
        offsets = encoded.pop("offset_mapping")
        samples = []
        for number, row in enumerate(rows):
            inside = [part == 1 for part in encoded.sequence_ids(number)]
            start, end = _target(row["answers"][0], offsets[number], inside=inside)
            ids = {name: encoded[name][number] for name in encoded}
            samples.append(ids | {"start_positions": start, "end_positions": end})
        return samples

    def f1(self, model: Any, tokenizer: Any, *, rows: Rows, max_length: int) -> float:
        """Compute SQuAD's token F1."""
        texts: list[str] = []
        for first in range(0, len(rows), 16):
            batch = rows[first : first + 16]
            encoded = _pairs(tokenizer, batch, max_length=max_length, padding=True)
            offsets = encoded.pop("offset_mapping")
            output = model(**{name: torch.tensor(encoded[name]).to(model.device) for name in encoded})
            for number, row in enumerate(batch):
                inside = torch.tensor([part == 1 for part in encoded.sequence_ids(number)])
                start, end = _best_span(
                    output.start_logits[number].cpu(), output.end_logits[number].cpu(), inside=inside
                )
                texts.append(row["context"][offsets[number][start][0] : offsets[number][end][1]])
        pairs = row_scores("squad-f1", texts, references=[references_of(row) for row in rows])
        return float(pairs[:, 1].mean())


def _pairs(tokenizer: Any, rows: Sequence[dict[str, Any]], *, max_length: int, padding: str | bool) -> Any:
    encode = partial(tokenizer, truncation="only_second", max_length=max_length, return_offsets_mapping=True)
    return encode([row["question"] for row in rows], [row["context"] for row in rows], padding=padding)


def _target(answer: dict[str, Any], offsets: Sequence[tuple[int, int]], *, inside: Sequence[bool]) -> tuple[int, int]:
    """Find the first and last token of an answer, or the first token of all if it is not there whole."""
    begin, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
    starts = [n for n, span in enumerate(offsets) if inside[n] and span[0] <= begin < span[1]]
    ends = [n for n, span in enumerate(offsets) if inside[n] and span[0] < end <= span[1]]
    return (starts[0], ends[0]) if starts and ends else (0, 0)


def _best_span(starts: torch.Tensor, ends: torch.Tensor, *, inside: torch.Tensor) -> tuple[int, int]:
    allowed = torch.ones(len(starts), len(starts), dtype=torch.bool).triu().tril(LONGEST_SPAN - 1)
    allowed &= inside[:, None] & inside[None, :]
    place = int((starts[:, None] + ends[None, :]).masked_fill(~allowed, -torch.inf).argmax())
    start, end = np.unravel_index(place, allowed.shape)
    return int(start), int(end)


def load(
    kind: TrainedTask, folder: str, *, layers: int | None, seed: int, dropout_rate: float | None = None
) -> tuple[Any, Any]:
    """Load a model with a new head, cut to its blocks and with a dropout of its own, and its tokeniser."""
    torch.manual_seed(seed)
    kept: dict[str, Any] = {} if layers is None else {"num_hidden_layers": layers}
    if dropout_rate is not None:
        kept |= {"hidden_dropout_prob": dropout_rate, "attention_probs_dropout_prob": dropout_rate}
    loader = getattr(transformers, kind.auto_class)
    model = loader.from_pretrained(folder, local_files_only=True, **kind.settings, **kept)
    return model, transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


def read_rows(path: Path) -> Rows:
    """Read a file of the data that lies beside the repository."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
