"""A model large enough for a GPU to notice."""

from typing import Any

import pytest

from tests.train.attempts import minilm, rows
from xautolm_hpc.catalogue import Model
from xautolm_hpc.records import to_json

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Write a BERT of base size with random weights, whose vocabulary is the words of the rows."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    folder = tmp_path_factory.mktemp("bert")
    words = sorted({word.strip(",").lower() for row in rows() for word in row["text"].split()})
    vocabulary = {word: number for number, word in enumerate([*WORDS, ",", *words])}
    BertTokenizer(vocab=vocabulary, model_max_length=512).save_pretrained(folder)
    config = BertConfig(vocab_size=len(vocabulary))
    BertForSequenceClassification(config).save_pretrained(folder)
    known: dict[str, Any] = {**to_json(minilm()), "id": "bert", "package": None, "path": str(folder)}
    return Model(**{**known, "keep_layers": None, "unsupported_methods": ()})
