"""Kinds of ranges that a field of a stored record may have: of numbers, texts, lists and so on."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

Fault = tuple[str, object, str]
"""Place inside the field, such as ``[3]``, the value there, and what is valid."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
US = timedelta(microseconds=1)
EARLIEST_US = (datetime(1, 1, 2, tzinfo=UTC) - EPOCH) // US
LATEST_US = (datetime(9999, 12, 31, tzinfo=UTC) - EPOCH) // US - 1
"""First and last microsecond that has a date in every time zone, from 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range(ABC):
    """What a field may be.

    Attributes:
        is_nullable: Whether it may be unknown.
    """

    is_nullable: bool = False

    @property
    @abstractmethod
    def valid(self) -> str:
        """What is valid, in words, without null."""

    @property
    def expected(self) -> str:
        """What is valid, in words."""
        return f"{self.valid}, or null" if self.is_nullable else self.valid

    def fault(self, value: Any) -> Fault | None:
        """Find what is wrong with a value; ``None`` if nothing is."""
        if value is None:
            return None if self.is_nullable else ("", None, self.expected)
        return self._fault(value)

    @abstractmethod
    def _fault(self, value: Any) -> Fault | None:
        """Find what is wrong with a value that is not null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Number(Range):
    """A finite number.

    Attributes:
        least: Least number.
        greatest: Greatest number.
        is_whole: Whether it is a whole number.
    """

    least: float = 0
    greatest: float
    is_whole: bool = False

    @property
    def valid(self) -> str:
        """What is valid, in words, without null."""
        if self.is_whole:
            return f"a whole number from {self.least} to {self.greatest}"
        return f"a number from {self.least:g} to {self.greatest:g}"

    def _fault(self, value: Any) -> Fault | None:
        is_number = type(value) is int or (isinstance(value, float) and not self.is_whole)
        return None if is_number and self.least <= value <= self.greatest else ("", value, self.expected)

    def first_outside(self, column: NDArray[Any]) -> float | int | None:
        """Find the first number of a column outside the range; NaN is null. ``None`` if all are within."""
        known = column[~np.isnan(column)] if column.dtype.kind == "f" else column
        is_outside = (known < self.least) | (known > self.greatest)
        if self.is_whole and column.dtype.kind == "f":
            is_outside |= known != np.floor(known)
        found = known[is_outside]
        return found[0].item() if found.size else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Range):
    """A text.

    Attributes:
        longest: Most characters.
        shortest: Fewest characters.
        is_encodable: Whether it must be UTF-8, because digests are made of it; a lone surrogate is not.
        is_name: Whether it names a column: then it has no NUL.
        choices: The valid texts; empty for any.
    """

    longest: int = 4_096
    shortest: int = 0
    is_encodable: bool = False
    is_name: bool = False
    choices: tuple[str, ...] = ()

    @property
    def valid(self) -> str:
        """What is valid, in words, without null."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        length = f"a text of {self.shortest:,} to {self.longest:,} characters"
        if self.is_name:
            return f"{length} without NUL that UTF-8 can encode"
        return f"{length} that UTF-8 can encode" if self.is_encodable else length

    def _fault(self, value: Any) -> Fault | None:
        is_right = (
            isinstance(value, str)
            and self.shortest <= len(value) <= self.longest
            and not (self.choices and value not in self.choices)
            and not (self.is_encodable and not _is_encodable(value))
            and not (self.is_name and "\0" in value)
        )
        return None if is_right else ("", value, self.expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag(Range):
    """True or false."""

    @property
    def valid(self) -> str:
        """What is valid, in words, without null."""
        return "true or false"

    def _fault(self, value: Any) -> Fault | None:
        return None if isinstance(value, bool) else ("", value, self.expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment(Range):
    """A time as ISO 8601."""

    @property
    def valid(self) -> str:
        """What is valid, in words, without null."""
        return "an ISO 8601 time with its time zone, for instance 2026-01-31T12:00:00+00:00"

    def _fault(self, value: Any) -> Fault | None:
        try:
            is_right = EARLIEST_US <= (datetime.fromisoformat(value) - EPOCH) // US <= LATEST_US
        except (TypeError, ValueError, OverflowError):
            is_right = False
        return None if is_right else ("", value, self.expected)


@dataclass(frozen=True, slots=True)
class Items(Range):
    """A list.

    Attributes:
        item: Range of each item.
        fewest: Fewest items.
        most: Most items.
    """

    item: Range
    fewest: int = field(default=0, kw_only=True)
    most: int = field(kw_only=True)

    @property
    def valid(self) -> str:
        """What is valid, in words, without null."""
        n = f"{self.fewest:,}" if self.fewest == self.most else f"{self.fewest:,} to {self.most:,}"
        return f"a list of {n} items, each {self.item.expected}"

    def _fault(self, value: Any) -> Fault | None:
        if not isinstance(value, tuple | list) or not self.fewest <= len(value) <= self.most:
            return "", value, self.expected
        for i, item in enumerate(value):
            fault = self.item.fault(item)
            if fault is not None:
                return f"[{i}]{fault[0]}", *fault[1:]
        return None


@dataclass(frozen=True, slots=True)
class Named(Range):
    """Values by name.

    Attributes:
        name: Range of the names.
        item: Range of each value.
        most: Most names.
        by_name: Names whose values have a range of their own.
    """

    name: Range
    item: Range
    most: int = field(kw_only=True)
    by_name: Mapping[str, Range] = field(default_factory=dict, kw_only=True)

    @property
    def valid(self) -> str:
        """What is valid, in words, without null."""
        own = "".join(f"; {name} {allowed.expected}" for name, allowed in self.by_name.items())
        return f"at most {self.most} names, each {self.name.expected}, with {self.item.expected}{own}"

    def of(self, name: str) -> Range:
        """Return the range of the values under a name."""
        return self.by_name.get(name, self.item)

    def _fault(self, value: Any) -> Fault | None:
        """Find the first name or value that is out of range."""
        if not isinstance(value, Mapping) or len(value) > self.most:
            return "", value, self.expected
        for name, item in value.items():
            fault = self.name.fault(name)
            if fault is not None:
                return ": a name", *fault[1:]
            fault = self.of(name).fault(item)
            if fault is not None:
                return f".{name}{fault[0]}", *fault[1:]
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar(Range):
    """A value of a hyperparameter: a bool, a number or a text.

    Attributes:
        whole: Range of whole numbers.
        real: Range of other numbers.
        text: Range of texts.
    """

    whole: Number
    real: Number
    text: Text

    @property
    def valid(self) -> str:
        """What is valid, in words, without null."""
        return f"true, false, {self.whole.expected}, {self.real.expected}, or {self.text.expected}"

    def _fault(self, value: Any) -> Fault | None:
        if isinstance(value, bool):
            return None
        kind = self.text if isinstance(value, str) else self.real if isinstance(value, float) else self.whole
        return None if kind.fault(value) is None else ("", value, self.expected)


def _is_encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
