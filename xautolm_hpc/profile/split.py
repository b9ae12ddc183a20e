"""Divides rows into train, dev, validation and test; equal texts stay in one split.

The division depends on the sorted rows and the split seed only, not on the order of the rows in the input.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from xautolm_hpc.errors import DataError
from xautolm_hpc.jobdir import SPLITS
from xautolm_hpc.profile.rows import REGRESSION, Sample, look_like_numbers

S = TypeVar("S", bound=Sample)
MIN_TRAIN_ROWS = 2
"""Rows of each class that train must have."""


@dataclass(frozen=True, slots=True)
class Split(Generic[S]):
    """A data set, divided.

    Attributes:
        parts: Name of :data:`SPLITS` -> rows, in the order they are written.
        described: Rows that the meta-features are computed of, sorted: train and validation before equal texts are
            dropped and rows are drawn. Rows of test are not among them.
        notes: Messages about rows that were left out.
    """

    parts: Mapping[str, Sequence[S]]
    described: Sequence[S]
    notes: tuple[str, ...]


def split_rows(
    files: Mapping[str, Sequence[S]], *, limits: Mapping[str, int | None], split_seed: int, where: str
) -> Split[S]:
    """Divide a data set.

    A text that occurs in several files stays in test, else in validation. Without a test file a stratified fifth of
    train becomes test; without a validation file a fifth of the rest becomes validation. Then rows are drawn if fewer
    are wanted, and a fifth of train becomes dev.

    Args:
        files: ``train`` and perhaps ``validation`` and ``test`` -> rows, in any order.
        limits: Split -> rows to draw, stratified, or ``None`` for all; those of ``train`` count train and dev.
        split_seed: Seed of every random choice; no choice depends on the size of another.
        where: The data set, for messages.

    Raises:
        DataError: A split is empty, or a class has fewer than :data:`MIN_TRAIN_ROWS` rows in train.
    """
    train, validation, test, notes = _separate(files)
    described = [*files["train"], *files.get("validation", ())]
    if test is None:
        train, test = cut_fifth(train, _rng(split_seed, "cut test"))
        cut = {row.text for row in test}
        described = [row for row in described if row.text not in cut]
    if validation is None:
        train, validation = cut_fifth(train, _rng(split_seed, "cut validation"))
    whole = {"train": train, "validation": validation, "test": test}
    notes += _limit_notes(whole, limits)
    drawn = {name: _draw(name, rows, n_rows=limits.get(name), split_seed=split_seed) for name, rows in whole.items()}
    drawn["train"], drawn["dev"] = cut_fifth(drawn["train"], _rng(split_seed, "cut dev"))
    _check(drawn, where, is_drawn=limits.get("train") is not None)
    parts = {name: _shuffle(drawn[name], _rng(split_seed, f"order {name}")) for name in SPLITS}
    return Split(parts, sorted(described), tuple(notes))


def cut_fifth(rows: Sequence[S], rng: np.random.Generator) -> tuple[list[S], list[S]]:
    """Split off a stratified fifth; rows with equal text stay together.

    Args:
        rows: The rows, in any order.
        rng: Decides which rows.

    Returns:
        (rest, fifth), both sorted. The fifth has a fifth of each class's rows, rounded half up and as near as whole
        texts allow; at least 2 rows of a class that has 2 stay in the rest. A text with several labels counts under
        its most frequent one.
    """
    by_text: dict[str, list[S]] = defaultdict(list)
    for row in sorted(rows):
        by_text[row.text].append(row)
    by_label: dict[str, list[list[S]]] = defaultdict(list)
    for group in by_text.values():
        by_label[_group_label(group)].append(group)
    rest: list[S] = []
    fifth: list[S] = []
    for label in sorted(by_label):
        groups = by_label[label]
        missing = (2 * sum(map(len, groups)) + 5) // 10
        for index in rng.permutation(len(groups)):
            is_nearer = len(groups[index]) < 2 * missing  # taking it brings the count nearer to a fifth
            (fifth if is_nearer else rest).extend(groups[index])
            missing -= len(groups[index]) if is_nearer else 0
    return sorted(rest), sorted(fifth)


def draw_stratified(rows: Sequence[S], n_rows: int, *, min_rows: int, rng: np.random.Generator) -> list[S]:
    """Draw rows, each class in proportion to its size.

    Args:
        rows: The rows, in any order.
        n_rows: Rows to draw, at most as many as there are.
        min_rows: Rows of each class to draw at least, or all of a smaller class.
        rng: Decides which rows.

    Returns:
        Exactly ``n_rows`` rows, sorted.
    """
    by_label: dict[str, list[S]] = defaultdict(list)
    for row in sorted(rows):
        by_label[row.label].append(row)
    quotas = _quotas({label: len(group) for label, group in by_label.items()}, n_rows, min_rows=min_rows)
    drawn: list[S] = []
    for label in sorted(by_label):
        order = rng.permutation(len(by_label[label]))
        drawn += [by_label[label][index] for index in order[: quotas[label]]]
    return sorted(drawn)


def _separate(
    files: Mapping[str, Sequence[S]],
) -> tuple[list[S], list[S] | None, list[S] | None, list[str]]:
    """Drop rows of train whose text is in validation or test, and rows of validation whose text is in test."""
    notes: list[str] = []
    taken: set[str] = set()
    kept: dict[str, list[S] | None] = {"validation": None, "test": None}
    for name in ("test", "validation", "train"):
        if name not in files:
            continue
        kept[name] = [row for row in files[name] if row.text not in taken]
        n_dropped = len(files[name]) - len(kept[name] or ())
        if n_dropped:
            others = "test" if name == "validation" else "validation or test"
            notes.append(f"{n_dropped:,} of {len(files[name]):,} rows of {name} left out: their text is in {others}")
        taken |= {row.text for row in files[name]}
    return kept["train"] or [], kept["validation"], kept["test"], notes


def _limit_notes(whole: Mapping[str, Sequence[Sample]], limits: Mapping[str, int | None]) -> list[str]:
    return [
        f"data.{name}_rows = {n_rows:,}, but {name} has {len(whole[name]):,} rows: all are used"
        for name, n_rows in limits.items()
        if n_rows is not None and n_rows > len(whole[name])
    ]


def _draw(name: str, rows: Sequence[S], *, n_rows: int | None, split_seed: int) -> Sequence[S]:
    """Draw the wanted number of rows of one split; all if there are not more."""
    if n_rows is None or n_rows >= len(rows):
        return rows
    n_classes = len({row.label for row in rows})
    min_rows = MIN_TRAIN_ROWS if name == "train" else 1
    if n_rows < min_rows * n_classes:
        min_rows = 0
    return draw_stratified(rows, n_rows, min_rows=min_rows, rng=_rng(split_seed, f"draw {name}"))


def _quotas(sizes: Mapping[str, int], n_rows: int, *, min_rows: int) -> dict[str, int]:
    """Compute quotas by the largest remainder; a class below its minimum takes from the largest quota."""
    total = sum(sizes.values())
    quotas = {label: n_rows * size // total for label, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda label: (-(n_rows * sizes[label] % total), label))
    for label in by_remainder[: n_rows - sum(quotas.values())]:
        quotas[label] += 1
    for label in sorted(sizes):
        while quotas[label] < min(min_rows, sizes[label]):
            quotas[max(sorted(quotas), key=lambda name: quotas[name])] -= 1
            quotas[label] += 1
    return quotas


def _check(parts: Mapping[str, Sequence[Sample]], where: str, *, is_drawn: bool) -> None:
    """Check that no split is empty and no class too small."""
    _check_classes(parts, where, is_drawn=is_drawn)
    empty = [name for name in SPLITS if not parts[name]]
    if empty:
        n_rows = sum(map(len, parts.values()))
        raise DataError(
            f"`{where}`: {n_rows:,} rows are too few: nothing is left for {', '.join(empty)}. Every class needs 5 "
            "different texts, and questions 5 different contexts, to be in all of train, dev, validation and test"
        )


def _check_classes(parts: Mapping[str, Sequence[Sample]], where: str, *, is_drawn: bool) -> None:
    """Check that train has enough rows of every class; questions have no classes."""
    counts = Counter(row.label for row in parts["train"])
    labels = {row.label for rows in parts.values() for row in rows}
    few = sorted((counts[label], label) for label in labels if label and counts[label] < MIN_TRAIN_ROWS)
    if few:
        named = ", ".join(f"'{label}' ({n})" for n, label in few[:5])
        raise DataError(
            f"`{where}`: {len(few)} of {len(labels)} classes keep fewer than {MIN_TRAIN_ROWS} rows to train on: "
            f"{named}. {REGRESSION.capitalize() if look_like_numbers(labels) else _remedy(is_drawn=is_drawn)}"
        )


def _remedy(*, is_drawn: bool) -> str:
    return "Add rows, merge or remove these classes" + (", or raise data.train_rows" if is_drawn else "")


def _group_label(group: Sequence[Sample]) -> str:
    counts = Counter(row.label for row in group)
    return min(counts, key=lambda label: (-counts[label], label))


def _shuffle(rows: Sequence[S], rng: np.random.Generator) -> list[S]:
    ordered = sorted(rows)  # the result must not depend on the order of the input
    return [ordered[index] for index in rng.permutation(len(ordered))]


def _rng(split_seed: int, purpose: str) -> np.random.Generator:
    """Return the random stream of one choice; each has its own, so that none depends on the size of another."""
    return np.random.default_rng([split_seed % 2**64, *purpose.encode()])
