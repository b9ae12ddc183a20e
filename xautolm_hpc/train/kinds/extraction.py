"""Extractive question answering: where in its context an answer begins and ends.

A context longer than the model's input is cut into overlapping windows. The target of a window without the answer is
its first token. The best span of all windows of a question is its answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from xautolm_hpc.train.data import Tokens, collate
from xautolm_hpc.train.kinds.answers import Reference, row_scores
from xautolm_hpc.train.kinds.metrics import Scores, score_answers
from xautolm_hpc.train.kinds.tasks import TaskContext, padding_of, references_of, shorten
from xautolm_hpc.train.ragged import pack

STRIDE_SHARE = 0.25
"""Share of ``max_length`` by which two windows overlap."""

QUESTION_SHARE = 0.5
"""Share of ``max_length`` that a question may take; the end of a longer one is cut off."""

NO_SPAN = (0, 0)
"""Target of a window without the answer: its first token."""


class Window(NamedTuple):
    """What scoring needs to know of a window.

    Attributes:
        question: Number of its question in the split.
        context: The whole context.
        spans: First and last character (exclusive) of each token in the context, (n_tokens, 2); (0, 0) outside it.
        references: Accepted answers.
    """

    question: int
    context: str
    spans: NDArray[np.int64]
    references: Sequence[Reference]


class SpanAnswer(NamedTuple):
    """The best span of a window.

    Attributes:
        start: First token.
        end: Last token.
        score: Sum of both logits.
        none_score: Sum of both logits of :data:`NO_SPAN`.
        loss: Loss of the window.
    """

    start: int
    end: int
    score: float
    none_score: float
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """Extractive question answering.

    Attributes:
        tokenizer: The model's tokeniser.
        max_length: Tokens of a window at most, question included.
        longest_answer: Tokens of an answer at most.
        may_abstain: Whether some training question has no answer; then "no answer" is an answer too.
        metric: How answers are scored.
    """

    auto_class: ClassVar[str] = "AutoModelForQuestionAnswering"
    has_new_head: ClassVar[bool] = True
    tokenizer: Any
    max_length: int
    longest_answer: int
    may_abstain: bool
    metric: str

    def tokenise(self, rows: Sequence[dict[str, Any]]) -> Tokens:
        """Split every row into windows; each window is a sample."""
        questions = shorten(
            self.tokenizer, [row["question"] for row in rows], max_length=int(self.max_length * QUESTION_SHARE)
        )
        encoded = self.tokenizer(
            questions,
            [row["context"] for row in rows],
            truncation="only_second",
            max_length=self.max_length,
            stride=self._stride(questions),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            split_special_tokens=True,
            padding=False,
        )
        padding = padding_of(self.tokenizer)
        packed = pack({name: encoded[name] for name in padding if name in encoded})
        references = [references_of(row) for row in rows]
        windows = [
            Window(question, rows[question]["context"], _spans(encoded, number), references[question])
            for number, question in enumerate(encoded["overflow_to_sample_mapping"])
        ]
        targets = [_target(rows[window.question]["answers"], window.spans) for window in windows]
        return Tokens(
            columns=packed,
            padding={name: padding[name] for name in packed},
            targets=np.array(targets, dtype=np.int64),
            lengths=packed["input_ids"].lengths,
            weights=np.ones(len(windows), dtype=np.int64),
            facts=windows,
        )

    def _stride(self, questions: Sequence[str]) -> int:
        """Compute by how many tokens windows overlap; fewer than fit beside the longest question."""
        longest = max(len(ids) for ids in self.tokenizer(list(questions), add_special_tokens=False)["input_ids"])
        n_special = self.tokenizer.num_special_tokens_to_add(pair=True)
        n_context = self.max_length - longest - n_special
        return max(0, min(int(self.max_length * STRIDE_SHARE), n_context - 1))

    def loss(self, model: nn.Module, inputs: dict[str, Tensor], *, targets: Tensor) -> Tensor:
        """Sum over windows the mean cross-entropy of begin and end."""
        return _losses(model(**inputs), targets, mask=inputs["attention_mask"]).sum()

    def answer(
        self, model: nn.Module, tokens: Tokens, *, rows: NDArray[np.int64], device: torch.device
    ) -> Sequence[SpanAnswer]:
        """Find the best span of each window."""
        inputs, targets = collate(tokens, rows, device=device)
        output = model(**inputs)
        losses = _losses(output, targets, mask=inputs["attention_mask"])
        starts, ends = output.start_logits.float(), output.end_logits.float()  # (n_batch, length)
        inside = np.zeros(starts.shape, dtype=np.bool_)
        for place, row in enumerate(rows):
            spans = tokens.facts[row].spans
            inside[place, : len(spans)] = spans[:, 1] > spans[:, 0]
        width = min(self.longest_answer, starts.shape[1])
        best, places = _best_spans(starts, ends, inside=torch.from_numpy(inside).to(device), width=width)
        nones = starts[:, 0] + ends[:, 0]
        return [
            SpanAnswer(place // width, place // width + place % width, score, none, loss)
            for place, score, none, loss in zip(
                places.tolist(), best.tolist(), nones.tolist(), losses.tolist(), strict=True
            )
        ]

    def score(self, tokens: Tokens, answers: Sequence[Any]) -> Scores:
        """Score the best span of each question's windows."""
        references = {window.question: window.references for window in tokens.facts}
        texts = self.best_answers(tokens, answers)
        pairs = row_scores(self.metric, texts, references=[references[q] for q in sorted(references)])
        return score_answers(pairs, loss=float(np.mean([answer.loss for answer in answers])))

    def best_answers(self, tokens: Tokens, answers: Sequence[Any]) -> list[str]:
        """Return the best span of each question's windows, by question; empty where there is no answer."""
        best: dict[int, tuple[float, str]] = {}
        for window, answer in zip(tokens.facts, answers, strict=True):
            abstains = self.may_abstain and answer.none_score >= answer.score
            text = "" if abstains else _text(window, answer)
            # A window without the answer abstains; it must not win against a window that has found it.
            score = answer.score - (answer.none_score if self.may_abstain else 0.0)
            if window.question not in best or score > best[window.question][0]:
                best[window.question] = (score, text)
        return [best[question][1] for question in sorted(best)]


