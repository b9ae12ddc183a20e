"""A run in a few sentences: what is best and how sure that is, and what past experience moved."""

from collections.abc import Mapping
from typing import Any

from xautolm_hpc.failures import TRUNCATED
from xautolm_hpc.report.certainty import certainty_sentences, interval_text
from xautolm_hpc.report.prior_sections import added_text, expected_share, furthest_ahead, shown_reasons
from xautolm_hpc.report.quantities import QUANTITIES, counted, listed
from xautolm_hpc.report.sections import measure
from xautolm_hpc.report.shortfall import LEAST_GAIN
from xautolm_hpc.view import FinishKind

Summary = Mapping[str, Any]

LOWER_BOUND = "Its time was used up before its training had ended: its F1 is a lower bound."

RAISED, LOWERED = "raised", "lowered"
"""First word of what an experience did to what is expected."""

N_MOVERS = 3
"""Experiences that are told to have moved the prior."""


NO_EVIDENCE: Mapping[str, str] = {
    "other_task_kind": "of another kind of task",
    "other_feature_schema": "of tasks measured by other features",
    "not_last_attempt": "tried again later",
    "suspect": "suspect",
    "other_site": "of sites left out",
    "stopped": "stopped because others were ahead",
    "truncated": "truncated",
    "censored": "ended while they were evaluated at the limit",
    "infrastructure": "failed by the infrastructure",
    "refused_hyperparameters": "with hyperparameters that are refused",
    "objective_missing": "without a value of each objective",
    "same_configuration": "with a configuration counted before",
}
"""Reason why records are no evidence -> what they are, in words."""


def verdict_sentences(summary: Summary) -> list[str]:
    """Write what a run found: the best trial, how far it is above the baseline, and how sure that is.

    Args:
        summary: Result of :func:`xautolm_hpc.report.summary.summarise`.
    """
    best = summary["best"]
    if best is None:
        return [f"No trial succeeded, of {counted(summary['counts']['trials'], 'trial')}."]
    first = summary["objectives"][0]["name"]
    quantity = QUANTITIES[first]
    value = quantity.text_with_unit(measure(best, first))
    sure = interval_text(summary, best["trial"], split="validation") if first == "f1" else ""
    head = (
        f"Trial {best['trial']} is the best: {quantity.title} {value}{' on validation' if first == 'f1' else ''}{sure}"
    )
    return [
        f"{head}, with {best['model']} and {best['method']}.",
        *([LOWER_BOUND] if best.get("truncated") else []),
        *_baseline(summary),
        *certainty_sentences(summary),
        *_lost(summary["counts"]),
    ]


def _lost(counts: Mapping[str, int]) -> list[str]:
    """Write how many trials the infrastructure cost, where it is more than a quarter."""
    n, n_trials = counts["failed_infrastructure"], counts["trials"]
    if 4 * n <= n_trials:
        return []
    return [f"{n:,} of {counted(n_trials, 'trial')} {'was' if n == 1 else 'were'} lost to the infrastructure."]


def prior_sentences(summary: Summary) -> list[str]:
    """Write what past experience moved before the first trial, and what was left out of account."""
    prior = summary["prior"]
    if summary["run"].get("finish_kind") == FinishKind.LIST_EVALUATED:
        return ["The pipelines were given as a list: no past experience chose them."]
    method = [] if prior.get("additions") is None else [_added(prior)]
    if prior["kind"] == "uniform":
        return [
            *method,
            "The search started from the uniform distribution: it used no past experience. Each generation moves the "
            "probabilities towards its best trials.",
        ]
    counts = prior["counts"]
    sentences: list[str] = []
    if "positives" in counts and "negatives" in counts:
        successes = counted(counts["positives"], "success", plural="successes")
        failures = counted(counts["negatives"], "failure")
        sentences.append(f"The prior {prior['kind']} learnt from {successes} and {failures} of past runs.")
    skipped = {reason: n for reason, n in counts.get("skipped", {}).items() if n}
    if skipped:
        reasons = listed(
            [f"{n:,} {NO_EVIDENCE.get(reason, reason.replace('_', ' '))}" for reason, n in skipped.items()]
        )
        n_skipped = sum(skipped.values())
        verb = "is" if n_skipped == 1 else "are"
        sentences.append(f"{counted(n_skipped, 'record')} of the store {verb} no evidence: {reasons}.")
    for group, noun in (("models", "Model"), ("methods", "Method")):
        ahead = furthest_ahead(prior[group])
        if ahead is not None and ahead["prior"] - ahead["uniform"] >= LEAST_GAIN:
            sentences.append(
                f"{noun} {ahead['name']} started furthest ahead: probability {ahead['prior']:.4f} instead of "
                f"{ahead['uniform']:.4f}{_because(ahead, task=summary['task'])}."
            )
    return [*method, *(sentences or ["No past experience moved a model or a method."])]


