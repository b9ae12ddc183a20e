"""What is wrong with a store and needs a person."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        problem: ``damaged``, ``refused``, ``format``, ``digest``, ``range``, ``conflict``,
            ``foreign-forget`` or ``left-over``.
        where: The segment, attempt key or experience it is about.
        message: What is wrong, and what to do.
    """

    problem: str
    where: str
    message: str
