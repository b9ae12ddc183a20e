"""Sections about the prior: its difference from uniform, and the experiences that caused it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from xautolm_hpc.report.blocks import Section, Table
from xautolm_hpc.report.quantities import QUANTITIES, UNKNOWN, counted, listed

Prior = Mapping[str, Any]
Member = Mapping[str, Any]

N_MEMBERS, N_EXPLAINED, N_EXPERIENCES = 20, 3, 3
"""Rows of a table of probabilities; members of each group whose prior is explained; experiences for each."""

SHOWN_AS = {"merit": "utility"}
"""Forecast quantity in ``priors.json`` -> its name where it is another one."""

ADDED: Mapping[str, str] = {
    "constraints.min_steps": "a least number of training steps",
    "trial.early_stopping_min_steps": "no early stopping before so many steps",
    "trial.at_limit": "a score for trials whose time ends",
    "trial.foretell": "an early end of trials that will not fit into their time",
    "store.also_read": "experience that came with the program",
}
"""Key of a search file that adds something to the published method -> what it adds."""

ADDED_TITLE = "Added to XAutoLM"
"""Label of what is on that XAutoLM as it was published does not have."""

MOVED_MOST = (
    "For the models and methods furthest from uniform, the experiences that moved them most; of those that are ahead, "
    "also the experiences that helped them most."
)

ADDED_UP = "An experience of another model moves a probability too, because the probabilities add up to 1."

NOT_ADDED_UP = (
    "Each changed what is expected of the model or method by a share of it. These changes do not add up to the "
    "difference of its probability, which follows from what is expected of all models or methods together."
)

TIME_COUNTS = "A short time counts a little, even where it is no objective."

UNCHANGED = 5e-5
"""A smaller difference of probabilities is 0 in the digits shown."""


def prior_sections(prior: Prior) -> list[Section]:
    """Build the sections about a prior: its evidence, its difference from uniform and the reasons.

    Args:
        prior: The summary's ``prior``, of :func:`xautolm_hpc.report.summary.summarise_prior`.
    """
    if prior["kind"] == "uniform":
        line = "The search started from the uniform distribution: it used no past experience."
        return [Section(title="Prior", facts=_facts(prior), lines=(line,))]
    sections = [
        Section(title="Prior", facts=_facts(prior), lines=_verdict(prior)),
        _probabilities(prior["models"], heading="Model"),
        _probabilities(prior["methods"], heading="Method"),
        _forecast(prior, group="models", heading="Model"),
        _forecast(prior, group="methods", heading="Method"),
        _moved(prior),
    ]
    return [section for section in sections if section is not None]


def added_text(prior: Prior) -> str:
    """Write what is on in a search that is not in XAutoLM as it was published.

    Args:
        prior: The summary's ``prior``, with its ``additions`` known.
    """
    written = [
        f"{ADDED[key]} ({key} = {value})" if key in ADDED else f"{key} = {value}"
        for key, value in prior["additions"].items()
    ]
    return listed(written) if written else "nothing"


def _facts(prior: Prior) -> tuple[tuple[str, str], ...]:
    """List the kind of prior and the numbers of experiences used, as far as they are known."""
    counts = prior["counts"]
    facts = [("Kind", prior["kind"])]
    if prior.get("additions") is not None:
        facts.append((ADDED_TITLE, added_text(prior)))
    if "records" in counts:
        skipped = sum(counts.get("skipped", {}).values())
        facts.append(("Store", f"{counted(counts['records'], 'record')}, of which {skipped:,} are no evidence"))
    if "positives" in counts and "negatives" in counts:
        facts.append(("Evidence", _of_each(counts["positives"], counts["negatives"])))
    if "selected_positives" in counts and "selected_negatives" in counts:
        used = _of_each(counts["selected_positives"], counts["selected_negatives"])
        outside = counts.get("outside_space", 0)
        facts.append(("Weighed", f"{used}, of which {outside:,} concern nothing in this search space"))
    return tuple(facts)


def _of_each(n_positive: int, n_negative: int) -> str:
    return f"{counted(n_positive, 'success', plural='successes')} and {counted(n_negative, 'failure')}"


def _verdict(prior: Prior) -> tuple[str, ...]:
    members = [*prior["models"], *prior["methods"]]
    if not members:
        return ("Its probabilities were not recorded.",)
    if all(abs(_shift(member)) < UNCHANGED for member in members):
        return ("No past experience moved a model or a method: the search started as from uniform.",)
    return ()


def _probabilities(members: Sequence[Member], *, heading: str) -> Section | None:
    """Build the table of one group's prior beside uniform."""
    rows = tuple(
        (member["name"], f"{member['prior']:.4f}", f"{member['uniform']:.4f}", f"{round(_shift(member), 4) + 0.0:+.4f}")
        for member in members[:N_MEMBERS]
    )
    columns = (heading, "Prior", "Uniform", "Difference")
    n_left = len(members) - len(rows)
    lines = (f"The {len(rows)} most probable; {n_left:,} more are in report.json.",) if n_left else ()
    table = Table(columns, rows, frozenset(columns[1:]))
    title = f"Prior against uniform: {heading.lower()}s"
    return Section(title=title, lines=lines, table=table, on_screen=False) if rows else None


