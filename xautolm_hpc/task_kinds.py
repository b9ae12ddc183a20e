"""The kinds of task, one entry each: which models learn them, how they are scored, what hubs call them.

To add a kind, add its entry here and how it is trained in ``train/kinds/``. Rows of a new form are read by a new reader
in ``profile/readers.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

TaskKindName = Literal["text-classification", "question-answering", "text-generation"]
MetricName = Literal["macro-f1", "squad-f1", "drop-f1"]
RowForm = Literal["labelled-text", "question-with-spans", "question-with-texts"]
"""What a row is: a text and its class; a question, a context and answers that lie in it; the same, answered freely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskKind:
    """A kind of task.

    Attributes:
        rows: What its rows are; ``profile/readers.py`` has a reader for each form.
        trained_by: Module of ``train/kinds/`` that trains it.
        families: Families of models that learn it.
        metrics: Metrics that ``f1`` may stand for; the first is the usual one.
        feature_schema: Name and version of its list of meta-features.
        hub_tag: What model hubs sort such models by.
        hub_tags: Family of models -> tag, where it is another one.
        writes_text: Whether a model answers word by word, so that a pass keeps a logit for every word it knows.
    """

    rows: RowForm
    trained_by: str
    families: tuple[str, ...]
    metrics: tuple[MetricName, ...]
    feature_schema: str
    hub_tag: str
    hub_tags: Mapping[str, str]
    writes_text: bool = False


TASK_KINDS: Mapping[str, TaskKind] = {
    "text-classification": TaskKind(
        rows="labelled-text",
        trained_by="classification",
        families=("encoder", "decoder", "seq2seq"),
        metrics=("macro-f1",),
        feature_schema="text-classification/1",
        hub_tag="text-classification",
        hub_tags={},
    ),
    "question-answering": TaskKind(
        rows="question-with-spans",
        trained_by="extraction",
        families=("encoder", "decoder", "seq2seq"),
        metrics=("squad-f1",),
        feature_schema="question-answering/1",
        hub_tag="question-answering",
        hub_tags={},
    ),
    "text-generation": TaskKind(
        rows="question-with-texts",
        trained_by="generation",
        families=("decoder", "seq2seq"),
        metrics=("squad-f1", "drop-f1"),
        feature_schema="text-generation/1",
        hub_tag="text-generation",
        hub_tags={"seq2seq": "text2text-generation"},
        writes_text=True,
    ),
}
"""Name of a kind of task -> the kind."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "text-classification": ("text",),
    "question-answering": ("question", "context"),
    "text-generation": ("question", "context"),
}
"""Kind of task -> columns that a row to be answered needs."""
