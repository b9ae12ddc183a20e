"""The page: every number in it is one of ``report.json``, foreign text stays text, and it needs nothing beside it."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.report.facts import facts, failure, success
from tests.report.large_run import large_run
from tests.report.older_report import older_report
from tests.report.whole_run import HOSTILE, PRIOR, whole_run
from xautolm_hpc.hyperparameters import LEAST_FOR_IMPORTANCE
from xautolm_hpc.report import summarise, to_html
from xautolm_hpc.report.figure_numbers import all_trials, figure_numbers
from xautolm_hpc.report.quantities import duration_text
from xautolm_hpc.view import UNFINISHED, RunFacts

EMPTY = {"meta", "wbr", "input", "br", "hr", "col", "link"}
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
NAMES = re.compile(r"\b(?:F1|CO2|R²)")
"""What looks like a number and is none."""

LARGEST_BYTES = 5_000_000


class Node:
    """An element of a parsed page."""

    def __init__(self, name: str, attributes: dict[str, str | None], parent: "Node | None") -> None:
        self.name, self.attributes, self.parent = name, attributes, parent
        self.children: list[Node | str] = []

    def walk(self) -> Iterator["Node"]:
        """Iterate over this element and all within it."""
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.walk()

    def find(self, name: str, **attributes: str) -> list["Node"]:
        """List the elements of a name within this one whose attributes are as given."""
        return [
            n for n in self.walk() if n.name == name and all(n.attributes.get(k) == v for k, v in attributes.items())
        ]

    def text(self, *, without: tuple[str, ...] = ()) -> str:
        """Join the texts of this element, without those of some elements."""
        parts = [
            child if isinstance(child, str) else child.text(without=without)
            for child in self.children
            if isinstance(child, str) or child.name not in without
        ]
        return " ".join(parts)


class Parser(HTMLParser):
    """Builds a tree, and refuses a page whose elements do not close as they should."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self.here = Node("root", {}, None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, dict(attrs), self.here)
        self.here.children.append(node)
        if tag not in EMPTY:
            self.here = node

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.here.name
        assert self.here.parent is not None
        self.here = self.here.parent

    def handle_data(self, data: str) -> None:
        self.here.children.append(data)


def parsed(page: str) -> Node:
    """Parse a page."""
    parser = Parser()
    parser.feed(page)
    parser.close()
    assert parser.here is parser.root
    return parser.root


def at(summary: Any, key: str) -> Any:
    """Return what stands in a summary under a key with dots."""
    for part in key.split("."):
        summary = summary[int(part)] if isinstance(summary, list) else summary[part]
    return summary


def shows(text: str, value: float) -> bool:
    """Check that a text is a value, rounded to the digits that it has."""
    digits = text.replace(",", "")
    exponent = int(digits.partition("e")[2] or 0)
    n_decimals = len(digits.partition("e")[0].partition(".")[2])
    return abs(float(digits) - value) <= 0.5000001 * 10.0 ** (exponent - n_decimals) + 1e-12 * abs(value)


RUNS = [
    whole_run(),
    large_run(40),
    facts([failure(0, "gpu_oom")]),
    whole_run(objectives=("f1",)),
    large_run(40, finish=UNFINISHED, tests={}, importance=None),
]


@pytest.fixture(params=range(len(RUNS)))
def run(request: pytest.FixtureRequest) -> RunFacts:
    number: int = request.param
    return RUNS[number]


def test_every_marked_number_is_that_of_the_report(run: RunFacts) -> None:
    summary = json.loads(json.dumps(summarise(run)))

    marked = parsed(to_html(summary)).find("data")

    assert marked
    for node in marked:
        key, value = node.attributes["data-key"], node.attributes["value"]
        assert key is not None
        assert value is not None
        assert float(value) == at(summary, key), key
        assert shows(node.text(), float(value)), key


