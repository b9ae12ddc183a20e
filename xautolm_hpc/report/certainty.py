"""How sure the best trial is: intervals of F1, trials within noise of the best, and which classes it confuses."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xautolm_hpc.predictions import PREDICTION_FILES, Predictions
from xautolm_hpc.records import Experience
from xautolm_hpc.report.intervals import LEVEL, class_scores, confusion, difference_interval, f1_interval, f1_of
from xautolm_hpc.report.quantities import counted, listed
from xautolm_hpc.view import FinishKind, RunFacts

N_RIVALS = 5
"""Trials that the best one is compared with row by row: the next best by F1."""

N_FRONT = 20
"""Trials of the Pareto set that get an interval, the best first."""

MOST_LABELS = 20
"""Classes up to which the whole confusion matrix is kept; of more classes their scores alone are."""


MOST_LIVE_LABELS = 200
"""Classes up to which a search that goes on computes them: its driver waits meanwhile, some two seconds for so many."""

MOST_MISSED = 3
"""Classes that are named where the best trial never answers them rightly; of more only their number is."""

SAME_F1 = 1e-9
"""Difference of two computations of one F1."""

LEAST_COLLAPSE = 0.05
"""Difference of F1 on validation and on test that is told, if noise does not explain it."""

FEW_ROWS = 1000
"""Rows of validation below which an interval may be wider than :data:`LEAST_COLLAPSE`: they may then be the cause."""

COMES = "Which trials are within noise of it, and its score on test, come when the search has ended."


def describe_certainty(
    facts: RunFacts, *, best: Experience | None, front: Sequence[Experience], succeeded: Sequence[Experience]
) -> dict[str, Any]:
    """Compute what the answers of the trials tell about their F1.

    Args:
        facts: The run's results; its ``answers`` are asked for a few trials only.
        best: The best trial.
        front: The Pareto set, best first.
        succeeded: All trials that succeeded.

    Returns:
        Of a search that goes on, only the best trial is asked for its answers: the others take time with many classes.
        ``level`` of the intervals; ``intervals``: trial -> split -> low, high; ``compared`` with the best row by row,
        and of those ``within_noise`` of it, both None where the best is not the best by F1 or its answers are unknown;
        ``behind``: compared trial -> how much lower its F1 is, with the low and high end of that difference's interval;
        ``classes`` of the best trial, the worst F1 first, on the split ``classes_on``; ``confusion`` of it;
        ``majority_test``, F1 and accuracy on test of always answering the most frequent label. What is unknown is
        missing or None.
    """
    found: dict[str, Any] = {
        "level": LEVEL, "intervals": {}, "compared": None, "within_noise": None,
        "classes": [], "classes_on": None, "confusion": None, "majority_test": None,
    }  # fmt: skip
    goes_on = facts.finish.kind is FinishKind.UNFINISHED
    if best is None or (goes_on and len(facts.task.labels) > MOST_LIVE_LABELS):
        return found
    if goes_on:
        front = succeeded = ()
    rivals = _rivals(best, succeeded)
    shown = {e.provenance.trial: e for e in [best, *front[:N_FRONT], *rivals]}
    given_by_all = {trial: _answers(facts, e, split="validation") for trial, e in shown.items()}
    answers = {trial: given for trial, given in given_by_all.items() if given is not None}
    for trial, experience in shown.items():
        given = {"validation": given_by_all[trial]}
        if trial in facts.tests:
            given["test"] = _answers(facts, experience, split="test")
        if intervals := _intervals(given):
            found["intervals"][str(trial)] = intervals
    own = answers.get(best.provenance.trial)
    if own is None:
        return found
    if facts.objectives[0] == "f1" and not goes_on:
        found |= _compare(
            own, {e.provenance.trial: answers[e.provenance.trial] for e in rivals if e.provenance.trial in answers}
        )
    found["majority_test"] = _majority_on_test(facts, best, own=own)
    return found | _classes(facts, best, own=own)


def interval_text(summary: Mapping[str, Any], trial: int, *, split: str) -> str:
    """Write the interval of a trial's F1, such as `` (95 % interval 0.7812 to 0.8301)``; empty where it is unknown."""
    certainty = summary.get("certainty") or {}
    found = certainty.get("intervals", {}).get(str(trial), {}).get(split)
    if found is None:
        return ""
    return f" ({certainty['level']:.0%} interval {found[0]:.4f} to {found[1]:.4f})".replace("%", " %")


