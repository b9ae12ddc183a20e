"""Brings models and data into the offline cache, on a node with network; no other folder imports huggingface_hub.

::

    plan.py    which files of which commit, how large
    fetch.py   fetch them, hold every file to its checksum, and only then let a search see the model
"""

from xautolm_hpc.prefetch.fetch import fetch_repository
from xautolm_hpc.prefetch.resolve import FilePlan, RepositoryPlan, plan_data, plan_models

__all__ = ["FilePlan", "RepositoryPlan", "fetch_repository", "plan_data", "plan_models"]