def test_every_cell_of_the_table_of_trials_is_that_of_the_report(run: RunFacts) -> None:
    summary = json.loads(json.dumps(summarise(run)))

    (table,) = parsed(to_html(summary)).find("table", id="trials-table")

    trials = {str(trial["trial"]): trial for trial in all_trials(summary)}
    head, *rows = table.find("tr")
    columns = [(th.attributes["data-key"] or "", float(th.attributes["data-divisor"] or 1)) for th in head.find("th")]
    assert [row.attributes["data-trial"] for row in rows] == list(trials)
    for row in rows:
        trial = trials[row.attributes["data-trial"] or ""]
        shown = {**trial, "result": trial["kind"] or trial["status"], "params": dict.fromkeys(
            (key.removeprefix("params.") for key, _ in columns if key.startswith("params.")), None
        ) | trial["params"]}  # fmt: skip
        cells = [node for node in row.children if isinstance(node, Node)]
        for (key, divisor), cell in zip(columns, cells, strict=True):
            first, _, rest = key.partition(".")
            value = shown[first].get(rest) if rest else shown[first]
            _check_cell(cell, value, divisor=divisor)


def _check_cell(cell: Node, value: Any, *, divisor: float) -> None:
    text = cell.text()
    if value is None:
        assert text == "–"
    elif isinstance(value, bool):
        assert text == str(value).lower()
    elif isinstance(value, str):
        assert "data-v" not in cell.attributes
    else:
        assert float(cell.attributes["data-v"] or "nan") == value
        significant = abs(float(text) * divisor - value) <= 5e-6 * abs(value)  # hyperparameters: six digits
        assert significant or shows(text, value / divisor)


def test_every_point_of_a_chart_is_that_of_its_figure(run: RunFacts) -> None:
    summary = summarise(run)
    numbers = json.loads(json.dumps(figure_numbers(summary)))

    page = parsed(to_html(summary))

    (pareto,) = (section for section in page.find("section") if section.attributes["id"] == "pareto")
    drawn = [
        (n.attributes["data-trial"], n.attributes["data-x"], n.attributes["data-y"]) for n in pareto.find("circle")
    ]
    expected = [(str(p["trial"]), repr(p["x"]), repr(p["y"])) for p in numbers["pareto"]["points"]]
    assert sorted(drawn) == sorted(expected)
    crosses = [n for n in pareto.find("path") if "failed" in (n.attributes.get("class") or "")]
    assert len(crosses) == len(summary["failed"])
    for section in page.find("section", id="curves"):
        curves = {str(c["trial"]): (c["x"], c["y"]) for c in numbers["curves"]["curves"]}
        lines = [n for n in section.find("g") if "data-trial" in n.attributes]
        assert {
            n.attributes["data-trial"]: tuple(
                list(map(float, (n.attributes[k] or "").split())) for k in ("data-x", "data-y")
            )
            for n in lines
        } == curves


def test_every_point_of_the_other_charts_is_that_of_its_figure() -> None:
    summary = summarise(large_run(200))
    numbers = json.loads(json.dumps(figure_numbers(summary)))
    page = parsed(to_html(summary))

    (time,) = page.find("section", id="time")
    (parameters,) = page.find("section", id="parameters")
    lines = [node.find("title")[0].text() for node in parameters.find("g") if "data-trial" in node.attributes]
    bars = parameters.find("rect", **{"class": "bar"})
    shares = [text.text() for text in parameters.find("text") if text.text().endswith("%")]

    drawn = {tuple(n.attributes[k] for k in ("data-trial", "data-x", "data-y")) for n in time.find("circle")}
    assert drawn == {(str(p["trial"]), repr(p["x"]), repr(p["y"])) for p in numbers["best"]["points"]}
    expected = [f"trial {n['trial']}: {n['name']}; F1 {n['values'][-1]:.4f}" for n in numbers["parallel"]["lines"]]
    assert sorted(lines) == sorted(expected)
    given = [bar["share"] for bar in numbers["importance"]["bars"]]
    assert [float(bar.attributes["data-x"] or "nan") for bar in bars] == given
    assert shares == [f"{share:.1%}" for share in given]


