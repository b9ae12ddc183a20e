"""What a check of the site found: one row of ``doctor``."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One row.

    Attributes:
        check: What was looked at.
        level: ``ok``; ``warning`` if a search can run nevertheless; ``failure`` if it cannot.
        found: What was found.
        remedy: What to do about it; "" where nothing is to be done.
    """

    check: str
    level: str
    found: str
    remedy: str = ""


def ok(check: str, found: str) -> Finding:
    """Say that a check found nothing wrong."""
    return Finding(check=check, level="ok", found=found)


def warning(check: str, found: str, *, remedy: str) -> Finding:
    """Say that something is not as it should be, but a search can run."""
    return Finding(check=check, level="warning", found=found, remedy=remedy)


def failure(check: str, found: str, *, remedy: str) -> Finding:
    """Say that a search cannot run."""
    return Finding(check=check, level="failure", found=found, remedy=remedy)
