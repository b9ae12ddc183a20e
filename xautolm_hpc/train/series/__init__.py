"""Several trials in one job: one worker imports what they need once, each trial runs in a forked process.

::

    warm           the worker: claims a trial, forks it, waits until it holds nothing any more, goes on to the next
    trial_process  the forked process: its folder and logs, its limits, how it ended
    card_memory    what the processes of a trial hold on the GPUs
"""

from xautolm_hpc.train.series.warm import run_series

__all__ = ["run_series"]
