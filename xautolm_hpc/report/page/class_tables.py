"""How the best trial answers each class: confusion matrix, scores of classes, and wrong examples if they are given."""

from collections.abc import Mapping, Sequence
from typing import Any

from xautolm_hpc.report.page.elements import Markup, number, tag

N_CLASSES = 10
"""Classes shown, the worst F1 first."""


def class_tables(summary: Mapping[str, Any]) -> list[Markup]:
    """Build the tables of the classes of the best trial; nothing where its answers are unknown.

    Args:
        summary: Result of :func:`xautolm_hpc.report.summary.summarise`.
    """
    certainty = summary.get("certainty") or {}
    classes, matrix = certainty.get("classes", []), certainty.get("confusion")
    parts = []
    if classes:
        parts += [
            tag("h3", "Worst classes" if len(classes) > N_CLASSES else "Classes, the worst first"),
            _scores(classes, split=certainty.get("classes_on")),
        ]
    if matrix is not None:
        parts += [tag("h3", f"Confusion on {matrix['split']}"), _matrix(matrix)]
    return parts


def example_table(examples: Sequence[Mapping[str, str]]) -> Markup:
    """Build the table of wrong answers.

    Args:
        examples: Each with ``row``, ``text``, ``expected`` and ``given``.
    """
    heads = ("Row", "Text", "Expected", "Given")
    rows = [
        tag(
            "tr",
            tag("th", example["row"], scope="row"),
            tag("td", example["text"], class_="prose"),
            tag("td", example["expected"]),
            tag("td", example["given"]),
        )
        for example in examples
    ]
    return _table("Texts of your data: think before you pass this page on", heads, rows=rows)


def _scores(classes: Sequence[Mapping[str, Any]], *, split: str | None) -> Markup:
    """Build the table of F1, precision and recall of the worst classes."""
    names = ("f1", "precision", "recall")
    rows = []
    for place, row in enumerate(classes[:N_CLASSES]):
        key = f"certainty.classes.{place}"
        cells = [
            tag("td", number(f"{row[name]:.4f}", row[name], key=f"{key}.{name}"), class_="number") for name in names
        ]
        count = tag("td", number(f"{row['rows']:,}", row["rows"], key=f"{key}.rows"), class_="number")
        rows.append(tag("tr", tag("th", row["label"], scope="row"), *cells, count))
    heads = ("Class", "F1", "Precision", "Recall", "Rows")
    where = f", rows of {split}" if split else ""  # an older report does not say it
    return _table(f"The best trial on {len(classes)} classes{where}", heads, rows=rows)


def _matrix(matrix: Mapping[str, Any]) -> Markup:
    """Build the confusion matrix; the more of a label's rows, the darker the cell."""
    labels, rows = matrix["labels"], []
    for n, (label, counts) in enumerate(zip(labels, matrix["counts"], strict=True)):
        total = max(1, sum(counts))
        cells = [
            tag(
                "td", number(str(count), count, key=f"certainty.confusion.counts.{n}.{m}"),
                class_=f"h{round(10 * count / total)}" + (" hit" if m == n else ""),
            )
            for m, count in enumerate(counts)
        ]  # fmt: skip
        rows.append(tag("tr", tag("th", label, scope="row"), *cells))
    heads = ("Label ↓ predicted →", *labels)
    return _table("Rows by their label and the predicted one", heads, rows=rows, css="heat")


def _table(caption: str, heads: Sequence[str], *, rows: Sequence[Markup], css: str | None = None) -> Markup:
    table = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))),
        tag("tbody", *rows),
        class_=css,
    )
    return tag("div", table, class_="scroll low", tabindex=0, role="region", aria_label=caption)
