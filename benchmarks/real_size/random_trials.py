"""Trials of models of real size with random weights, prepared and trained as the worker does; no files of a model.

Only what would be read from a model's files is put in their place: configuration, tokeniser and weights.
"""

import copy
import gzip
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PretrainedConfig, PreTrainedTokenizerFast
from transformers.initialization import no_init_weights

from benchmarks.real_size.published import published_config
from xautolm_hpc.catalogue import Model, load_catalogue
from xautolm_hpc.execution import Execution, StepMode
from xautolm_hpc.jobdir import Command, TrialInput, TrialPlan
from xautolm_hpc.records import Pipeline, Task, Value
from xautolm_hpc.sample.estimates import evaluation_batch
from xautolm_hpc.train import prepare
from xautolm_hpc.train.fit.base_config import apply_dropout
from xautolm_hpc.train.pretrained import Loading, Source

N_WORDS = 200
SPECIAL = ("[PAD]", "[EOS]", "[BOS]", "[UNK]")
LABELS = ("0", "1")
LEAST_PARAMS: Mapping[str, Value] = {"learning_rate": 1e-5, "epochs": 1}


@dataclass(frozen=True, kw_only=True)
class RandomTrial:
    """What is trained, and how.

    Attributes:
        model: Id of a model in ``published_configs.toml``.
        method: Method.
        batch_size: Samples of a batch.
        tokens: Tokens of every text.
        params: Further hyperparameters.
        kind: Kind of task.
        gradient_checkpointing: Whether activations are computed again.
        micro_batch: Samples of a forward pass; ``None`` takes the whole batch.
        step: How steps are asked to be computed: one of :class:`StepMode`.
    """

    model: str
    method: str
    batch_size: int
    tokens: int
    params: Mapping[str, Value] = field(default_factory=dict)
    kind: str = "text-classification"
    gradient_checkpointing: bool = False
    micro_batch: int | None = None
    step: str = StepMode.EAGER.value

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline."""
        own = {"batch_size": self.batch_size, "max_length": self.tokens}
        return Pipeline(
            task_kind=self.kind,
            model_id=self.model,
            model_revision=None,
            method=self.method,
            params={**LEAST_PARAMS, **own, **self.params},
        )

    def task(self, n_train: int, n_dev: int) -> Task:
        """Describe a task whose texts all have the same length."""
        metric = "macro-f1" if self.kind == "text-classification" else "squad-f1"
        labels = LABELS if self.kind == "text-classification" else ()
        length = float(self.tokens)
        return Task(
            name="random", kind=self.kind, dataset_id="", fingerprint="", metric=metric, n_train=n_train, n_dev=n_dev,
            n_validation=n_dev, n_test=0, labels=labels, feature_schema="", features=(),
            length_tokens=(length, length, length),
        )  # fmt: skip

    def execution(self, model: Model) -> Execution:
        """Return how its steps are computed, with the evaluation batch that a plan would give."""
        execution = Execution(micro_batch=self.micro_batch, gradient_checkpointing=self.gradient_checkpointing)
        n_evaluated = evaluation_batch(self.pipeline, model, task=self.task(1, 1), execution=execution)
        return Execution(
            micro_batch=self.micro_batch,
            gradient_checkpointing=self.gradient_checkpointing,
            evaluation_batch=n_evaluated,
        )


def write_inputs(
    trial: RandomTrial, folder: Path, *, n_train: int, n_dev: int, time_limit_s: float
) -> prepare.AttemptInputs:
    """Write the data of a trial into a folder and describe the trial to the worker.

    Args:
        trial: What is trained.
        folder: A new folder.
        n_train: Rows of ``train``.
        n_dev: Rows of ``dev`` and of ``validation``.
        time_limit_s: Budget of training and evaluation, in seconds.
    """
    digests = {}
    for name, n_rows in {"train": n_train, "dev": n_dev, "validation": n_dev}.items():
        lines = "".join(json.dumps(_row(trial, number)) + "\n" for number in range(n_rows))
        packed = gzip.compress(lines.encode(), compresslevel=1, mtime=0)
        (folder / f"{name}.jsonl.gz").write_bytes(packed)
        digests[name] = sha256(packed).hexdigest()
    command = Command(
        argv=(), time_limit_s=time_limit_s, wall_limit_s=math.inf, memory_bytes=0, n_threads=torch.get_num_threads(),
        heartbeat_s=3600, deterministic=False, enforce_limits=False, environment={}, site="", cluster="",
    )  # fmt: skip
    model = load_catalogue()[trial.model]
    return prepare.AttemptInputs(
        attempt_dir=folder,
        command=command,
        trial=TrialInput(task=trial.task(n_train, n_dev), data_dir=str(folder), sha256=digests),
        plan=TrialPlan(pipeline=trial.pipeline, model=model, seed=1, execution=trial.execution(model), step=trial.step),
        expects_gpu=torch.cuda.is_available(),
    )


@contextmanager
def random_weights(model_id: str) -> Iterator[None]:
    """Make trials of a model find a tokeniser of words, its published configuration and random weights.

    Args:
        model_id: Id of a model in ``published_configs.toml``.
    """
    config = published_config(model_id)
    tokenizer = word_tokenizer(is_decoder=load_catalogue()[model_id].family == "decoder")

    def find_source(model: Model, hf_home: str | None) -> Source:
        del model, hf_home
        return Source(place="", options={}, remedy="")

    def load_tokenizer(source: Source, model: Model) -> Any:
        del source, model
        return copy.deepcopy(tokenizer)

    def load_config(source: Source, model: Model, *, dropout_rate: float | None, tokenizer: Any) -> PretrainedConfig:
        del source, model
        own = copy.deepcopy(config)
        own.pad_token_id, own.eos_token_id, own.bos_token_id = (
            tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id,
        )  # fmt: skip
        if dropout_rate is not None:
            apply_dropout(own, dropout_rate)
        return own

    def load_model(source: Source, model: Model, **options: Any) -> tuple[Any, tuple[str, ...]]:
        del source, model
        loading: Loading = options["loading"]
        return random_model(options["config"], auto_class=options["auto_class"], dtype=loading.dtype), ()

    replaced = {
        "find_source": find_source,
        "load_tokenizer": load_tokenizer,
        "load_config": load_config,
        "load_model": load_model,
    }
    kept = {name: getattr(prepare, name) for name in replaced}
    try:
        for name, replacement in replaced.items():
            setattr(prepare, name, replacement)
        yield
    finally:
        for name, own in kept.items():
            setattr(prepare, name, own)


def random_model(config: PretrainedConfig, *, auto_class: str, dtype: torch.dtype) -> Any:
    """Build a model with the head of a task on the CPU; its weights repeat a million random numbers."""
    with no_init_weights():
        model: Any = getattr(transformers, auto_class).from_config(config, dtype=dtype)
    model.tie_weights()
    chunk = (0.02 * torch.randn(1 << 20)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.fill_(1.0)
                continue
            flat = parameter.view(-1)
            for start in range(0, len(flat), len(chunk)):
                part = flat[start : start + len(chunk)]
                part.copy_(chunk[: len(part)])
    return model


def word_tokenizer(*, is_decoder: bool) -> PreTrainedTokenizerFast:
    """Build a tokeniser of whole words, which begins texts as Llama or ends them as BERT does."""
    words = (*SPECIAL, *map(_word, range(N_WORDS)), "Context", "Question", "Answer", ":")
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))  # noqa: S106 the token of unknown words
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[BOS]", 2), ("[EOS]", 1)]
    if is_decoder:
        backend.post_processor = processors.TemplateProcessing("[BOS] $A", "[BOS] $A $B", ends[:1])
    else:
        backend.post_processor = processors.TemplateProcessing("[BOS] $A [EOS]", "[BOS] $A [EOS] $B [EOS]", ends)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, unk_token="[UNK]", bos_token="[BOS]", eos_token="[EOS]", pad_token="[PAD]",  # noqa: S106 tokens of words
        cls_token="[BOS]", sep_token="[EOS]", model_max_length=1 << 20,  # noqa: S106 tokens of words
    )  # fmt: skip


def _word(number: int) -> str:
    return f"w{number % N_WORDS}"


def _row(trial: RandomTrial, number: int) -> dict[str, Any]:
    """Write a row whose text is cut to the length of the trial."""
    words = [_word(number + place) for place in range(trial.tokens)]
    if trial.kind == "text-classification":
        return {"text": " ".join(words), "label": LABELS[number % len(LABELS)]}
    n_context = trial.tokens - 6 if trial.kind == "question-answering" else trial.tokens
    context = " ".join(words[:n_context])
    answer = {"text": words[0], "answer_start": 0}
    return {"question": " ".join(words[:3]), "context": context, "answers": [answer]}
