"""The same from Python: searches, their results and stores of experiences, for notebooks and scripts.

::

    import xautolm_hpc

    run = xautolm_hpc.search(frame, name="tickets")  # a data frame, a datasets.Dataset, or a path
    run.trials                                       # every trial, as a data frame
    run.export(run.best["trial"], "model")

It runs the commands of the command line, so a search from here can be resumed, shown and exported there, and the other
way round. ``import xautolm_hpc`` itself imports nothing of this.
"""

from xautolm_hpc.api.opened_store import Store
from xautolm_hpc.api.searches import Run, search

__all__ = ["Run", "Store", "search"]
