"""The check, before anything is submitted, that enough of a space can run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xautolm_hpc.distribution import uniform
from xautolm_hpc.sample.constraints import Constraint, first_rejection
from xautolm_hpc.sample.draw import FEASIBILITY_STREAM, draw_pipeline
from xautolm_hpc.space import Space

MIN_FEASIBLE_SHARE = 0.01
N_NAMED = 3

REMEDIES: Mapping[str, str] = {
    "unsupported": "name other models or methods in [space]",
    "context_length": "lower max_length in [space.params]",
    "steps": "use more rows, smaller batches or fewer warm-up steps",
    "memory": "name smaller models, batches or lengths, or ask for more memory in the cluster profile",
    "time": "raise trial.time_limit_min, use fewer rows or smaller models",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeasibilityReport:
    """Result of draws that are checked and not submitted.

    Attributes:
        n_draws: Pipelines drawn.
        rejections: Constraint -> pipelines it rejected; each is counted under the first that does.
        examples: Constraint -> a reason it gave.
    """

    n_draws: int
    rejections: Mapping[str, int]
    examples: Mapping[str, str]

    @property
    def share(self) -> float:
        """Share of the draws that can run, in 0..1."""
        return (self.n_draws - sum(self.rejections.values())) / self.n_draws

    @property
    def is_feasible(self) -> bool:
        """Whether enough can run for a search."""
        return self.share >= MIN_FEASIBLE_SHARE


def check_feasible(
    space: Space, constraints: Sequence[Constraint], *, seed: int, n_draws: int = 10_000, enough: float = 1.0
) -> FeasibilityReport:
    """Draw pipelines uniformly and count those that the constraints reject.

    Args:
        space: The search space.
        constraints: What may reject a pipeline.
        seed: Seed of the search.
        n_draws: Pipelines to draw, at least 1.
        enough: Share of ``n_draws``, in 0..1; no more are drawn once so many can run, for their share is no smaller.

    Raises:
        SpaceError: No model supports any method.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(FEASIBILITY_STREAM,)))
    start, rejections, examples = uniform(space), Counter[str](), dict[str, str]()
    n_drawn = n_feasible = 0
    while n_drawn < n_draws and n_feasible < enough * n_draws:
        rejection = first_rejection(constraints, draw_pipeline(start, space, rng=rng), space=space)
        n_drawn += 1
        if rejection is None:
            n_feasible += 1
        else:
            rejections[rejection[0]] += 1
            examples.setdefault(*rejection)
    return FeasibilityReport(n_draws=n_drawn, rejections=dict(rejections.most_common()), examples=examples)


def infeasible_message(report: FeasibilityReport) -> str:
    """Write that too little of a space can run, which constraints reject most, and what to do."""
    worst = sorted(report.rejections.items(), key=lambda item: (-item[1], item[0]))[:N_NAMED]
    lines = [
        f"  {name} rejects {count / report.n_draws:.1%}, for instance: {report.examples[name]}. "
        f"Remedy: {REMEDIES.get(name, 'widen the space')}"
        for name, count in worst
    ]
    n_feasible = report.n_draws - sum(report.rejections.values())
    head = (
        f"space: {n_feasible} of {report.n_draws} pipelines drawn can run ({report.share:.2%}); "
        f"at least {MIN_FEASIBLE_SHARE:.0%} must"
    )
    return "\n".join([head, *lines])