def test_every_number_in_a_sentence_or_a_table_of_the_report_is_one_of_its_numbers(run: RunFacts) -> None:
    summary = json.loads(json.dumps(summarise(run)))
    page = parsed(to_html(summary))
    (main,) = page.find("main")
    (header,) = page.find("header")

    texts = [node.text(without=("svg", "data", "script", "style", "table")) for node in (main, header)]
    texts += [
        cell.text() for table in main.find("table") if table.attributes.get("id") != "trials-table"
        for cell in (*table.find("td"), *table.find("th")) if not cell.find("data")
    ]  # fmt: skip

    allowed = _allowed(summary)
    stray = [word for text in texts for word in NUMBER.findall(NAMES.sub("", text)) if not _is_allowed(word, allowed)]
    assert not stray


def _allowed(summary: Any) -> tuple[set[str], list[float]]:
    """List the numbers in the texts of a report, and its numbers in every unit in which they are shown."""
    texts, numbers = set(), [95.0]
    for value in _leaves(summary):
        if isinstance(value, str):
            texts |= set(NUMBER.findall(value)) | set(NUMBER.findall(repr(value)))
        elif not isinstance(value, bool) and value is not None:
            numbers += [abs(value) * factor for factor in (1.0, 1e-3, 1.0 / 1024**3, 100.0)]
    spent, counts = summary["spent"], summary["counts"]
    for seconds in (spent["wall_s"], spent["trial_s"], spent["failed_s"]):
        texts |= set(NUMBER.findall(duration_text(seconds)))
    for skipped in (summary["prior"]["counts"].get("skipped", {}),):
        numbers.append(float(sum(skipped.values())))
    members = [*summary["prior"]["models"], *summary["prior"]["methods"]]
    numbers += [abs(member["prior"] - member["uniform"]) for member in members]
    groups = [len(summary[name]) for name in ("front", "dominated", "unranked", "failed")]
    figures = figure_numbers(summary)
    origins = [failure["origin"] for failure in figures["pareto"]["failures"]]
    fronts = [point["group"] for point in figures["pareto"]["points"]]
    curves = len(figures["curves"]["curves"]) if "curves" in figures else 0
    certainty = summary["certainty"]
    numbers += [
        *groups,
        *map(origins.count, set(origins)),
        *map(fronts.count, set(fronts)),
        curves - 6,
        counts["trials"],
    ]
    numbers += [len(figures["parallel"]["lines"]) if "parallel" in figures else 0, LEAST_FOR_IMPORTANCE]
    numbers += [len(certainty["compared"] or ()), len(certainty["classes"]), 1.0]
    return texts, list(map(float, numbers))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _is_allowed(word: str, allowed: tuple[set[str], list[float]]) -> bool:
    texts, numbers = allowed
    plain = word.rstrip(",")
    return plain in texts or any(shows(plain, number) for number in numbers)


def test_the_test_of_numbers_finds_one_that_is_wrong() -> None:
    allowed = _allowed(json.loads(json.dumps(summarise(whole_run()))))

    assert _is_allowed("0.8123", allowed)
    assert not _is_allowed("0.8124", allowed)
    assert shows("0.8123", 0.81234)
    assert not shows("0.8124", 0.81234)


NASTY = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>\u202e&amp;</style></title>"


