"""Brings models into the offline cache, on a node with network; the only folder that imports huggingface_hub.

::

    plan.py    which files of which commit, how large
    fetch.py   fetch them, hold every file to its checksum, and only then let a search see the model
"""

from xautolm_hpc.prefetch.fetch import fetch_model
from xautolm_hpc.prefetch.plan import FilePlan, ModelPlan, plan_models

__all__ = ["FilePlan", "ModelPlan", "fetch_model", "plan_models"]
