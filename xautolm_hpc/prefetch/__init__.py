"""Downloads models and data to the offline cache, on a node with network; only this folder imports huggingface_hub.

::

    resolve.py   which files of which commit, and their sizes
    fetch.py     downloads them and checks every checksum; only then does a search find the model
"""

from xautolm_hpc.prefetch.fetch import fetch_repository
from xautolm_hpc.prefetch.resolve import FilePlan, RepositoryPlan, plan_data, plan_models

__all__ = ["FilePlan", "RepositoryPlan", "fetch_repository", "plan_data", "plan_models"]
