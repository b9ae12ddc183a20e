"""The kinds of task, one entry each: which models learn them, how they are scored, what hubs call them.

To add a kind, add its entry here, how its data is read in ``profile/readers.py``, and how it is trained in
``train/kinds/`` and ``train/prepare.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

TaskKindName = Literal["text-classification", "question-answering", "text-generation"]
MetricName = Literal["macro-f1", "squad-f1", "drop-f1"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskKind:
    """A kind of task.

    Attributes:
        families: Families of models that learn it.
        metrics: Metrics that ``f1`` may stand for; the first is the usual one.
        feature_schema: Name and version of its list of meta-features.
        hub_tag: What model hubs sort such models by.
        hub_tags: Family of models -> tag, where it is another one.
        writes_text: Whether a model answers word by word, so that a pass keeps a logit for every word it knows.
    """

    families: tuple[str, ...]
    metrics: tuple[MetricName, ...]
    feature_schema: str
    hub_tag: str
    hub_tags: Mapping[str, str]
    writes_text: bool = False


TASK_KINDS: Mapping[str, TaskKind] = {
    "text-classification": TaskKind(
        families=("encoder", "decoder", "seq2seq"),
        metrics=("macro-f1",),
        feature_schema="text-classification/1",
        hub_tag="text-classification",
        hub_tags={},
    ),
    "question-answering": TaskKind(
        families=("encoder", "decoder", "seq2seq"),
        metrics=("squad-f1",),
        feature_schema="question-answering/1",
        hub_tag="question-answering",
        hub_tags={},
    ),
    "text-generation": TaskKind(
        families=("decoder", "seq2seq"),
        metrics=("squad-f1", "drop-f1"),
        feature_schema="text-generation/1",
        hub_tag="text-generation",
        hub_tags={"seq2seq": "text2text-generation"},
        writes_text=True,
    ),
}
"""Name of a kind of task -> the kind."""