def _forecast(prior: Prior, *, group: str, heading: str) -> Section | None:
    """Build the table of forecasts for each member, averaged over uniformly drawn hyperparameters."""
    forecasts = prior.get("forecast", {}).get(group, {})
    names = [member["name"] for member in prior[group][:N_MEMBERS] if forecasts.get(member["name"])]
    if not names:
        return None
    columns = list(dict.fromkeys(column for name in names for column in forecasts[name]))
    rows = tuple((name, *(f"{forecasts[name].get(column, 0.0):.2f}" for column in columns)) for name in names)
    shown = (heading, *map(_forecast_heading, columns))
    line = "Probability of failing by each cause, of succeeding, and the quality of a success: 0 worst, 1 best."
    lines = (line, TIME_COUNTS) if "merit: evaluation_time_s" in columns else (line,)
    return Section(
        title=f"Forecast: {group}", lines=lines, table=Table(shown, rows, frozenset(shown[1:])), on_screen=False
    )


def _forecast_heading(key: str) -> str:
    """Name a forecast quantity, such as ``risk: memory``, as it is shown."""
    quantity, colon, of = key.partition(": ")
    shown = SHOWN_AS.get(quantity, quantity)
    of = QUANTITIES[of].title if of in QUANTITIES else of
    return f"{shown[0].upper()}{shown[1:]}{colon}{of}"


def _moved(prior: Prior) -> Section | None:
    """List the experiences that moved the models and methods furthest from uniform."""
    is_expected = prior["kind"] == "evidence"
    rows = tuple(
        row
        for group, noun in (("models", "model"), ("methods", "method"))
        for member in _furthest(prior[group])
        for row in _reasons(member, noun, is_expected=is_expected)
    )
    of, by = ("Expected of", "Changed by") if is_expected else ("Probability of", "Moved by")
    columns = (of, by, "Its task", "Its model", "Its method", "Result", "F1", "Weight", "Experience")
    table = Table(columns, rows, frozenset({by, "F1", "Weight"}))
    lines = (MOVED_MOST, NOT_ADDED_UP if is_expected else ADDED_UP)
    title = "Experiences that moved the prior"
    return Section(title=title, lines=lines, table=table, on_screen=False) if rows else None


def furthest_ahead(members: Sequence[Member]) -> Member | None:
    """Return the model or method whose probability is furthest above uniform; ``None`` without any."""
    return max(members, key=_shift, default=None)


def shown_reasons(member: Member) -> list[Mapping[str, Any]]:
    """List the experiences that moved a model or method most, and those that helped most one that is ahead."""
    most, shown = member["moved_by"], member["moved_by"][:N_EXPERIENCES]
    helped = [reason for reason in most if reason.get("contribution", 0.0) > 0][:N_EXPERIENCES]
    return [reason for reason in most if reason in shown or (reason in helped and _shift(member) > 0)]


def expected_share(contribution: float) -> float:
    """Compute by what share an experience changed what the prior ``evidence`` expects.

    Args:
        contribution: Its part of the logarithm of that.
    """
    return math.expm1(contribution)


def _furthest(members: Sequence[Member]) -> list[Member]:
    """List the models or methods furthest from uniform, and the one that is furthest ahead."""
    moved = sorted((member for member in members if abs(_shift(member)) >= UNCHANGED), key=lambda m: -abs(_shift(m)))
    ahead = furthest_ahead(moved)
    return [member for n, member in enumerate(moved) if n < N_EXPLAINED or member is ahead]


def _reasons(member: Member, noun: str, *, is_expected: bool) -> list[tuple[str, ...]]:
    """Write a row for each of the experiences that moved one model or method most."""
    return [
        (
            f"{noun} {member['name']}",
            f"{expected_share(reason['contribution']):+.1%}" if is_expected else f"{reason['contribution']:+.5f}",
            reason["task"],
            reason["model"],
            reason["method"],
            reason["kind"] or reason["status"],
            f"{reason['f1']:.4f}" if reason.get("f1") is not None else UNKNOWN,
            f"{reason['weight']:.3f}",
            reason["id"],
        )
        for reason in shown_reasons(member)
    ]


def _shift(member: Member) -> float:
    return float(member["prior"]) - float(member["uniform"])