def _within_noise(noise: Sequence[int], certainty: Mapping[str, Any]) -> str:
    """Write which trials another sample of rows could put first, and how far they are behind."""
    names = listed([str(trial) for trial in noise])
    subject, they = (f"Trial {names} is", "it is") if len(noise) == 1 else (f"Trials {names} are", "they are")
    behind = certainty.get("behind", {})  # an older report has none
    known = [behind[str(trial)] for trial in noise if str(trial) in behind]
    parts = [f"{lower:.4f} ({low:.4f} to {high:.4f})" for lower, low, high in known]
    level = f"({certainty['level']:.0%} interval of the difference ".replace("%", " %")
    by = f": {they} lower by {listed(parts).replace('(', level, 1)}" if parts else ""
    return f"{subject} within noise of it on the same rows{by}. Another sample of rows could turn the order."


def _missed_classes(certainty: Mapping[str, Any]) -> list[str]:
    """Write which classes the best trial never answers rightly, if there are any."""
    classes = certainty.get("classes", [])
    missed = [row["label"] for row in classes if row["f1"] == 0 and row["rows"]]
    if not missed:
        return []
    which = f"of {len(missed):,} of {len(classes):,} classes"
    if len(missed) <= MOST_MISSED:
        which = f"of the class{'es' if len(missed) > 1 else ''} {listed(missed)}"
    split = certainty.get("classes_on")
    return [f"It answers no row {which} rightly{f' on {split}' if split else ''}."]