def _added(prior: Mapping[str, Any]) -> str:
    """Write in two sentences which prior was used, and what is on that XAutoLM as it was published does not have."""
    return f"The search used the prior {prior['kind']}. Added to XAutoLM as it was published: {added_text(prior)}."


def movers(summary: Summary) -> list[dict[str, Any]]:
    """List the experiences that moved the prior most, the strongest first: its probabilities, or what it expects.

    Args:
        summary: Result of :func:`xautolm_hpc.report.summary.summarise`.

    Returns:
        At most :data:`N_MOVERS` entries of the summary's ``moved_by``, each with ``of``, the model or method moved, and
        ``effect``, how it was moved.
    """
    prior = summary["prior"]
    found = [
        {
            **reason,
            "of": f"{noun} {member['name']}",
            "effect": _effect(prior["kind"], reason["contribution"], of=f"{noun} {member['name']}"),
        }
        for group, noun in (("models", "model"), ("methods", "method"))
        for member in prior[group]
        for reason in member["moved_by"]
        if "contribution" in reason
    ]
    strongest: dict[str, dict[str, Any]] = {}
    for reason in sorted(found, key=lambda each: -abs(each["contribution"])):
        strongest.setdefault(reason["id"], reason)
    return list(strongest.values())[:N_MOVERS]


def mover_sentence(reason: Mapping[str, Any], *, task: Mapping[str, Any]) -> str:
    """Write what one experience did to the prior.

    Args:
        reason: An entry of :func:`movers`.
        task: The summary's ``task``.
    """
    did = {None: "succeeded", TRUNCATED: "was truncated"}.get(reason["kind"], f"failed with {reason['kind']}")
    if reason.get("f1") is not None:  # versions before did not write it
        did += f" with F1 {reason['f1']:.4f}"
    did = f"{reason['model']} with {reason['method']} {did} on {_task_name(reason, own=task)}"
    return f"{did}{_surprise(reason)}: it {reason['effect']}."


def _surprise(reason: Mapping[str, Any]) -> str:
    """Write why a success lowered what is expected, or a failure raised it."""
    is_lowered = reason["effect"].startswith(LOWERED)
    if reason["kind"] is None and is_lowered:
        return ", less well than was expected of it"
    return ", less badly than was expected of it" if reason["kind"] and reason["effect"].startswith(RAISED) else ""


def _task_name(reason: Mapping[str, Any], *, own: Mapping[str, Any]) -> str:
    """Name an experience's task; versions before wrote no fingerprint, and a name may be that of another's data."""
    fingerprint = reason.get("task_fingerprint")
    is_own = fingerprint is not None and fingerprint == own.get("fingerprint")
    return f"{reason['task']} (this run's task)" if is_own else str(reason["task"])


def _effect(kind: str, contribution: float, *, of: str) -> str:
    """Write what a contribution is: of the prior ``evidence`` a part of the logarithm of what it expects."""
    if kind != "evidence":
        return f"moved the probability of {of} by {contribution:+.4f}"
    verb, share = RAISED if contribution > 0 else LOWERED, abs(expected_share(contribution))
    return f"{verb} what was expected of {of} by {share:.0%}"


def _because(member: Mapping[str, Any], *, task: Mapping[str, Any]) -> str:
    """Write what helped a model or method most, as far as it is recorded."""
    helped = [reason for reason in shown_reasons(member) if reason.get("contribution", 0.0) > 0]
    if not helped:
        return ""
    successes = [reason for reason in helped if reason["kind"] is None]
    failures = [reason for reason in helped if reason["kind"] is not None]
    parts = []
    if successes:
        tasks = listed(list(dict.fromkeys(_task_name(each, own=task) for each in successes)))
        parts.append(f"{counted(len(successes), 'success', plural='successes')} on {tasks}")
    if failures:
        parts.append(f"{counted(len(failures), 'failure')} of others")
    return f", helped most by {listed(parts)}"


def _baseline(summary: Summary) -> list[str]:
    majority, margin = summary["majority_f1"], summary["margin"]
    if majority is None or margin is None:
        return []
    if margin < LEAST_GAIN:
        return [f"It is not above always answering the most frequent label (F1 {majority:.4f})."]
    return [f"Always answering the most frequent label has F1 {majority:.4f}."]