def test_foreign_text_stays_text_wherever_it_stands() -> None:
    reasons = [{**PRIOR["top"]["models"]["google/bert_uncased_L-2"][0], "task": NASTY, "model": NASTY, "method": NASTY}]
    prior = {
        **PRIOR,
        "models": {NASTY: {"uniform": 0.5, "prior": 0.9}},
        "top": {"models": {NASTY: reasons}, "methods": {}},
    }
    params = {NASTY: NASTY, "learning_rate": 1e-3}
    trials = [
        success(0, f1=0.5, model_id=NASTY, method=NASTY, params=params, curve=((1.0, 1.0, 1.0, 0.4, 3.0),)),
        success(1, f1=0.6, model_id="m", params={**params, NASTY: "other"}),
        failure(2, "storage", message=HOSTILE + NASTY, node=NASTY),
    ]
    run = facts(
        trials,
        name=NASTY,
        prior=prior,
        rejections={NASTY: 3},
        importance={"trials": 2, "r2": 0.5, "shares": {NASTY: 1.0}},
    )
    examples = [{"row": "1", "text": NASTY, "expected": NASTY, "given": NASTY}]

    page = to_html(summarise(run), examples=examples)

    tree = parsed(page)
    assert len(tree.find("script")) == 1
    assert not tree.find("img")
    assert all(not (name or "").startswith("on") for node in tree.walk() for name in node.attributes)
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert "alert(1)" in tree.find("h1")[0].text()


def test_the_page_asks_for_nothing_outside(run: RunFacts) -> None:
    page = to_html(summarise(run))

    tree = parsed(page)
    links = [node.attributes.get(name) for node in tree.walk() for name in ("href", "src", "action", "srcset")]
    assert {link for link in links if link is not None and not link.startswith("#")} == set()
    assert "url(" not in page
    assert "@import" not in page
    (policy,) = tree.find("meta", **{"http-equiv": "Content-Security-Policy"})
    assert (policy.attributes["content"] or "").startswith("default-src 'none';")


def test_links_lead_to_what_is_there_and_ids_stand_once(run: RunFacts) -> None:
    tree = parsed(to_html(summarise(run)))

    ids = [node.attributes["id"] for node in tree.walk() if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    assert {(link.attributes["href"] or "")[1:] for link in tree.find("a")} <= set(ids)
    assert {node.attributes["aria-labelledby"] for node in tree.find("section")} <= set(ids)


def test_every_table_names_itself_and_its_columns(run: RunFacts) -> None:
    for table in parsed(to_html(summarise(run))).find("table"):
        assert table.find("caption") or table.attributes.get("aria-label")
        assert all(head.attributes.get("scope") in ("col", "row") for head in table.find("th"))


def test_a_page_of_a_thousand_trials_is_small() -> None:
    assert len(to_html(summarise(large_run(1000))).encode()) < LARGEST_BYTES


def test_a_page_is_made_of_an_older_report_too() -> None:
    page = to_html(older_report(whole_run(tests={0: {"f1": 0.7}})))

    assert "Trial 0 is the best" in page
    assert "On test, which no trial had seen, it has F1 0.7000." in page
    assert "Best so far" not in page


def test_wrong_answers_are_shown_only_where_they_are_given() -> None:
    summary = summarise(large_run(20))
    example = {"row": "7", "text": "my printer burns", "expected": "billing", "given": "login"}

    assert "Wrong answers" not in to_html(summary)
    assert "my printer burns" in to_html(summary, examples=[example])


@pytest.mark.parametrize("f1", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n_trials", [1, 2, 7])
def test_trials_that_are_all_alike_have_charts(f1: float, n_trials: int) -> None:
    curve = ((1.0, 0.7, 0.7, f1, 0.0),)
    trials = [
        success(n, f1=f1, curve=curve, evaluation_time_s=0.0, params={"learning_rate": 1e-5 * (n + 1)})
        for n in range(n_trials)
    ]

    for objectives in (("f1",), ("f1", "evaluation_time_s"), ("evaluation_time_s", "f1")):
        numbers = figure_numbers(summarise(facts(trials, objectives=objectives)))
        page = parsed(to_html(summarise(facts(trials, objectives=objectives))))
        assert len(page.find("tr", **{"data-status": "succeeded"})) == n_trials
        assert ("parallel" in numbers) == (n_trials > 1)
