"""The kinds of task that can be learnt, and with which families of models."""

from collections.abc import Mapping

TRAINABLE_FAMILIES: Mapping[str, tuple[str, ...]] = {
    "text-classification": ("encoder", "decoder", "seq2seq"),
    "question-answering": ("encoder", "decoder", "seq2seq"),
    "text-generation": ("decoder", "seq2seq"),
}
"""Kind of task -> families of models that can learn it."""
