"""Measure the task and write its split, once per run; the only folder that reads the user's data.

Runs on a compute node, as ``python -m xautolm_hpc.profile ATTEMPT_DIR``::

    source     which files there are, and their bytes
    formats    bytes -> raw texts and labels
    rows       raw -> normalised rows, or a message naming file, column and row
    split      rows -> train, dev, validation, test
    features   rows -> the ten meta-features
    cache      what was measured once, by content
    task       these in order
"""

from xautolm_hpc.profile.task import profile_task

__all__ = ["profile_task"]
