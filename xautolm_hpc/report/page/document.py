"""The page: its sections in order, with style and script inside, so that it opens from a file or an attachment."""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from xautolm_hpc.hyperparameters import LEAST_FOR_IMPORTANCE
from xautolm_hpc.report.blocks import Section, Table
from xautolm_hpc.report.figure_numbers import figure_numbers
from xautolm_hpc.report.page.charts import N_COLOURED, draw_chart
from xautolm_hpc.report.page.class_tables import class_tables, example_table
from xautolm_hpc.report.page.elements import Markup, number, tag
from xautolm_hpc.report.page.trial_table import trial_table
from xautolm_hpc.report.quantities import QUANTITIES, counted, duration_text, listed
from xautolm_hpc.report.run_in_words import mover_sentence, movers, prior_sentences, verdict_sentences
from xautolm_hpc.report.sections import front_title, params_title, report_sections
from xautolm_hpc.report.shortfall import shortfall_text
from xautolm_hpc.task_kinds import COLUMNS
from xautolm_hpc.view import finish_text, is_unfinished

Summary = Mapping[str, Any]
Numbers = Mapping[str, Any]

N_FOR_TENTH = 10
"""Trials from which the best tenth is more than a name for the best trial."""

LONGEST_TABLE = 60
"""Rows of a table up to which the page repeats it beside the table of all trials."""

BASELINE = "╌╌ dashed: the majority baseline"
"""Entry of a legend: what always answering the most frequent label has."""


def to_html(summary: Summary, *, examples: Sequence[Mapping[str, str]] = ()) -> str:
    """Write the report as a page that needs nothing beside it.

    Args:
        summary: Result of :func:`xautolm_hpc.report.summary.summarise`, or an older ``report.json``.
        examples: Wrong answers of the best trial with their texts, if a person asked for them: ``row``, ``text``,
            ``expected`` and ``given`` of each.

    Returns:
        The document; foreign text in it is escaped, and its policy forbids any request and any other script.
    """
    style, script = _asset("page.css"), _asset("page.js")
    policy = f"default-src 'none'; style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'"
    name = summary["run"]["name"]
    sections = list(_sections(summary, examples))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"Report of {name}"),
        tag("style", Markup(style)),
    )
    links = [tag("li", tag("a", title, href=f"#{anchor}")) for anchor, title, _ in sections]
    body = tag(
        "body",
        tag("a", "Skip to the results", href="#verdict", class_="skip"),
        tag(
            "header",
            tag("h1", f"Report of {name}"),
            _run_line(summary),
            tag("nav", tag("ul", *links), aria_label="Sections"),
        ),
        tag("main", *(_section(anchor, title, parts=parts) for anchor, title, parts in sections)),
        tag(
            "footer",
            tag(
                "p", "Every number here is in report.json beside this page, every figure in a JSON file and a picture."
            ),
        ),
        tag("div", id="tip", role="tooltip", hidden=True),
        tag("script", Markup(script)),
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def _sections(summary: Summary, examples: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, str, list[Markup]]]:
    """Iterate over anchor, title and content of the sections."""
    figures = figure_numbers(summary)
    charts = {name: _figure(name, numbers) for name, numbers in figures.items()}
    known = {section.title: section for section in report_sections(summary)}
    yield "verdict", "Verdict", _verdict(summary)
    front = front_title(summary)
    yield "pareto", front, [charts["pareto"], *_sections_of(known, front, "On test", params_title(summary))]
    if "best" in charts:
        yield "time", "Best so far", [charts["best"]]
    if "curves" in charts:
        yield "curves", "Learning curves", [charts["curves"]]
    yield "trials", "Trials", [trial_table(summary)]
    if "parallel" in charts:
        n_known = len(figures["parallel"]["lines"])
        importance = charts.get("importance") or tag("p", _no_importance(summary, n_known), class_="quiet")
        yield "parameters", "Hyperparameters", [charts["parallel"], importance]
    classes = class_tables(summary) + ([tag("h3", "Wrong answers"), example_table(examples)] if examples else [])
    if classes:
        yield "classes", "Classes", classes
    yield (
        "failures",
        "Failures and rejections",
        _sections_of(known, "Failures", "Rejected before submission", headed=True),
    )
    yield "prior", "Prior", _prior(summary, known)
    yield "cost", "Cost", _sections_of(known, "Cost")
    yield "use", "Use the model", _use(summary)


def _no_importance(summary: Summary, n_known: int) -> str:
    """Write why it is not known which hyperparameters mattered most, of so many trials with F1."""
    if is_unfinished(summary["run"]):
        return "Which of them mattered most comes when the search has ended."
    reason = f"{counted(n_known, 'trial')} succeeded, and {LEAST_FOR_IMPORTANCE} are needed"
    if n_known >= LEAST_FOR_IMPORTANCE:
        reason = "from them, F1 cannot be told better than by always guessing its mean"
    return f"Which of them mattered most is not known: {reason}."