def certainty_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Write how sure the best trial is; nothing where its answers are unknown."""
    best, certainty = summary["best"], summary.get("certainty") or {}
    tested = summary["tests"].get(str(best["trial"])) if best else None
    sentences: list[str] = []
    collapse: list[str] = []
    if tested and "f1" in tested:
        interval = interval_text(summary, best["trial"], split="test")
        sentences.append(f"On test, which no trial had seen, it has F1 {tested['f1']:.4f}{interval}.")
        collapse = _collapse(summary, tested["f1"])
        sentences += collapse + _baseline_on_test(certainty, best["trial"])
    compared, noise = certainty.get("compared"), certainty.get("within_noise")
    if noise:
        sentences.append(_within_noise(noise, certainty))
    elif compared:
        sentences.append(f"It is ahead of the next {counted(len(compared), 'trial')} by more than noise.")
    is_better_on_test = bool(best and tested and tested.get("f1", 0.0) >= best["metrics"].get("f1", 1.0))
    if compared and not collapse and not is_better_on_test:
        n_succeeded = counted(summary["counts"]["succeeded"], "trial")
        sentences.append(f"The best of {n_succeeded} tends to look better on validation than on test.")
    sentences += _missed_classes(certainty)
    if best and summary["run"].get("finish_kind") == FinishKind.UNFINISHED:
        sentences.append(COMES)
    return sentences


def _collapse(summary: Mapping[str, Any], test_f1: float) -> list[str]:
    """Write that the best trial is far worse on test than on validation, if noise on neither explains it."""
    best, rows = summary["best"], summary["task"]["rows"]["validation"]
    intervals = (summary.get("certainty") or {}).get("intervals", {}).get(str(best["trial"]), {})
    if not {"validation", "test"} <= intervals.keys():
        return []
    f1, (low, _), (_, high) = best["metrics"]["f1"], intervals["validation"], intervals["test"]
    if high >= low or f1 - test_f1 < LEAST_COLLAPSE:
        return []
    cause = "the rows of test may be of another kind than those of validation"
    if rows < FEW_ROWS:
        choice = f"the choice among {counted(summary['counts']['succeeded'], 'trial')} rested on {counted(rows, 'row')}"
        cause = f"{choice} and did not hold. More rows for validation would tell"
    return [f"That is far worse than on validation (F1 {f1:.4f}): {cause}."]


def _baseline_on_test(certainty: Mapping[str, Any], trial: int) -> list[str]:
    """Write what the most frequent label alone has on test, and whether the best trial may be no better."""
    majority = certainty.get("majority_test")
    if majority is None:
        return []
    low, _ = certainty["intervals"][str(trial)]["test"]
    warning = "; the interval includes that, so it may be no better" if low <= majority["f1"] else ""
    return [f"There, always answering the most frequent label has F1 {majority['f1']:.4f}{warning}."]


def _majority_on_test(facts: RunFacts, best: Experience, *, own: Predictions) -> dict[str, float] | None:
    """Compute F1 and accuracy on test of always answering train's most frequent label.

    Which one that is, the rows of validation tell: with it the baseline's F1 there is the known one. Equally frequent
    ones cannot be told apart there; then the result is ``None``, unless they have the same on test.
    """
    known_f1, is_tested = facts.majority_f1, best.provenance.trial in facts.tests
    tested = _answers(facts, best, split="test") if is_tested else None
    if known_f1 is None or own.truth is None or tested is None or tested.truth is None:
        return None
    there, on_test = Counter(own.truth.tolist()), Counter(tested.truth.tolist())
    label = next((each for each in there if abs(f1_of(_always(each, own)) - known_f1) < SAME_F1), None)
    if label is None or len({on_test[each] for each, n in there.items() if n == there[label]}) > 1:
        return None
    return {"f1": f1_of(_always(label, tested)), "accuracy": float(np.mean(tested.truth == label))}


def _always(label: int, answers: Predictions) -> Predictions:
    """Build the answers that give one label to every row."""
    return replace(answers, predicted=np.full(len(answers), label))


def _rivals(best: Experience, succeeded: Sequence[Experience]) -> list[Experience]:
    """List the next best trials by F1."""
    known = [(f1, e) for e in succeeded if e is not best and (f1 := e.outcome.objective("f1")) is not None]
    return [e for _, e in sorted(known, key=lambda pair: (-pair[0], pair[1].provenance.trial))[:N_RIVALS]]


def _answers(facts: RunFacts, experience: Experience, *, split: str) -> Predictions | None:
    """Return the answers of a trial; those of another number of classes than the task has are unknown."""
    answers = facts.answers(experience, split)
    is_odd = answers is not None and answers.truth is not None and answers.n_classes != len(facts.task.labels)
    return None if is_odd else answers


def _intervals(given: Mapping[str, Predictions | None]) -> dict[str, list[float]]:
    found = {split: f1_interval(answers) for split, answers in given.items() if answers is not None}
    return {split: [each.low, each.high] for split, each in found.items() if each is not None}


def _compare(own: Predictions, others: Mapping[int, Predictions]) -> dict[str, Any]:
    """Compare the best trial with others on the same rows."""
    differences = {trial: difference_interval(own, answers) for trial, answers in others.items()}
    known = {trial: each for trial, each in differences.items() if each is not None}
    return {
        "compared": list(known),
        "within_noise": [trial for trial, each in known.items() if each.low <= 0],
        "behind": {
            str(trial): [f1_of(own) - f1_of(others[trial]), each.low, each.high] for trial, each in known.items()
        },
    }


def _classes(facts: RunFacts, best: Experience, *, own: Predictions) -> dict[str, Any]:
    """Describe how the best trial answers each class, on ``test`` where it was evaluated there."""
    split = "test" if best.provenance.trial in facts.tests else "validation"
    answers = own if split == "validation" else _answers(facts, best, split=split)
    if answers is None:
        split, answers = next(iter(PREDICTION_FILES)), own
    counts, labels = confusion(answers), list(facts.task.labels)
    if counts is None:
        return {}
    rows = [
        {"label": label, "rows": int(counts[n].sum()), "precision": float(p), "recall": float(r), "f1": float(f1)}
        for n, (label, (p, r, f1)) in enumerate(zip(labels, class_scores(counts), strict=True))
    ]
    matrix = {"split": split, "labels": labels, "counts": counts.tolist()} if len(labels) <= MOST_LABELS else None
    worst_first = sorted(rows, key=lambda row: (row["f1"], row["label"]))
    return {"classes": worst_first, "classes_on": split, "confusion": matrix}
