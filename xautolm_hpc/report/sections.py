"""The sections of the report, the same on screen and in Markdown.

Texts in sections are as they came from trials and stores; the modules that show them escape them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from xautolm_hpc.failures import TRUNCATED
from xautolm_hpc.report.advice import advice_lines
from xautolm_hpc.report.blocks import Section, Table
from xautolm_hpc.report.certainty import certainty_sentences, interval_text
from xautolm_hpc.report.curves import curve_section
from xautolm_hpc.report.prior_sections import prior_sections
from xautolm_hpc.report.quantities import COSTS, QUANTITIES, UNKNOWN, counted, duration_text, value_text
from xautolm_hpc.report.safe_text import shortened
from xautolm_hpc.report.shortfall import shortfall_text
from xautolm_hpc.view import finish_text, is_unfinished

Summary = Mapping[str, Any]
Trial = Mapping[str, Any]

SHOWN_BESIDE = ("accuracy", "exact_match", *COSTS, "cpu_energy_j")
"""Measures shown beside the objectives if at least one trial has them."""

EPOCHS = "Epochs run"
"""Heading of the column with the epochs that a trial ran of those drawn; early stopping leaves some out."""

TRUNCATED_TEXT = f"{TRUNCATED}: evaluated when the time was used up, before training had ended"

AT_LEAST = "≥ "
"""Mark before the F1 of a truncated trial, which is a lower bound."""

REJECTED_FOR: Mapping[str, str] = {
    "steps": "the training would have no optimiser step, or too few of them after the warm-up",
    "time": "the trial would take longer than trial.time_limit_min",
    "memory": "the training would need more memory than a job has",
    "context_length": "max_length is more than the model reads",
    "unsupported": "the model cannot be trained that way here",
    "duplicate": "the same pipeline was drawn before",
    "model_out": "the model's files were found not to fit together",
    "risk": "past experience makes a failure likely",
}
"""Constraint -> what it rejects."""

NO_COUNTER = ": the trials had no GPU, and the CPU's counter (RAPL) is for root alone, or missing"
"""Why nothing measured the energy of trials without a GPU."""

RATES = "[cost] in the cluster profile would add money and CO2."

MANY_SHORT = "Most had too few steps: use more rows, more epochs, smaller batches or fewer warm-up steps"

MIN_STEPS = "constraints.min_steps"
"""Setting that is named as a remedy where a recorded reason names it."""

MAJORITY = "majority baseline"
"""First cell of the row with what always answering the most frequent label has on test."""

LONGEST_EXAMPLE = 200
"""Length of a failure's example, in characters."""


def report_sections(summary: Summary) -> list[Section]:
    """Build all sections from the result of :func:`xautolm_hpc.report.summary.summarise`, in reading order."""
    sections = [
        _overview(summary),
        _front(summary),
        _tests(summary),
        _hyperparameters(summary),
        curve_section(summary),
        _dominated(summary),
        _unranked(summary),
        _failures(summary),
        _rejections(summary),
        _cost(summary),
        *prior_sections(summary["prior"]),
    ]
    return [section for section in sections if section is not None]


def measure(trial: Trial, name: str) -> float | None:
    """Return a metric or a cost of a trial of the summary; ``None`` if it is unknown."""
    value = trial.get(name, trial["metrics"].get(name))
    return None if value is None else float(value)


def totals_line(summary: Summary) -> str:
    """Write the number of trials and their cost in one line."""
    counts, spent, n_rejected = summary["counts"], summary["spent"], sum(summary["refusals"].values())
    trials = f"{counted(counts['trials'], 'trial')}: {counts['succeeded']:,} succeeded, {counts['failed']:,} failed"
    by_infrastructure = counts["failed_infrastructure"]
    trials += f" ({by_infrastructure:,} by the infrastructure)" if by_infrastructure else ""
    trials += f", {counts['cancelled']:,} cancelled" if counts["cancelled"] else ""
    trials += f"; {counts['truncated']:,} truncated" if counts.get("truncated") else ""
    rejected = f"{counted(n_rejected, 'pipeline')} rejected before submission"
    return f"{trials} · {rejected} · {duration_text(spent['trial_s'])} of trials · energy: {energy_text(spent)}"


