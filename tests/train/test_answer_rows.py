"""Answers of an exported model to the rows of a file."""

import json
from pathlib import Path

import pytest
import torch
import transformers

from xautolm_hpc import cli
from xautolm_hpc.durable import write_json
from xautolm_hpc.predictions import PREDICT

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad")


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """Write a tiny model with two labels as `export-model` does."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1},
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    write_json(folder / PREDICT, {"kind": "text-classification", "max_length": 16})
    return folder


def test_texts_with_the_line_ends_of_unicode_have_one_answer_each(
    model_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    texts = ["good\u2028bad", "good\u2029bad", "good\r\nbad", "good bad", "good\u0085bad"]
    rows = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "rows.jsonl").write_text(rows)

    capfd.readouterr()  # of the model's making
    status = cli.main(["predict", str(model_dir), str(tmp_path / "rows.jsonl")])

    printed, progress = capfd.readouterr()
    answers = [json.loads(line) for line in printed.splitlines()]
    assert status == 0
    assert "Loading weights" not in progress
    assert len(answers) == len(texts)
    assert answers[:4] == answers[:1] * 4  # white space to the tokeniser, but for U+0085
