"""Generative question answering: the model writes the answer after a prompt, token by token.

Only the answer and its end token count in the loss. Answers are decoded greedily, in batches. A decoder's prompts are
padded on the left, so that every answer follows its prompt directly.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig

from xautolm_hpc.failures import FailureKind
from xautolm_hpc.train.data import Tokens, collate, pad
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.kinds.answers import SPAN_SEPARATOR, Reference, row_scores
from xautolm_hpc.train.kinds.metrics import Scores, score_answers
from xautolm_hpc.train.kinds.tasks import TaskContext, encode, references_of
from xautolm_hpc.train.ragged import pack

IGNORED = -100
"""Target of a token that does not count in the loss."""

LONGEST_ANSWER = 256
"""Tokens of an answer at most, however long the training answers are."""

LEAST_PROMPT = 8
"""Tokens of a prompt that must fit beside the longest answer, at least."""


class Prompt(NamedTuple):
    """What decoding and scoring need to know of a row.

    Attributes:
        ids: Token ids of the prompt.
        references: Accepted answers.
    """

    ids: Sequence[int]
    references: Sequence[Reference]


class WrittenAnswer(NamedTuple):
    """A written answer.

    Attributes:
        text: Its text.
        loss_sum: Summed loss of the tokens of the first reference.
    """

    text: str
    loss_sum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """Generative question answering with a decoder or an encoder-decoder model.

    Attributes:
        tokenizer: The model's tokeniser.
        family: ``decoder`` or ``seq2seq``.
        end_id: Token that ends an answer.
        start_id: First decoder token of an encoder-decoder model; ``None`` for a decoder.
        max_prompt: Tokens of a prompt at most.
        max_answer: Tokens of an answer at most, the end token included.
        metric: How answers are scored.
    """

    has_new_head: ClassVar[bool] = False
    tokenizer: Any
    family: str
    end_id: int
    start_id: int | None
    max_prompt: int
    max_answer: int
    metric: str

    @property
    def auto_class(self) -> str:
        """Name the class of transformers that builds the model."""
        return writing_class(self.family)

    def tokenise(self, rows: Sequence[dict[str, Any]]) -> Tokens:
        """Convert rows to the token ids of prompts and target answers."""
        prompts = self._prompts(rows)
        answers = self._answers([target_text(row) for row in rows])
        pairs = list(zip(prompts, answers, strict=True))
        if self.start_id is None:
            inputs = [[*prompt, *answer] for prompt, answer in pairs]
            columns = {
                "input_ids": inputs,
                "attention_mask": [[1] * len(ids) for ids in inputs],
                "labels": [[IGNORED] * len(prompt) + answer for prompt, answer in pairs],
            }
        else:
            columns = {
                "input_ids": prompts,
                "attention_mask": [[1] * len(prompt) for prompt in prompts],
                "decoder_input_ids": [[self.start_id, *answer[:-1]] for answer in answers],
                "labels": answers,
            }
        pad_id = self.tokenizer.pad_token_id
        padding = {"input_ids": pad_id, "attention_mask": 0, "decoder_input_ids": pad_id, "labels": IGNORED}
        return Tokens(
            columns=pack(columns),
            padding={name: padding[name] for name in columns},
            targets=np.zeros(len(rows), dtype=np.int64),  # unused: the targets are the column "labels", which is padded
            lengths=np.array([len(prompt) + len(answer) for prompt, answer in pairs], dtype=np.int64),
            weights=np.array([len(answer) for answer in answers], dtype=np.int64),
            facts=[Prompt(prompt, references_of(row)) for prompt, row in zip(prompts, rows, strict=True)],
        )

    def loss(self, model: nn.Module, inputs: dict[str, Tensor], *, targets: Tensor) -> Tensor:
        """Sum the cross-entropy over the answers' tokens."""
        return self._token_losses(model, inputs).sum()

    def answer(
        self, model: nn.Module, tokens: Tokens, *, rows: NDArray[np.int64], device: torch.device
    ) -> Sequence[WrittenAnswer]:
        """Write an answer to each prompt."""
        inputs, _ = collate(tokens, rows, device=device)
        losses = self._token_losses(model, inputs).sum(dim=1)  # (n_batch,)
        prompts = [tokens.facts[row].ids for row in rows]
        on_left = self.start_id is None
        ids = pad(prompts, value=self.tokenizer.pad_token_id, on_left=on_left).to(device)
        mask = pad([[1] * len(prompt) for prompt in prompts], value=0, on_left=on_left).to(device)
        writer: Any = model
        written = writer.generate(input_ids=ids, attention_mask=mask, generation_config=self.decoding())
        answers = written[:, ids.shape[1] :] if on_left else written[:, 1:]
        texts = self.tokenizer.batch_decode(answers, skip_special_tokens=True)
        return [WrittenAnswer(text.strip(), loss) for text, loss in zip(texts, losses.tolist(), strict=True)]

    def decoding(self) -> GenerationConfig:
        """Build the settings of greedy decoding; an exported model has them, too."""
        return GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=self.max_answer,
            do_sample=False,
            num_beams=1,
            eos_token_id=self.end_id,
            pad_token_id=self.tokenizer.pad_token_id,
            decoder_start_token_id=self.start_id,
        )

    def score(self, tokens: Tokens, answers: Sequence[Any]) -> Scores:
        """Score the answers; the loss is the mean over the tokens of the first references."""
        texts = [answer.text for answer in answers]
        pairs = row_scores(self.metric, texts, references=[prompt.references for prompt in tokens.facts])
        loss = math.fsum(answer.loss_sum for answer in answers) / int(tokens.weights.sum())
        return score_answers(pairs, loss=loss)

    def _token_losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Compute the loss of each token, 0 where it does not count: (n_batch, length)."""
        labels = inputs["labels"]
        logits = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits.float()
        if self.start_id is None:  # a decoder's logits predict the next token
            logits, labels = logits[:, :-1], labels[:, 1:]
        return cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")

    def _prompts(self, rows: Sequence[dict[str, Any]]) -> list[list[int]]:
        """Encode prompts; if one is too long, the end of its context is cut off until it fits."""
        contexts = [row["context"] for row in rows]
        while True:
            texts = [prompt_text(row["question"], context) for row, context in zip(rows, contexts, strict=True)]
            encoded = self.tokenizer(texts, split_special_tokens=True, return_offsets_mapping=True)
            ids: list[list[int]] = encoded["input_ids"]
            excess = [len(prompt) - self.max_prompt for prompt in ids]
            if not any(n > 0 and context for n, context in zip(excess, contexts, strict=True)):
                # If the question alone is too long, its beginning is cut off.
                return [prompt[-self.max_prompt :] for prompt in ids]
            for number, n_excess in enumerate(excess):
                if n_excess > 0:
                    contexts[number] = _cut(contexts[number], encoded["offset_mapping"][number], n_tokens=n_excess)

    def _answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode answers, each with its end token; a longer one is cut before that."""
        if self.start_id is None:
            spaced = [f" {text}" for text in texts]
            ids = self.tokenizer(spaced, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        else:
            ids = encode(self.tokenizer, texts, max_length=10**6)["input_ids"]
        bare = [answer[:-1] if answer and answer[-1] == self.end_id else answer for answer in ids]
        return [[*answer[: self.max_answer - 1], self.end_id] for answer in bare]


def build(task_context: TaskContext) -> Generation:
    """Build generative question answering; the longest training answer limits the length of answers.

    Raises:
        TrialError: The tokeniser has no token that ends a text, or no prompt fits beside the longest answer; kind
            ``unsupported``.
    """
    tokenizer, is_decoder = task_context.tokenizer, task_context.family == "decoder"
    if tokenizer.eos_token_id is None:
        raise TrialError(FailureKind.UNSUPPORTED, "the model's tokeniser has no token that ends a text")
    texts = [f" {target_text(row)}" for row in task_context.train_rows]
    longest = max(len(ids) for ids in tokenizer(texts, split_special_tokens=True)["input_ids"]) + 1
    max_answer = min(longest, LONGEST_ANSWER, task_context.n_positions or LONGEST_ANSWER)
    max_prompt = task_context.max_length - (max_answer if is_decoder else 0)
    if max_prompt < LEAST_PROMPT:
        raise TrialError(
            FailureKind.UNSUPPORTED,
            f"max_length = {task_context.max_length} leaves {max_prompt} tokens for a prompt beside the {max_answer} "
            f"of the longest answer; expected at least {LEAST_PROMPT}",
        )
    start_id = None if is_decoder else _start_id(task_context.config)
    return Generation(
        tokenizer=tokenizer,
        family=task_context.family,
        end_id=tokenizer.eos_token_id,
        start_id=start_id,
        max_prompt=max_prompt,
        max_answer=max_answer,
        metric=task_context.task.metric,
    )


def writing_class(family: str) -> str:
    """Name the class of transformers that builds a model of a family to write answers."""
    return "AutoModelForCausalLM" if family == "decoder" else "AutoModelForSeq2SeqLM"


def prompt_text(question: str, context: str) -> str:
    """Write the prompt of a question."""
    return f"Context: {context} Question: {question} Answer:"


def target_text(row: dict[str, Any]) -> str:
    """Write the target answer: the first reference, empty if the question has no answer."""
    return SPAN_SEPARATOR.join(next(iter(references_of(row)), ()))


def _start_id(config: Any) -> int:
    start_id = getattr(config, "decoder_start_token_id", None)
    return int(config.pad_token_id if start_id is None else start_id)


def _cut(context: str, offsets: Sequence[tuple[int, int]], *, n_tokens: int) -> str:
    """Remove at least ``n_tokens`` tokens from the end of a context, given the offsets of the tokens in its prompt."""
    before = len("Context: ")
    inside = [start - before for start, end in offsets if end > start and before <= start < before + len(context)]
    return context[: max(inside[-n_tokens], 0)].rstrip() if n_tokens < len(inside) else ""