def _section(anchor: str, title: str, *, parts: Sequence[Markup]) -> Markup:
    return tag("section", tag("h2", title, id=f"{anchor}-title"), *parts, id=anchor, aria_labelledby=f"{anchor}-title")


def _run_line(summary: Summary) -> Markup:
    run, task = summary["run"], summary["task"]
    rows = ", ".join(f"{n:,} {split}" for split, n in task["rows"].items())
    text = (
        f"Run {run['run_id']} · task {task['name']} ({task['kind']}, {task['metric']}; rows: {rows}) · "
        f"{finish_text(summary)}"
    )
    return tag("p", text, class_="quiet")


def _verdict(summary: Summary) -> list[Markup]:
    """Write the verdict, the main numbers, and why nothing beats the baseline if so."""
    lines = verdict_sentences(summary)
    if shortfall := summary.get("shortfall"):
        lines.append(shortfall_text(shortfall))
    return [tag("div", tag("p", " ".join(lines)), class_="verdict"), tag("dl", *_cards(summary), class_="cards")]


def _cards(summary: Summary) -> Iterator[Markup]:
    """Iterate over the main numbers, each with its title."""
    counts, spent = summary["counts"], summary["spent"]
    yield from _score_cards(summary)
    for title, key in (("Trials", "trials"), ("Succeeded", "succeeded"), ("Failed", "failed")):
        yield _card(title, number(f"{counts[key]:,}", counts[key], key=f"counts.{key}"))
    if n := counts["failed_infrastructure"]:
        yield _card("Failed by the infrastructure", number(f"{n:,}", n, key="counts.failed_infrastructure"))
    yield from _cost_cards(spent)


def _cost_cards(spent: Mapping[str, Any]) -> Iterator[Markup]:
    """Iterate over what the run has cost, as far as it is known."""
    if spent["gpu_h"]:
        yield _card("GPU-hours", number(f"{spent['gpu_h']:.3g}", spent["gpu_h"], key="spent.gpu_h"))
    else:
        yield _card("Time of trials", duration_text(spent["trial_s"]))
    for title, key, digits, unit in (("Energy", "energy_kwh", ".4g", "kWh"), ("Emissions", "co2_kg", ".3g", "kg CO2")):
        if spent.get(key) is not None:
            yield _card(title, number(f"{spent[key]:{digits}}", spent[key], key=f"spent.{key}"), f" {unit}")
    if spent.get("price") is not None:
        yield _card(
            "Price", number(f"{spent['price']:.2f}", spent["price"], key="spent.price"), f" {spent['currency']}"
        )


def _score_cards(summary: Summary) -> Iterator[Markup]:
    """Iterate over the scores of the best trial, after each what always answering the most frequent label has."""
    best, baseline = summary["best"], (summary.get("certainty") or {}).get("majority_test") or {}
    if best is not None and (f1 := best["metrics"].get("f1")) is not None:
        bound = ", a lower bound" if best.get("truncated") else ""
        yield _score_card("f1", f1, of=f"the best trial on validation{bound}", key="best.metrics.f1")
    if (f1 := summary["majority_f1"]) is not None:
        yield _score_card("f1", f1, of="the majority baseline on validation", key="majority_f1")
    tested = summary["tests"].get(str(best["trial"]), {}) if best is not None else {}
    for name in ("f1", "accuracy"):
        if name in tested:
            yield _score_card(name, tested[name], of="the best trial on test", key=f"tests.{best['trial']}.{name}")
        if name in baseline:
            key = f"certainty.majority_test.{name}"
            yield _score_card(name, baseline[name], of="the majority baseline on test", key=key)


def _score_card(name: str, value: float, *, of: str, key: str) -> Markup:
    return _card(f"{QUANTITIES[name].title} of {of}", number(QUANTITIES[name].text(value), value, key=key))


def _card(title: str, *parts: str) -> Markup:
    return tag("div", tag("dt", title), tag("dd", *parts))


def _figure(name: str, numbers: Numbers) -> Markup:
    """Build a figure with its caption and, where colours have a meaning, their legend."""
    legend = [tag("li", tag("i"), text, class_=css) for css, text in _legend(name, numbers)]
    legend += [tag("li", BASELINE)] if any(numbers.get("majority", {}).values()) else []
    chart = tag(
        "div", draw_chart(name, numbers), class_="scroll low", tabindex=0, role="region", aria_label=numbers["title"]
    )
    listed = [tag("ul", *legend, class_="legend")] if legend else []
    return tag("figure", tag("figcaption", numbers["title"]), chart, *listed, *_remarks(name, numbers))


