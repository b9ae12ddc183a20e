"""The prior in the summary: probabilities before and after, and the experiences that moved them."""

from collections.abc import Mapping
from typing import Any


def summarise_prior(prior: Mapping[str, Any]) -> dict[str, Any]:
    """Sum the content of ``priors.json`` up.

    Args:
        prior: Content of ``priors.json``; parts that are missing are empty in the summary.

    Returns:
        ``kind``, ``counts`` of evidence, and ``models`` and ``methods``: lists of name, ``prior`` and ``uniform``
        probability and the experiences that ``moved_by`` most, most probable first; ``forecast``: of models and
        methods, name -> what is forecast -> 0..1.
    """
    return {
        "kind": str(prior.get("kind", "unknown")),
        "counts": dict(prior.get("counts", {})),
        "models": _probabilities(prior, "models"),
        "methods": _probabilities(prior, "methods"),
        "forecast": dict(prior.get("forecast", {})),
    }


def _probabilities(prior: Mapping[str, Any], group: str) -> list[dict[str, Any]]:
    """List one group's members, most probable first, ties in the order of the space."""
    moved_by = prior.get("top", {}).get(group, {})
    members = [
        {"name": name, "prior": p["prior"], "uniform": p["uniform"], "moved_by": moved_by.get(name, [])}
        for name, p in prior.get(group, {}).items()
    ]
    return sorted(members, key=lambda member: -member["prior"])
