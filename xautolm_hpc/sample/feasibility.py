"""Whether enough of a space can run, asked before anything is submitted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xautolm_hpc.distribution import uniform
from xautolm_hpc.sample.constraints import Constraint, first_refusal
from xautolm_hpc.sample.draw import FEASIBILITY_STREAM, draw_pipeline
from xautolm_hpc.space import Space

LEAST_SHARE = 0.01
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
    """What became of draws that were only checked.

    Attributes:
        n_draws: Pipelines drawn.
        refusals: Constraint -> pipelines it refused; each is counted under the first that does.
        examples: Constraint -> a reason it gave.
    """

    n_draws: int
    refusals: Mapping[str, int]
    examples: Mapping[str, str]

    @property
    def share(self) -> float:
        """Share of the draws that can run, in 0..1."""
        return (self.n_draws - sum(self.refusals.values())) / self.n_draws

    @property
    def is_feasible(self) -> bool:
        """Whether enough can run for a search."""
        return self.share >= LEAST_SHARE


def check_feasible(
    space: Space, constraints: Sequence[Constraint], *, seed: int, n_draws: int = 10_000
) -> FeasibilityReport:
    """Draw pipelines uniformly and count what the constraints refuse.

    Args:
        space: The search space.
        constraints: What may refuse a pipeline.
        seed: Seed of the search.
        n_draws: Pipelines to draw, at least 1.

    Raises:
        SpaceError: No model supports any method.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(FEASIBILITY_STREAM,)))
    start, refusals, examples = uniform(space), Counter[str](), dict[str, str]()
    for _ in range(n_draws):
        refusal = first_refusal(constraints, draw_pipeline(start, space, rng=rng), space=space)
        if refusal is not None:
            refusals[refusal[0]] += 1
            examples.setdefault(*refusal)
    return FeasibilityReport(n_draws=n_draws, refusals=dict(refusals.most_common()), examples=examples)


def infeasible_message(report: FeasibilityReport) -> str:
    """Say that too little of a space can run, which constraints refuse most, and what to do."""
    worst = sorted(report.refusals.items(), key=lambda item: (-item[1], item[0]))[:N_NAMED]
    lines = [
        f"  {name} refuses {count / report.n_draws:.1%}, for instance: {report.examples[name]}. "
        f"Remedy: {REMEDIES.get(name, 'widen the space')}"
        for name, count in worst
    ]
    n_feasible = report.n_draws - sum(report.refusals.values())
    head = (
        f"space: {n_feasible} of {report.n_draws} pipelines drawn can run ({report.share:.2%}); "
        f"at least {LEAST_SHARE:.0%} must"
    )
    return "\n".join([head, *lines])
