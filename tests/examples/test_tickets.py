"""Hold the demo's tickets to what their data card promises."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split

DATA_DIR = Path(__file__).parents[2] / "examples" / "data"
N_SHARED_WORDS = 8
SEEDS = range(5)


class Part(NamedTuple):
    """Texts and their labels, in the same order."""

    texts: list[str]
    labels: list[str]


def read_rows() -> list[dict[str, object]]:
    """Read the tickets as they stand in the file."""
    lines = (DATA_DIR / "tickets.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def read_tickets() -> Part:
    """Read texts and labels of all tickets."""
    rows = read_rows()
    return Part([str(row["text"]) for row in rows], [str(row["label"]) for row in rows])


def read_card() -> str:
    """Read the data card."""
    return (DATA_DIR / "README.md").read_text(encoding="utf-8")


def card_scores(row_name: str) -> list[float]:
    """List the macro-F1 scores of one row of the card's table, in the order of the split seeds."""
    row = re.search(rf"^\| {re.escape(row_name)} \|(.+)\|$", read_card(), re.MULTILINE)
    assert row is not None, f"the card has no row '{row_name}'"
    return [float(cell) for cell in row[1].split("|")]


def words(text: str) -> list[str]:
    """List a text's words, case-folded and without punctuation."""
    return re.sub(r"[^\w\s]", "", text.casefold()).split()


def runs_of_words(text: str) -> set[tuple[str, ...]]:
    """Collect every run of ``N_SHARED_WORDS`` consecutive words."""
    found = words(text)
    return {tuple(found[start : start + N_SHARED_WORDS]) for start in range(len(found) - N_SHARED_WORDS + 1)}


def split(tickets: Part, *, seed: int) -> tuple[Part, Part]:
    """Split into train (60 %) and test (20 %), stratified; the validation part is left aside."""
    train_texts, rest_texts, train_labels, rest_labels = train_test_split(
        *tickets, train_size=0.6, random_state=seed, stratify=tickets.labels
    )
    _, test_texts, _, test_labels = train_test_split(
        rest_texts, rest_labels, train_size=0.5, random_state=seed, stratify=rest_labels
    )
    return Part(train_texts, train_labels), Part(test_texts, test_labels)


def baseline_macro_f1(model: LogisticRegression | DummyClassifier, *, seed: int) -> float:
    """Fit a model on TF-IDF of the train part and score it on the test part."""
    train, test = split(read_tickets(), seed=seed)
    vectorizer = TfidfVectorizer()
    model.fit(vectorizer.fit_transform(train.texts), train.labels)
    predicted = model.predict(vectorizer.transform(test.texts))
    return float(f1_score(test.labels, predicted, average="macro", zero_division=0.0))


def test_there_are_at_least_400_tickets_in_at_least_5_classes() -> None:
    tickets = read_tickets()

    n_classes = len(set(tickets.labels))

    assert len(tickets.texts) >= 400
    assert n_classes >= 5


def test_every_row_has_exactly_a_text_and_a_label_and_neither_is_empty() -> None:
    rows = read_rows()

    malformed = [
        row
        for row in rows
        if list(row) != ["text", "label"] or not all(isinstance(value, str) and value.strip() for value in row.values())
    ]

    assert malformed == []


def test_every_ticket_has_between_8_and_45_words() -> None:
    tickets = read_tickets()

    outside = [text for text in tickets.texts if not 8 <= len(text.split()) <= 45]

    assert outside == []


def test_no_ticket_occurs_twice() -> None:
    tickets = read_tickets()

    times = Counter(" ".join(words(text)) for text in tickets.texts)

    assert [text for text, count in times.items() if count > 1] == []


def test_no_two_tickets_share_8_consecutive_words() -> None:
    tickets = read_tickets()

    times = Counter(run for text in tickets.texts for run in runs_of_words(text))

    assert [" ".join(run) for run, count in times.items() if count > 1] == []


def test_no_ticket_holds_an_email_address_or_a_link() -> None:
    tickets = read_tickets()

    found = [text for text in tickets.texts if re.search(r"\w@[\w-]+\.\w|https?://|www\.", text)]

    assert found == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_linear_baseline_finds_the_tickets_neither_trivial_nor_hopeless(seed: int) -> None:
    model = LogisticRegression(max_iter=1000)

    macro_f1 = baseline_macro_f1(model, seed=seed)

    assert 0.50 < macro_f1 < 0.85
    assert macro_f1 == pytest.approx(card_scores("TF-IDF + logistic regression")[seed], abs=0.03)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_card_states_the_score_of_the_majority_class(seed: int) -> None:
    model = DummyClassifier(strategy="most_frequent")

    macro_f1 = baseline_macro_f1(model, seed=seed)

    assert macro_f1 == pytest.approx(card_scores("majority class")[seed], abs=0.005)


def test_the_cards_class_counts_equal_the_files() -> None:
    tickets = read_tickets()

    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", read_card(), re.MULTILINE)

    assert {label: int(count) for label, count in rows} == Counter(tickets.labels)


def test_the_card_states_the_number_of_tickets() -> None:
    tickets = read_tickets()

    stated = re.search(r"(\d+) short English help-desk tickets", read_card())

    assert stated is not None
    assert int(stated[1]) == len(tickets.texts)
