"""Spans, targets and scores are those of a search over all pairs of tokens and of a walk over all characters."""

import gzip
import json
import re
import string
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoTokenizer

from tests.train.attempts import minilm
from xautolm_hpc.train.kinds.answers import row_scores
from xautolm_hpc.train.kinds.extraction import NO_SPAN, Extraction
from xautolm_hpc.train.pretrained import find_source

CPU = torch.device("cpu")
TOKENIZER = AutoTokenizer.from_pretrained(find_source(minilm(), None).place)


def _extraction(*, longest_answer: int, may_abstain: bool = False, max_length: int = 64) -> Extraction:
    return Extraction(
        tokenizer=TOKENIZER, max_length=max_length, longest_answer=longest_answer, may_abstain=may_abstain,
        metric="squad-f1",
    )  # fmt: skip


class Logits:
    """Is called like a model and answers with given logits, coarse ones so that some are equal."""

    def __init__(self, seed: int, *, levels: int) -> None:
        self._rng, self._levels = np.random.default_rng(seed), levels
        self.given: list[Tensor] = []

    def __call__(self, **inputs: Tensor) -> Any:
        shape = (2, *inputs["input_ids"].shape)
        self.given.append(torch.from_numpy(self._rng.integers(0, self._levels, size=shape).astype(np.float32) / 7))
        return SimpleNamespace(start_logits=self.given[-1][0], end_logits=self.given[-1][1])


def _walked_target(answers: Sequence[dict[str, Any]], spans: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Find the target of a window, token by token."""
    for answer in answers:
        start, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
        covered = [number for number, span in enumerate(spans) if span[1] > start and span[0] < end and span != NO_SPAN]
        if covered and spans[covered[0]][0] <= start and spans[covered[-1]][1] >= end:
            return covered[0], covered[-1]
    return NO_SPAN


def _best_of_all_pairs(logits: Tensor, windows: Sequence[Any], *, longest_answer: int) -> list[tuple[int, int, float]]:
    """Find the best span of each window among all pairs of tokens: first and last token, and its score."""
    starts, ends = logits
    inside = torch.zeros_like(starts, dtype=torch.bool)
    for place, window in enumerate(windows):
        inside[place, : len(window.spans)] = torch.tensor([bool(end > start) for start, end in window.spans])
    totals = starts[:, :, None] + ends[:, None, :]
    allowed = torch.ones_like(totals, dtype=torch.bool).triu().tril(longest_answer - 1)
    allowed &= inside[:, :, None] & inside[:, None, :]
    best, places = totals.masked_fill(~allowed, -torch.inf).flatten(1).max(dim=1)
    length = starts.shape[1]
    return [
        (place // length, place % length, score) for place, score in zip(places.tolist(), best.tolist(), strict=True)
    ]


def _walked_scores(answer: str, references: Sequence[str]) -> tuple[float, float]:
    """Score an answer as SQuAD's script does, character by character."""

    def words(text: str) -> list[str]:
        plain = "".join(character for character in text.lower() if character not in set(string.punctuation))
        return re.sub(r"\b(a|an|the)\b", " ", plain).split()

    pairs = []
    for reference in references:
        given, gold = words(answer), words(reference)
        exact = float(given == gold)
        n_common = (Counter(given) & Counter(gold)).total()
        f1 = exact if not given or not gold else 2 * n_common / (len(given) + len(gold))
        pairs.append((exact, f1))
    return max(exact for exact, _ in pairs), max(f1 for _, f1 in pairs)


def _check(rows: Sequence[dict[str, Any]], *, extraction: Extraction, batch: int, levels: int, seed: int) -> None:
    """Compare targets, spans and scores of some rows with those found one by one."""
    tokens = extraction.tokenise(rows)
    for window, target in zip(tokens.facts, tokens.targets, strict=True):
        spans = [tuple(span) for span in window.spans.tolist()]
        assert tuple(target) == _walked_target(rows[window.question]["answers"], spans)
    logits = Logits(seed, levels=levels)
    model: Any = logits

    answers: list[Any] = []
    for begin in range(0, len(tokens), batch):
        numbers = np.arange(begin, min(begin + batch, len(tokens)))
        answers += extraction.answer(model, tokens, rows=numbers, device=CPU)
        windows = [tokens.facts[number] for number in numbers.tolist()]
        expected = _best_of_all_pairs(logits.given[-1], windows, longest_answer=extraction.longest_answer)
        found = answers[begin:]
        assert [(answer.start, answer.end, answer.score) for answer in found] == expected
        assert [answer.none_score for answer in found] == logits.given[-1][:, :, 0].sum(dim=0).tolist()

    texts = extraction.best_answers(tokens, answers)
    references = [[answer["text"] for answer in row["answers"]] or [""] for row in rows]
    pairs = row_scores("squad-f1", texts, references=[[(text,) for text in accepted] for accepted in references])
    expected_pairs = [_walked_scores(text, accepted) for text, accepted in zip(texts, references, strict=True)]
    assert [tuple(pair) for pair in pairs.tolist()] == expected_pairs


@given(
    seed=st.integers(0, 99), longest_answer=st.integers(1, 80), levels=st.sampled_from([1, 3, 1000]),
    n_words=st.lists(st.integers(1, 90), min_size=1, max_size=4), may_abstain=st.booleans(),
)  # fmt: skip
def test_the_best_span_is_that_of_all_pairs(
    seed: int, longest_answer: int, levels: int, n_words: list[int], may_abstain: bool
) -> None:
    rng = np.random.default_rng(seed)
    rows = []
    for n in n_words:
        words = rng.choice(["The", "old", "mill,", "stands", "by", "an", "unbelievable", "river."], size=n).tolist()
        first = int(rng.integers(n))
        start = len(" ".join([*words[:first], ""]))
        text = " ".join(words[first : first + 3])
        answers = [] if may_abstain and first % 2 else [{"text": text, "answer_start": start}]
        rows.append({"question": "What is it?", "context": " ".join(words), "answers": answers})

    extraction = _extraction(longest_answer=longest_answer, may_abstain=may_abstain, max_length=32)

    _check(rows, extraction=extraction, batch=3, levels=levels, seed=seed)


@pytest.mark.parametrize("max_length", [128, 384])
def test_real_questions_are_answered_and_scored_as_one_by_one(shared_dir: Path, max_length: int) -> None:
    packed = (shared_dir / "datasets" / "squad" / "validation.jsonl.gz").read_bytes()
    rows = [json.loads(line) for line in gzip.decompress(packed).splitlines()][:120]

    extraction = _extraction(longest_answer=33, max_length=max_length)

    _check(rows, extraction=extraction, batch=16, levels=400, seed=0)
