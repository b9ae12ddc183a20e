"""The kinds of task that are trained, and with which models."""

from collections.abc import Callable, Mapping

from xautolm_hpc.catalogue import Model
from xautolm_hpc.task_kinds import TRAINABLE_FAMILIES
from xautolm_hpc.train.classification import build_classification
from xautolm_hpc.train.extraction import build_extraction
from xautolm_hpc.train.failures import TrialError
from xautolm_hpc.train.generation import build_generation
from xautolm_hpc.train.tasks import LearningTask, Setting

BUILDERS: Mapping[str, Callable[[Setting], LearningTask]] = {
    "text-classification": build_classification,
    "question-answering": build_extraction,
    "text-generation": build_generation,
}


def build_task(setting: Setting) -> LearningTask:
    """Prepare a task for training.

    Raises:
        TrialError: The task cannot be learnt so, or its data is not what it says.
    """
    return BUILDERS[setting.task.kind](setting)


def refuse_unsupported(kind: str, model: Model) -> None:
    """Refuse a kind of task that this model does not learn.

    Raises:
        TrialError: It is so; kind ``unsupported``.
    """
    if kind not in BUILDERS:
        raise TrialError("unsupported", f"tasks of kind {kind!r} are not known; valid: {', '.join(BUILDERS)}")
    if model.family not in TRAINABLE_FAMILIES[kind]:
        valid = ", ".join(TRAINABLE_FAMILIES[kind])
        raise TrialError(
            "unsupported", f"model {model.id} is of the family {model.family}; {kind} is trained with: {valid}"
        )
