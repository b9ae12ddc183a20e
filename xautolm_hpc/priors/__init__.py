"""Past experiences become the first distribution of a search.

evidence     which experiences count, each configuration once
similarity   how far each is from the current task and system
utility      how good each success is
alpha        the nearest ones, and how much each moves the prior
steps        their order, and what each says about every parameter
replay       one after the other into the marginals
explain      which experience moved what
"""

from xautolm_hpc.priors.explain import Contribution, Target, contributions, explain, prior_to_json
from xautolm_hpc.priors.prior import Prior, compute_prior, summary_line
from xautolm_hpc.priors.settings import PriorSettings

__all__ = [
    "Contribution",
    "Prior",
    "PriorSettings",
    "Target",
    "compute_prior",
    "contributions",
    "explain",
    "prior_to_json",
    "summary_line",
]
