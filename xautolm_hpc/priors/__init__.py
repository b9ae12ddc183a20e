"""Past experiences become the first distribution of a search.

evidence     which experiences count, each configuration once
similarity   how far each is from the current task and system; distances: tasks from one another

Of the kinds ``xautolm`` and ``knn``:
utility      how good each success is
alpha        the nearest ones, and how much each moves the prior; memory: the same for ``knn``
steps        their order, and what each says about every parameter
replay       one after the other into the marginals
explain      which experience moved what

Of the kind ``evidence``:
encode       a pipeline as numbers that carry over
lessons      experiences, and a search's own trials, as what is learnt from
surrogate    risk of failing by cause, and merit, learnt from them
ranking      of several draws the most promising, as far as the prior is trusted
pool         uniform draws to show it on; forecast: the whole as ``priors.json``
"""

from xautolm_hpc.priors.content import prior_content, shown
from xautolm_hpc.priors.distances import distance_table, task_distances
from xautolm_hpc.priors.explain import Contribution, Target, contributions, explain, prior_to_json
from xautolm_hpc.priors.prior import Prior, compute_prior, summary_line
from xautolm_hpc.priors.ranking import Ranking, Taste, make_scene, ranking_from_json
from xautolm_hpc.priors.settings import PriorSettings

__all__ = [
    "Contribution",
    "Prior",
    "PriorSettings",
    "Ranking",
    "Target",
    "Taste",
    "compute_prior",
    "contributions",
    "distance_table",
    "explain",
    "make_scene",
    "prior_content",
    "prior_to_json",
    "ranking_from_json",
    "shown",
    "summary_line",
    "task_distances",
]