def _legend(name: str, numbers: Numbers) -> Iterator[tuple[str, str]]:
    """Iterate over the class and the meaning of each colour of a chart."""
    if name == "pareto":
        groups = [point["group"] for point in numbers["points"]]
        origins = [failure["origin"] for failure in numbers["failures"]]
        yield "front", f"{numbers['front_name']} ({groups.count('front')}), with trial numbers"
        yield "dominated", f"{numbers['rest_name']} ({groups.count('dominated')})"
        for origin in dict.fromkeys(origins):
            yield f"failed {origin}", f"failed: {origin} ({origins.count(origin)})"
    if name == "curves":
        for place, curve in enumerate(numbers["curves"][:N_COLOURED]):
            yield f"s{place}", f"trial {curve['trial']}: {curve['name']}"
        if len(numbers["curves"]) > N_COLOURED:
            yield "rest", f"other trials ({len(numbers['curves']) - N_COLOURED})"
    if name == "parallel":
        best = "the best tenth" if len(numbers["lines"]) >= N_FOR_TENTH else "the best trial"
        yield "best", f"{best} by F1"
        yield "front", "the better half"
        yield "rest", "the others"


def _remarks(name: str, numbers: Numbers) -> list[Markup]:
    """Write what is to be known of a chart that has no point, or that shows what a forest predicts."""
    if name == "pareto" and not any(point["group"] == "front" for point in numbers["points"]):
        return [tag("p", f"There is no point: {numbers['empty_reason']}.")]
    if name == "importance":
        text = (
            f"How much worse F1 is predicted once the values of one are shuffled among the trials, by many decision "
            f"trees together (a random forest), on trials that they have not seen (R² {numbers['r2']:.2f}, "
            f"{numbers['trials']} trials). What was drawn unevenly is told unevenly well."
        )
        return [tag("p", text, class_="quiet")]
    return []


def _sections_of(known: Mapping[str, Section], *titles: str, headed: bool = False) -> list[Markup]:
    """Write sections of the report as they are on a terminal."""
    parts: list[Markup] = []
    for place, title in enumerate(title for title in titles if title in known):
        section = known[title]
        parts += [tag("h3", title)] if headed or place else []
        parts += [tag("p", line) for line in section.lines]
        if section.facts:
            entries = [tag(name, text) for label, fact in section.facts for name, text in (("dt", label), ("dd", fact))]
            parts.append(tag("dl", *entries, class_="facts"))
        if section.table is not None and len(section.table.rows) <= LONGEST_TABLE:
            parts.append(_table(section.table, name=title))
    return parts


def _table(table: Table, *, name: str) -> Markup:
    """Write a table of the report, below the heading that names it."""
    heads = [tag("th", column, scope="col", class_=_align(table, column)) for column in table.columns]
    rows = [
        tag(
            "tr",
            *(tag("td", cell, class_=_align(table, column)) for column, cell in zip(table.columns, row, strict=True)),
        )
        for row in table.rows
    ]
    content = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows), aria_label=name)
    return tag("div", content, class_="scroll low", tabindex=0, role="region", aria_label=name)


def _align(table: Table, column: str) -> str | None:
    return "right" if column in table.right else "prose" if column in table.wraps else None


def _prior(summary: Summary, known: Mapping[str, Section]) -> list[Markup]:
    """Write what moved the prior: in sentences, then the tables."""
    parts = [tag("p", sentence) for sentence in prior_sentences(summary)]
    strongest = movers(summary)
    if strongest:
        entries = [tag("li", mover_sentence(reason, task=summary["task"])) for reason in strongest]
        parts += [tag("h3", "What moved it most"), tag("ol", *entries)]
    titles = [title for title in known if title.startswith(("Prior against", "Forecast", "Experiences that"))]
    tables = _sections_of(known, *titles, headed=True)
    return [*parts, tag("details", tag("summary", "All its numbers"), *tables)] if tables else parts


def _use(summary: Summary) -> list[Markup]:
    """Write the commands that export and use the best model."""
    best = summary["best"]
    if best is None:
        return [tag("p", "There is no model to use: no trial succeeded.")]
    run, trial = summary["run"]["name"], best["trial"]
    settings = summary.get("settings", {})  # an older report has none
    names = [settings[key] for name in COLUMNS.get(summary["task"]["kind"], ()) if (key := f"data.{name}") in settings]
    columns = (
        f"the column{'s' if len(names) > 1 else ''} {listed(names)}" if names else "the columns of the search's data"
    )
    others = " Any trial of the Pareto set can be exported." if len(summary["objectives"]) > 1 else ""
    lines = (
        f"xautolm-hpc export-model {run} {trial} --to model",
        "xautolm-hpc predict model new.csv --to answers.jsonl",
    )
    return [
        tag(
            "p",
            f"On the machine and in the folder where the search ran, this writes trial {trial} of the run {run} as a "
            f"folder that transformers loads, and answers the rows of a file, which needs {columns} but no answers:",
        ),
        tag("pre", *(tag("code", _words(line)) for line in lines), tabindex=0),
        tag("p", f"The model card in that folder shows how Python loads it.{others}"),
    ]


def _words(command: str) -> Markup:
    """Build a command that a line breaks between its words only, not after the ``-`` of an option."""
    return Markup(" ".join(tag("span", word) for word in command.split()))


def _asset(name: str) -> str:
    """Read a file of this folder."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
