"""The table of every trial: what it is, what came of it, and each hyperparameter in a column of its own."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xautolm_hpc.failures import TRUNCATED
from xautolm_hpc.report.figure_numbers import all_trials
from xautolm_hpc.report.page.elements import Markup, breakable, tag
from xautolm_hpc.report.quantities import QUANTITIES, UNKNOWN, value_text

Summary = Mapping[str, Any]
Trial = Mapping[str, Any]

MEASURED = ("f1", "accuracy", "exact_match", "evaluation_time_s", "peak_gpu_memory_bytes", "gpu_energy_j")
"""Measures that have a column where a trial knows them, beside the objectives."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        heading: Its heading.
        key: Where its value stands in a trial of ``report.json``, dots between the parts.
        digits: Digits after the point of a measure; ``None`` for texts and hyperparameters.
        divisor: Value / divisor = what is shown.
    """

    heading: str
    key: str
    digits: int | None = None
    divisor: float = 1.0

    def value(self, trial: Trial) -> Any:
        """Return its value for a trial; ``None`` where it is unknown."""
        first, _, rest = self.key.partition(".")
        return trial.get(first, {}).get(rest) if rest else trial.get(first)

    def text(self, value: Any) -> str:
        """Write a value as it is shown."""
        if value is None:
            return UNKNOWN
        return value_text(value) if self.digits is None else f"{value / self.divisor:.{self.digits}f}"


def trial_table(summary: Summary) -> Markup:
    """Build the table of all trials with its filters; without a script it is a plain table."""
    trials = all_trials(summary)
    same = _same_params(trials)
    columns = _columns(summary, trials, without=same)
    numeric = {column for column in columns[1:] if any(_is_number(column.value(trial)) for trial in trials)}
    heads = [
        tag(
            "th",
            tag("button", breakable(column.heading), type="button"),
            scope="col", data_key=column.key, data_divisor=repr(column.divisor),
            class_="number" if column in numeric else None,
        )
        for column in columns
    ]  # fmt: skip
    rows = [_row(trial, columns, numeric=numeric) for trial in trials]
    table = tag(
        "table",
        tag("caption", "All trials; a heading sorts them, a trial's number marks it in the charts"),
        tag("thead", tag("tr", *heads)),
        tag("tbody", *rows),
        id="trials-table",
    )
    listed = ", ".join(f"{name} = {value_text(value)}" for name, value in same.items())
    return tag(
        "div",
        tag("p", f"All trials: {listed}.") if same else Markup(),
        _filters(trials),
        tag("div", table, class_="scroll", tabindex=0, role="region", aria_label="All trials"),
    )


def result_of(trial: Trial) -> str:
    """Name how a trial ended: its status, the kind of its failure, or that it was truncated."""
    return str(trial["kind"] or (TRUNCATED if trial.get("truncated") else trial["status"]))


def _same_params(trials: Sequence[Trial]) -> dict[str, Any]:
    """Find the hyperparameters that all trials have with one value; none where there is only one trial."""
    first = trials[0]["params"] if len(trials) > 1 else {}
    return {
        name: value
        for name, value in first.items()
        if all(repr(trial["params"].get(name)) == repr(value) for trial in trials)
    }


def _columns(summary: Summary, trials: Sequence[Trial], *, without: Collection[str]) -> list[Column]:
    """List the columns: the objectives, measures that a trial knows, and the hyperparameters that differ."""
    names = [*(objective["name"] for objective in summary["objectives"]), *MEASURED]
    measures = [_measure(name) for name in dict.fromkeys(names)]
    known = [column for column in measures if any(column.value(trial) is not None for trial in trials)]
    params = dict.fromkeys(name for trial in trials for name in trial["params"])
    return [
        Column("Trial", "trial"),
        Column("Model", "model"),
        Column("Method", "method"),
        Column("Result", "result"),
        *known,
        Column("Epochs run", "epochs_run"),
        *(Column(name, f"params.{name}") for name in params if name not in without),
    ]


def _measure(name: str) -> Column:
    quantity = QUANTITIES[name]
    key = f"metrics.{name}" if name in ("f1", "accuracy", "exact_match") else name
    return Column(quantity.heading, key, quantity.digits, quantity.divisor)


def _row(trial: Trial, columns: Sequence[Column], *, numeric: Collection[Column]) -> Markup:
    shown = {**trial, "result": result_of(trial)}
    mark = tag("button", str(trial["trial"]), type="button", class_="mark", aria_pressed="false")
    cells = [tag("th", mark, scope="row", data_v=trial["trial"])]
    cells += [_cell(column, column.value(shown), is_right=column in numeric) for column in columns[1:]]
    return tag("tr", *cells, data_trial=trial["trial"], data_status=trial["status"])


def _cell(column: Column, value: Any, *, is_right: bool) -> Markup:
    """Build a cell; a number has its exact value beside it, by which the column is sorted."""
    exact = repr(value) if _is_number(value) else None
    return tag("td", column.text(value), class_="number" if is_right else None, data_v=exact)


def _is_number(value: Any) -> bool:
    return value is not None and not isinstance(value, str | bool)


def _filters(trials: Sequence[Trial]) -> Markup:
    """Build the filters above the table; the script shows them."""
    results = sorted({result_of(trial) for trial in trials})
    methods = sorted({str(trial["method"]) for trial in trials})
    return tag(
        "form",
        tag("label", "Any column contains ", tag("input", type="search", id="filter-text", autocomplete="off")),
        _choice("Result", "filter-result", values=results),
        _choice("Method", "filter-method", values=methods),
        tag("output", f"{len(trials)} of {len(trials)} trials", id="filter-count"),
        id="filters", hidden=True, aria_label="Filter the trials",
    )  # fmt: skip


def _choice(label: str, name: str, *, values: Sequence[str]) -> Markup:
    options = [tag("option", "all", value=""), *(tag("option", value, value=value) for value in values)]
    return tag("label", f"{label} ", tag("select", *options, id=name))