def _charged_facts(spent: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List emissions and price, as far as the rates are known; an older report knows of none."""
    facts = []
    if spent.get("co2_kg") is not None:
        facts.append(("Emissions", f"{spent['co2_kg']:.3g} kg CO2 (at {spent['co2_g_per_kwh']:g} g a kWh)"))
    if spent.get("price") is not None:
        rate = f"at {spent['price_per_gpu_h']:g} {spent['currency']} a GPU-hour"
        facts.append(("Price", f"{spent['price']:.2f} {spent['currency']} ({rate})"))
    return facts


def energy_text(spent: Mapping[str, Any]) -> str:
    """Write the energy of a run, or that nothing measured it."""
    if spent["energy_kwh"] is None:
        return "not measured on this machine"
    return f"{spent['energy_kwh']:.4g} kWh"


def _overview(summary: Summary) -> Section:
    """Build the overview: task, objectives, why the search ended, best trial and counts."""
    task, counts = summary["task"], summary["counts"]
    rows = ", ".join(f"{n:,} {split}" for split, n in task["rows"].items())
    facts = (
        ("Task", f"{task['name']} ({task['kind']}, {task['metric']}); rows: {rows}"),
        ("Objectives", ", ".join(f"{o['name']} ({o['better']} is better)" for o in summary["objectives"])),
        ("State" if is_unfinished(summary["run"]) else "Ended because", finish_text(summary)),
        ("Best trial", _best_text(summary)),
        *([("How sure", " ".join(sure))] if (sure := certainty_sentences(summary)) else []),
        ("Majority baseline", _majority_text(summary)),
        *([("Why", shortfall_text(shortfall))] if (shortfall := summary.get("shortfall")) else []),
        ("Trials", _trials_text(counts)),
        ("Attempts", _attempts_text(counts)),
    )
    left_out = summary.get("left_out")  # an older report has none
    return Section(title="Overview", facts=(*facts, ("Left out", left_out_text(left_out))) if left_out else facts)


def left_out_text(left_out: Sequence[int]) -> str:
    """Write which lines of a given list were not evaluated.

    Args:
        left_out: Their trial numbers, ascending; the first line of the list is trial 0.
    """
    spans: list[list[int]] = []
    for line in (number + 1 for number in left_out):
        if spans and spans[-1][1] == line - 1:
            spans[-1][1] = line
        else:
            spans.append([line, line])
    lines = ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in spans)
    return f"{counted(len(left_out), 'pipeline')} of the list: line{'s' if len(left_out) > 1 else ''} {lines}"


def _best_text(summary: Summary) -> str:
    best = summary["best"]
    if best is None:
        return "none: no trial succeeded"
    first = summary["objectives"][0]["name"]
    quantity = QUANTITIES[first]
    value = quantity.text_with_unit(measure(best, first))
    value += interval_text(summary, best["trial"], split="validation") if first == "f1" else ""
    truncated = f" ({TRUNCATED_TEXT})" if best.get("truncated") else ""
    return f"trial {best['trial']} with {quantity.title} {value}: {best['model']}, {best['method']}{truncated}"


def _majority_text(summary: Summary) -> str:
    majority, margin = summary["majority_f1"], summary["margin"]
    if majority is None:
        return "unknown: the task has no labels, or the profile did not measure it"
    if margin is None:
        return f"F1 {majority:.4f}"
    shown = round(margin, 4) + 0.0  # what shows as +0.0000 is not above
    on_test = (summary.get("certainty") or {}).get("majority_test")
    tested = f"; on test F1 {on_test['f1']:.4f}, accuracy {on_test['accuracy']:.4f}" if on_test else ""
    return f"F1 {majority:.4f}; the best trial is {'above' if shown > 0 else 'NOT above'} it ({shown:+.4f}){tested}"


def _trials_text(counts: Mapping[str, int]) -> str:
    text = (
        f"{counts['trials']:,}: {counts['succeeded']:,} succeeded, {counts['failed_pipeline']:,} failed by their "
        f"pipeline, {counts['failed_infrastructure']:,} by the infrastructure"
    )
    text += f", {counts['cancelled']:,} cancelled" if counts["cancelled"] else ""
    text += f"; {counts['truncated']:,} of the successes {TRUNCATED_TEXT}" if counts.get("truncated") else ""
    suspect = f"; {counts['suspect']:,} suspect (equal failures that stopped the search; no evidence until accepted)"
    return text + (suspect if counts["suspect"] else "")


def _attempts_text(counts: Mapping[str, int]) -> str:
    retries = counted(counts["retries"], "retry", plural="retries")
    restarts = f", {counted(counts['restarts'], 'requeue')}" if counts["restarts"] else ""
    return f"{counts['attempts']:,} ({retries}{restarts})"


def front_title(summary: Summary) -> str:
    """Name the trials that no other beats: with one objective that is the best trial, or those equal to it."""
    if len(summary["objectives"]) > 1:
        return "Pareto set"
    return "Best trials" if len(summary["front"]) > 1 else "Best trial"


def params_title(summary: Summary) -> str:
    """Name the section of the hyperparameters of those trials."""
    return f"Hyperparameters of the {front_title(summary).replace('Best', 'best')}"


def _front(summary: Summary) -> Section:
    """Build the table of the trials that no other beats, with how many it beats."""
    trials, title, is_single = summary["front"], front_title(summary), len(summary["objectives"]) == 1
    if not trials:
        reason = "No trial succeeded." if not summary["unranked"] else _missing_text(summary)
        return Section(title=title, lines=(reason if is_single else f"The Pareto set is empty. {reason}",))
    n_beaten = len(summary["dominated"])
    beaten = f"{counted(n_beaten, 'other trial')} {'is' if n_beaten == 1 else 'are'}"
    line = f"No trial beats these in every objective; {beaten} dominated."
    if is_single:
        line = f"{beaten} worse in {QUANTITIES[summary['objectives'][0]['name']].title}."
    return Section(title=title, lines=(line,), table=_trial_table(summary, trials))


def _tests(summary: Summary) -> Section | None:
    """Build the table of scores on ``test``; no trial used that split before."""
    tests = summary["tests"]
    shown = [trial for group in ("front", "dominated", "unranked") for trial in summary[group]]
    marks = {str(trial["trial"]): f" ({TRUNCATED})" for trial in shown if trial.get("truncated")}
    names = list(dict.fromkeys(name for metrics in tests.values() for name in metrics))
    rows = tuple(
        (f"{trial}{marks.get(trial, '')}", *(f"{metrics[name]:.4f}" if name in metrics else "" for name in names))
        for trial, metrics in tests.items()
    )
    if rows and (majority := (summary.get("certainty") or {}).get("majority_test")):
        rows += ((MAJORITY, *(f"{majority[name]:.4f}" if name in majority else "" for name in names)),)
    titles = [QUANTITIES[name].title if name in QUANTITIES else name.capitalize() for name in names]
    table = Table(("Trial", *titles), rows, right=frozenset(titles))
    return Section(title="On test", lines=("The trials above, evaluated once.",), table=table) if rows else None


def _hyperparameters(summary: Summary) -> Section | None:
    rows = tuple(
        (str(trial["trial"]), f"{trial['model']}, {trial['method']}", _params_text(trial["params"]))
        for trial in summary["front"]
    )
    columns = ("Trial", "Model, method", "Hyperparameters")
    table = Table(columns, rows, right=frozenset({"Trial"}), wraps=frozenset({"Hyperparameters"}))
    return Section(title=params_title(summary), table=table) if rows else None


def _params_text(params: Mapping[str, object]) -> str:
    return ", ".join(f"{name} = {value_text(value)}" for name, value in sorted(params.items())) or UNKNOWN


def _dominated(summary: Summary) -> Section | None:
    trials = summary["dominated"]
    title = "Dominated trials"
    lines: tuple[str, ...] = ("A trial of the Pareto set is at least as good in every objective and better in one.",)
    if len(summary["objectives"]) == 1:
        title, lines = "Other trials that succeeded", ()
    table = _trial_table(summary, trials)
    return Section(title=title, lines=lines, table=table, on_screen=False) if trials else None


def _unranked(summary: Summary) -> Section | None:
    trials = summary["unranked"]
    table = _trial_table(summary, trials)
    lines = (_missing_text(summary),)
    return Section(title="Succeeded, but not comparable", lines=lines, table=table) if trials else None


def _missing_text(summary: Summary) -> str:
    trials = summary["unranked"]
    names = [o["name"] for o in summary["objectives"] if any(measure(t, o["name"]) is None for t in trials)]
    return f"{counted(len(trials), 'trial')} succeeded without a known value of {' or '.join(names)}."


def _trial_table(summary: Summary, trials: Sequence[Trial]) -> Table:
    """Build a table of trials: objectives first, then other measures that at least one trial has."""
    objectives = [objective["name"] for objective in summary["objectives"]]
    beside = [name for name in ("f1", *SHOWN_BESIDE) if name not in objectives]
    names = [*objectives, *(name for name in beside if any(measure(trial, name) is not None for trial in trials))]
    headings = tuple(QUANTITIES[name].heading for name in names)
    rows = tuple((str(t["trial"]), t["model"], t["method"], *(measure_text(t, name) for name in names)) for t in trials)
    ranked = ("Trial", *(QUANTITIES[name].heading for name in ("f1", *objectives)), "Model", "Method")
    if any(trial.get("epochs_run") or trial.get("truncated") for trial in trials):
        headings += (EPOCHS,)
        rows = tuple((*row, _epochs_text(trial)) for row, trial in zip(rows, trials, strict=True))
    return Table(("Trial", "Model", "Method", *headings), rows, right=frozenset({"Trial", *headings}), rank=ranked)


def measure_text(trial: Trial, name: str) -> str:
    """Write a metric or a cost of a trial; the F1 of a truncated one as the lower bound that it is."""
    text, value = QUANTITIES[name].text(measure(trial, name)), measure(trial, name)
    return f"{AT_LEAST}{text}" if name == "f1" and value is not None and trial.get("truncated") else text


def _epochs_text(trial: Trial) -> str:
    drawn, n_run = trial["params"].get("epochs"), trial.get("epochs_run")
    if trial.get("truncated") and trial.get("epochs_done") is not None:
        n_run = f"{trial['epochs_done']:.3g}"
    return UNKNOWN if n_run is None or drawn is None else f"{n_run} of {drawn}"


def _failures(summary: Summary) -> Section:
    """Count failures by origin and kind, each with an example."""
    if not summary["failures"]:
        return Section(title="Failures", lines=("No attempt failed.",))
    line = (
        "Origin pipeline: the trial itself was at fault, and the search learns from it. Infrastructure: the machine or "
        "the cluster was; the attempt is no evidence. A trial counts under its last attempt's failure; "
        "an attempt that was retried counts as an attempt only."
    )
    columns = ("Origin", "Kind", "Trials", "Attempts", "Example")
    rows = tuple(
        (
            failure["origin"] or UNKNOWN,
            failure["kind"] or UNKNOWN,
            f"{failure['trials']:,}",
            f"{failure['attempts']:,}",
            shortened(failure["reason"] or UNKNOWN, LONGEST_EXAMPLE),
        )
        for failure in summary["failures"]
    )
    table = Table(columns, rows, right=frozenset({"Trials", "Attempts"}), wraps=frozenset({"Example"}))
    return Section(title="Failures", lines=(line, *advice_lines(summary)), table=table)


def _rejections(summary: Summary) -> Section:
    """Count the draws that each constraint rejected, say what it rejects, and give one of its reasons."""
    title = "Rejected before submission"
    if not summary["refusals"]:
        return Section(title=title, lines=("No pipeline was rejected.",))
    refusals = summary["refusals"]
    line = "Pipelines that were drawn and not submitted, by the constraint that rejected them."
    reasons = summary.get("refusal_reasons", {})  # reports of versions before have none
    lower = f", or lower {MIN_STEPS}" if MIN_STEPS in reasons.get("steps", "") else ""
    hint = (f"{MANY_SHORT}{lower}.",) if 2 * refusals.get("steps", 0) > sum(refusals.values()) else ()
    rows = tuple(
        (name, f"{count:,}", REJECTED_FOR.get(name, UNKNOWN), reasons.get(name, UNKNOWN))
        for name, count in refusals.items()
    )
    columns = ("Constraint", "Pipelines", "Meaning", "For instance")
    table = Table(columns, rows, right=frozenset({"Pipelines"}), wraps=frozenset({"Meaning", "For instance"}))
    return Section(title=title, lines=(line, *hint), table=table)


def _cost(summary: Summary) -> Section:
    """Build the cost of the run; for energy, also its source and the number of attempts that measured it."""
    spent, counts = summary["spent"], summary["counts"]
    energy = energy_text(spent)
    without_gpu = spent.get("without_gpu", not spent["gpu_h"])  # reports of versions before do not say
    if spent["energy_kwh"] is None and spent["trial_s"] and without_gpu:
        energy += NO_COUNTER
    if spent["energy_kwh"] is not None:
        source, scope = "+".join(spent["energy_sources"]), ", ".join(spent["energy_scopes"])
        n_known = f"{spent['attempts_with_energy']:,} of {counted(counts['attempts'], 'attempt')}"
        energy += f", measured in {n_known}" + (f" ({source}; scope: {scope})" if source else "")
    facts = (
        ("Generations", f"{spent['generations']:,}"),
        ("Wall time of the driver", duration_text(spent["wall_s"])),
        ("Time of trials", f"{duration_text(spent['trial_s'])}, failed and repeated attempts included"),
        *([("Time of failed attempts", duration_text(failed_s))] if (failed_s := spent.get("failed_s")) else []),
        *([("GPU time", f"{spent['gpu_h']:.3g} GPU-hours")] if spent["gpu_h"] else []),
        ("Energy", energy),
        *_charged_facts(spent),
    )
    has_rates = spent.get("co2_g_per_kwh") is not None or spent.get("price_per_gpu_h") is not None
    can_charge = bool(spent["gpu_h"]) or spent["energy_kwh"] is not None
    return Section(title="Cost", facts=facts, lines=(RATES,) if can_charge and not has_rates else ())
