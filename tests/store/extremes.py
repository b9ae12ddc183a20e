"""Values at the edges of the ranges, and far outside them, made of the table of ranges itself."""

from collections.abc import Iterator
from typing import Any

from xautolm_hpc.store.range_kinds import Flag, Items, Moment, Named, Number, Range, Scalar, Text

HUGE = 10**400
"""A whole number that no float can hold."""

STRANGE: tuple[Any, ...] = (float("nan"), float("inf"), -float("inf"), {"a": 1}, [[]])


def edges(allowed: Range) -> list[Any]:
    """List values that a range just allows; lists and mappings as JSON has them."""
    found: list[Any] = [None] if allowed.is_nullable else []
    match allowed:
        case Number():
            kind = int if allowed.is_whole else float
            found += [kind(allowed.least), kind(allowed.greatest)]
            found += [] if allowed.is_whole or allowed.greatest < 1e-300 else [1e-320, 1e-300]
        case Text():
            found += list(allowed.choices) or ["x" * allowed.shortest, "漢" * allowed.longest, "=1+1\n\x1b[31m"]
            found += [] if allowed.choices or allowed.is_encodable else ["\ud800"]
        case Flag():
            found += [True, False]
        case Moment():
            found += ["0001-01-02T00:00:00+00:00", "9999-12-30T23:59:59.999999+00:00", "2026-01-01T00:00:00+14:00"]
        case Items():
            each = edges(allowed.item)
            found += [[each[i % len(each)] for i in range(n)] for n in {allowed.fewest, min(allowed.most, 16)}]
        case Named():
            found += [{}, {f"n{i}": value for i, value in enumerate(edges(allowed.item))}, {"é漢 =x": 1.0}]
        case Scalar():
            found += [True, False, *edges(allowed.whole), *edges(allowed.real), *edges(allowed.text)]
    return found


def outside(allowed: Range) -> Iterator[Any]:
    """List values that a range must not allow."""
    is_nested = isinstance(allowed, Items) and isinstance(allowed.item, Items)
    yield from STRANGE[: 3 if isinstance(allowed, Named) else 4 if is_nested else 5]
    if not allowed.is_nullable:
        yield None
    match allowed:
        case Number():
            yield from (HUGE, -HUGE, -9e300, "1", True, [1])
            yield from (allowed.greatest * 2 + 1, min(2 * allowed.least, 0) - 1)
            yield from (0.5,) if allowed.is_whole else ()
        case Text():
            yield from (1, "x" * (allowed.longest + 1), ["x"])
            yield from ("x",) if allowed.choices else ()
            yield from ("\ud800",) if allowed.is_encodable else ()
        case Flag():
            yield from (0, 1, "true")
        case Moment():
            yield from ("2026-01-02", "yesterday", 5, "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59-14:00")
        case Items():
            inner = edges(allowed.item)[-1]
            yield from ("text", 5)
            yield [inner] * (allowed.most + 1) if allowed.most < 100_000 else 3
            yield from ([inner] * (allowed.fewest - 1),) if allowed.fewest else ()
            yield from ([wrong] * max(allowed.fewest, 1) for wrong in (HUGE, "\ud800" if inner == 0 else {}))
        case Named():
            yield from ({"": 1.0}, {"a\0b": 1.0}, {"\ud800": 1.0}, {"x" * 3_000: 1.0}, {"a": HUGE}, {"a": {}}, [1], "x")
            yield {f"n{i}": 1.0 for i in range(allowed.most + 1)}
