"""Folders of tiny models of every architecture with a tokeniser of whole words, and tasks they can memorise."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

from tests import nouns
from tests.train.attempts import command, read_end, write_attempt, write_split
from tests.train.tiny import CONFIGS
from xautolm_hpc.catalogue import Model
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.execution import StepMode
from xautolm_hpc.jobdir import COMMAND, PIPELINE, TASK, Command, TrialInput, TrialPlan
from xautolm_hpc.records import Outcome, Task, Value, from_json, to_json
from xautolm_hpc.train.limit.trial_budget import Progress, TrialBudget
from xautolm_hpc.train.loop import TrainState
from xautolm_hpc.train.prepare import AttemptInputs, build_train_state, start_torch
from xautolm_hpc.train.recipe import parse_recipe
from xautolm_hpc.train.stop import StopFlag
from xautolm_hpc.train.worker import Job, run_trial

FAMILY = {name: "encoder" for name in CONFIGS} | {
    **dict.fromkeys(("gpt2", "llama", "mistral", "qwen2", "qwen3", "phi", "phi3"), "decoder"),
    **dict.fromkeys(("t5", "bart"), "seq2seq"),
}
NAMES = ("ada", "bob", "cleo", "dan", "eva", "finn", "gus", "hana")
PLACES = ("Oslo", "Rome", "Lima", "Bonn", "Cairo", "Delhi", "Quito", "Seoul")
SPECIAL = ("[PAD]", "[UNK]", "[BOS]", "[EOS]")
WORDS = (*NAMES, *PLACES, "Context", "Question", "Answer", ":", "?", ".", "lives", "in", "where", "does", "live")
N_PIECES = 400
CAN_MEMORISE = 0.99
SMALL_HEADS = ("gpt2", "bart")
"""Their head is the embeddings, and nothing makes it larger."""


def labelled_rows() -> list[dict[str, Any]]:
    """Write 16 short texts of two classes, three of which break the rule of the others."""
    pairs = [(name, place) for name in NAMES[:4] for place in PLACES[:4]]
    return [
        {"text": f"{name} lives in {place}", "label": "yes" if (i % 4 < 2) != (i in (0, 7, 10)) else "no"}
        for i, (name, place) in enumerate(pairs)
    ]


def question_rows() -> list[dict[str, Any]]:
    """Write 16 questions on contexts of two sentences; the answer stands in the first or in the second."""
    rows = []
    for number in range(16):
        first, second = number % 8, (number + 3 + 2 * (number // 8)) % 8
        asked = first if number % 3 else second
        context = f"{NAMES[first]} lives in {PLACES[first]} . {NAMES[second]} lives in {PLACES[second]} ."
        answer = {"text": PLACES[asked], "answer_start": context.index(PLACES[asked])}
        rows.append({"question": f"where does {NAMES[asked]} live ?", "context": context, "answers": [answer]})
    return rows


ROWS: Mapping[str, Any] = {
    "text-classification": labelled_rows,
    "question-answering": question_rows,
    "text-generation": question_rows,
}


def write_model(folder: Path, architecture: str, *, writes: bool = False) -> Model:
    """Save a tiny model of random weights and its tokeniser, and describe it as a search file would.

    Args:
        folder: Folder to write.
        architecture: Name of the architecture.
        writes: Whether it is to write answers: a frozen head of small weights cannot be sure of any token.
    """
    torch.manual_seed(0)
    family = FAMILY[architecture]
    auto = {"encoder": AutoModel, "decoder": AutoModelForCausalLM, "seq2seq": AutoModelForSeq2SeqLM}[family]
    config = CONFIGS[architecture].from_dict(CONFIGS[architecture].to_dict())
    if architecture == "qwen2":
        config.vocab_size = N_PIECES
    model = auto.from_config(config)  # type: ignore[no-untyped-call]
    if family == "decoder" and not config.tie_word_embeddings:
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(8)
    elif writes and architecture in SMALL_HEADS:
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(4)
    model.save_pretrained(folder)
    write_tokenizer(folder, family, in_pieces=architecture == "qwen2")
    return Model(
        id=architecture,
        family=family,
        n_parameters=10_000,
        n_layers=2,
        hidden_size=32,
        vocab_size=60,
        context_length=38,
        licence="MIT",
        path=str(folder),
    )


def write_tokenizer(folder: Path, family: str, *, in_pieces: bool = False) -> None:
    """Save a tokeniser; decoders begin and pad as Llama does, encoders end texts as BERT does.

    Args:
        folder: Folder of the model.
        family: Family of the model.
        in_pieces: Whether words are put together of pieces, which is what Qwen2's class expects of its files.
    """
    backend = _piece_tokenizer() if in_pieces else _word_tokenizer()
    ends = [("[BOS]", 2), ("[EOS]", 3)]
    if family == "decoder":
        backend.post_processor = processors.TemplateProcessing("[BOS] $A", "[BOS] $A $B", ends[:1])
    else:
        backend.post_processor = processors.TemplateProcessing("[BOS] $A [EOS]", "[BOS] $A [EOS] $B [EOS]", ends)
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        unk_token="[UNK]",
        bos_token="[BOS]",
        eos_token="[EOS]",
        model_max_length=38,
        **({} if family == "decoder" else {"pad_token": "[PAD]", "cls_token": "[BOS]", "sep_token": "[EOS]"}),
    ).save_pretrained(folder)


def _word_tokenizer() -> Tokenizer:
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return backend


def _piece_tokenizer() -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=N_PIECES, special_tokens=[*SPECIAL], show_progress=False)
    backend.train_from_iterator([f" {word}" for word in WORDS] * 9 + [*WORDS], trainer)
    return backend


def describe_task(kind: str, **changes: Any) -> Task:
    """Describe the task of :data:`ROWS`."""
    towns = nouns.task(
        name="towns",
        kind=kind,
        dataset_id="0" * 32,
        fingerprint="1" * 32,
        metric="macro-f1" if kind == "text-classification" else "squad-f1",
        n_train=16,
        n_dev=16,
        n_validation=16,
        n_test=16,
        labels=("no", "yes") if kind == "text-classification" else (),
        feature_schema=f"{kind}/1",
        features=(),
    )
    return dataclasses.replace(towns, **changes)


def write_family_attempt(
    folder: Path,
    architecture: str,
    *,
    kind: str,
    method: str,
    params: Mapping[str, Value],
    rows: Sequence[Mapping[str, Any]] | None = None,
) -> Path:
    """Write an attempt that learns 16 rows and is asked for the same rows afterwards."""
    model = write_model(folder / "model", architecture, writes=kind == "text-generation")
    attempt_dir = write_attempt(folder, method, params=params, model=model, limits=command(n_threads=1))
    given = rows or ROWS[kind]()
    sha256 = write_split(folder / "data", dict.fromkeys(("train", "dev", "validation", "test"), given))
    described = {**read_json(attempt_dir / TASK), "task": to_json(describe_task(kind)), "sha256": sha256}
    write_json(attempt_dir / TASK, described)
    return attempt_dir


def family_train_state(
    folder: Path,
    architecture: str,
    *,
    kind: str,
    method: str,
    params: Mapping[str, Value],
    rows: Sequence[Mapping[str, Any]] | None = None,
) -> TrainState:
    """Build the train state of a tiny model as a trial does; arguments as above."""
    attempt_dir = write_family_attempt(folder, architecture, kind=kind, method=method, params=params, rows=rows)
    return load_train_state(attempt_dir)


def load_train_state(
    attempt_dir: Path,
    *,
    step: StepMode = StepMode.EAGER,
    deterministic: bool = True,
    stop: StopFlag | None = None,
    time_limit_s: float = 600.0,
) -> TrainState:
    """Build the train state of an attempt as a trial does, its steps computed in one of the two ways."""
    written = from_json(TrialPlan, read_json(attempt_dir / PIPELINE), where=PIPELINE)
    plan = dataclasses.replace(written, step=step.value)
    limits = from_json(Command, read_json(attempt_dir / COMMAND), where=COMMAND)
    inputs = AttemptInputs(
        attempt_dir=attempt_dir,
        command=dataclasses.replace(limits, deterministic=deterministic),
        trial=from_json(TrialInput, read_json(attempt_dir / TASK), where=TASK),
        plan=plan,
        expects_gpu=False,
    )
    recipe, progress = parse_recipe(plan.pipeline.method, plan.pipeline.params), Progress()
    budget = TrialBudget(progress, stop or StopFlag(), time_limit_s=time_limit_s)
    return build_train_state(inputs, recipe, accelerator=start_torch(inputs, recipe), progress=progress, budget=budget)


def worker_job(attempt_dir: Path) -> Job:
    """Describe an attempt to the worker, as its command does."""
    return Job(
        attempt_dir=attempt_dir,
        restart=0,
        visible_gpus="",
        image_digest=None,
        secrets=(),
        user="ada",
        host="node7",
        home="/home/ada",
    )


def run_attempt(attempt_dir: Path) -> Outcome:
    """Run an attempt in this process, as the worker's command does."""
    assert run_trial(worker_job(attempt_dir), StopFlag()) == 0
    return read_end(attempt_dir).outcome
