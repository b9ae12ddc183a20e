"""Search for the best way to fine-tune a language model, as Slurm jobs, with what past searches learned.

profile   meta-features of the task and of the system
priors    past experiences, weighed by similarity, become a distribution over pipelines
sample    draws a generation of pipelines; what cannot run is never submitted
submit    each pipeline becomes a job
train     fine-tunes, evaluates, measures time, memory and energy, on the compute node
gather    waits, classifies every end a job can have
store     commits the experiences, successes and failures, for all later searches
report    tables and figures of a run
driver    does these in this order, generation after generation

``search``, ``Run`` and ``Store`` are the same from Python (:mod:`xautolm_hpc.api`); they are imported when they are
first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

__all__ = ["Run", "Store", "__version__", "search"]


def __getattr__(name: str) -> Any:
    """Import what is used from Python when it is first used: workers and commands import this package, too.

    Raises:
        AttributeError: There is no such name.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has: {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.api"), name)