def build(task_context: TaskContext) -> Extraction:
    """Build extractive question answering."""
    answers = [answer["text"] for row in task_context.train_rows for answer in row["answers"]]
    encoded = task_context.tokenizer(answers, add_special_tokens=False)["input_ids"] if answers else []
    task_context.tokenizer.padding_side = "right"
    task_context.config.num_labels = 2  # begin and end; the loaded weights may be those of a classifier with more
    return Extraction(
        tokenizer=task_context.tokenizer,
        max_length=task_context.max_length,
        longest_answer=max(map(len, encoded), default=1) + 1,  # a word inside a text may take a token more
        may_abstain=any(not row["answers"] for row in task_context.train_rows),
        metric=task_context.task.metric,
    )


def _spans(encoded: Any, number: int) -> NDArray[np.int64]:
    """Return the characters of each token of a window that lies in the context, (n_tokens, 2)."""
    is_context = np.array([part == 1 for part in encoded.sequence_ids(number)])
    offsets = np.array(encoded["offset_mapping"][number], dtype=np.int64)
    return np.where(is_context[:, None], offsets, NO_SPAN)


def _target(answers: Sequence[dict[str, Any]], spans: NDArray[np.int64]) -> tuple[int, int]:
    """Find the first and last token of the first answer that lies wholly in the window."""
    begins, ends = spans.T
    for answer in answers:
        start, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
        (covered,) = np.nonzero((ends > start) & (begins < end) & ((begins != 0) | (ends != 0)))
        if len(covered) and begins[covered[0]] <= start and ends[covered[-1]] >= end:
            return int(covered[0]), int(covered[-1])
    return NO_SPAN


def _best_spans(starts: Tensor, ends: Tensor, *, inside: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Find the best span of each window; of equals the one that begins first, then the shortest.

    Args:
        starts: Logits of each token as the first one, (n_batch, length).
        ends: Logits of each token as the last one, likewise.
        inside: Whether a token lies in the context, likewise.
        width: Tokens of a span at most, at most ``length``.

    Returns:
        Sum of both logits, (n_batch,), minus infinity if no token lies inside; and its place, (n_batch,): first token
        times ``width`` plus further tokens.
    """
    last = pad(ends, (0, width - 1)).unfold(1, width, 1)  # (n_batch, length, width)
    may_end = pad(inside, (0, width - 1)).unfold(1, width, 1)
    totals = (starts[:, :, None] + last).masked_fill(~(inside[:, :, None] & may_end), -torch.inf)
    best, places = totals.flatten(1).max(dim=1)
    return best, places


def _losses(output: Any, targets: Tensor, *, mask: Tensor) -> Tensor:
    """Compute each window's loss, (n_batch,), over its own tokens: how far it is padded does not matter."""
    logits = torch.stack([output.start_logits.float(), output.end_logits.float()])  # (2, n_batch, length)
    logits = logits.masked_fill(mask == 0, torch.finfo(logits.dtype).min)
    starts, ends = (cross_entropy(logits[n], targets[:, n], reduction="none") for n in (0, 1))
    return (starts + ends) / 2


def _text(window: Window, answer: SpanAnswer) -> str:
    return window.context[window.spans[answer.start, 0] : window.spans[answer.end, 1]].strip()
