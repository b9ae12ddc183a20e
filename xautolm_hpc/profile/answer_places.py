"""Finds where answers stand in their contexts, also where the starts given count something else than characters."""

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass

MIN_EXPLAINED = 0.95
"""Share of a file's starts that a unit other than characters must explain exactly to be taken for theirs."""

MIN_MORE = 2
"""Starts that it must explain beyond those that characters explain: one may be chance."""


class Unit(enum.Enum):
    """What the starts of answers count; the value names it for messages."""

    CHARACTER = "characters"
    UTF16 = "UTF-16 code units"
    BYTE = "UTF-8 bytes"


@dataclass(frozen=True, slots=True)
class Mention:
    """An answer as a file gives it.

    Attributes:
        context: The context as it stands in the file.
        text: The answer without outer white space.
        start: Where the answer begins, in some unit, at least 0; ``None`` if the file does not say.
        lead: White space that stands before ``text`` in the file's answer, of which ``start`` is the beginning.
    """

    context: str
    text: str
    start: int | None
    lead: str = ""

    def at(self, unit: Unit) -> int | None:
        """Return the character at which the answer begins if ``start`` counts this unit."""
        if self.start is None:
            return None
        if unit is Unit.CHARACTER or self.context.isascii():
            return self.start + len(self.lead)
        encoding, width = ("utf-8", 1) if unit is Unit.BYTE else ("utf-16-le", 2)
        before = self.context.encode(encoding)[: self.start * width]
        return len(before.decode(encoding, "ignore")) + len(self.lead)

    def fits(self, unit: Unit) -> bool:
        """Check whether the answer stands where ``start`` says; without a start it does not."""
        place = self.at(unit)
        if place is None or not self.context.startswith(self.text, place):
            return False
        return unit is Unit.CHARACTER or _count(self.context[: place - len(self.lead)], unit) == self.start


@dataclass(slots=True)
class Placement:
    """What was found out while answers were placed.

    Attributes:
        unit: What the starts of the file count.
        n_given: Answers with a start.
        n_moved: Answers that did not stand where their start says, and were moved to the nearest mention.
        farthest: Characters by which one was moved at most.
        n_chosen: Answers without a start that have several mentions, of which the first was taken.
        n_converted: Answers whose start counts another unit than the file's, and fits by it.
        first_moved_row: Row of the first answer that was moved, from 1; 0 if none was.
    """

    unit: Unit = Unit.CHARACTER
    n_given: int = 0
    n_moved: int = 0
    farthest: int = 0
    n_chosen: int = 0
    first_moved_row: int = 0
    n_converted: int = 0

    def find(self, mention: Mention, *, row: int) -> int | None:
        """Find the character at which an answer begins, and count what was done; ``None`` if it occurs nowhere.

        An exact fit goes before a near one, by whatever unit; among near ones whole words go before parts of words.
        """
        self.n_given += mention.start is not None
        units = dict.fromkeys((self.unit, Unit.CHARACTER, *Unit))
        fitting = next((unit for unit in units if mention.fits(unit)), None)
        if fitting is not None:
            self.n_converted += fitting not in (self.unit, Unit.CHARACTER)
            return mention.at(fitting)
        places = _occurrences(mention)
        if not places:
            return None
        wanted = mention.at(self.unit)
        if wanted is None:
            self.n_chosen += len(places) > 1
            return places[0]
        nearest = min(places, key=lambda place: abs(place - wanted))
        self.n_moved += 1
        self.farthest = max(self.farthest, abs(nearest - wanted))
        self.first_moved_row = self.first_moved_row or row
        return nearest

    def describe(self) -> list[str]:
        """List what the user should know."""
        lines = []
        if self.unit is not Unit.CHARACTER:
            lines.append(f"answer_start counts {self.unit.value}, not characters: {self.n_given:,} were converted")
        if self.n_converted:
            lines.append(
                f"{self.n_converted:,} of {self.n_given:,} answers stand where answer_start says only if it counts "
                f"{Unit.BYTE.value} or {Unit.UTF16.value}: these were converted"
            )
        if self.n_moved:
            lines.append(
                f"{self.n_moved:,} of {self.n_given:,} answers do not stand where answer_start says, first in row "
                f"{self.first_moved_row:,}: moved to their nearest mentions, by {self.farthest:,} characters at most"
            )
        if self.n_chosen:
            lines.append(
                f"{self.n_chosen:,} answers have no answer_start, and several mentions in their context: the first is "
                "taken"
            )
        return lines


def find_unit(mentions: Sequence[Mention]) -> Unit:
    """Find what the starts of a file count: characters, unless another unit explains nearly all and more of them."""
    given = [mention for mention in mentions if mention.start is not None]
    n_fitting = {Unit.CHARACTER: sum(mention.fits(Unit.CHARACTER) for mention in given)}
    if n_fitting[Unit.CHARACTER] == len(given):
        return Unit.CHARACTER
    for unit in (Unit.UTF16, Unit.BYTE):
        n_fitting[unit] = sum(mention.fits(unit) for mention in given)
    best = max(n_fitting, key=lambda unit: n_fitting[unit])
    n_more = n_fitting[best] - n_fitting[Unit.CHARACTER]
    is_clear = n_more >= MIN_MORE and n_fitting[best] >= MIN_EXPLAINED * len(given)
    return best if is_clear else Unit.CHARACTER


def _count(text: str, unit: Unit) -> int:
    """Count the units of a text."""
    if unit is Unit.CHARACTER:
        return len(text)
    return len(text.encode()) if unit is Unit.BYTE else len(text.encode("utf-16-le")) // 2


def _occurrences(mention: Mention) -> list[int]:
    """List where an answer stands in its context as whole words, else anywhere, also where it overlaps itself."""
    places = [found.start() for found in re.finditer(f"(?={re.escape(mention.text)})", mention.context)]
    return [place for place in places if _is_whole(mention, place)] or places


def _is_whole(mention: Mention, place: int) -> bool:
    """Check that no word goes on beyond an answer's ends."""
    context, end = mention.context, place + len(mention.text)
    goes_back = place > 0 and context[place - 1].isalnum() and mention.text[0].isalnum()
    goes_on = end < len(context) and context[end].isalnum() and mention.text[-1].isalnum()
    return not goes_back and not goes_on
