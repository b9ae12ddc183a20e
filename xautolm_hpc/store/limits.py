"""What the check of a foreign segment may cost."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from xautolm_hpc.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckLimits:
    """Limits of the child process that checks a segment, and of what it accepts.

    Attributes:
        memory_gb: Memory the check may take, in GB of 2**30 bytes, above 0.
        cpu_s: Processor time for one segment, in seconds, at least 1.
        wall_s: Time for one segment, in seconds, at least 1.
        file_mb: Largest file, in MB of 2**20 bytes, above 0.
        content_mb: Largest content once it is decompressed, in MB of 2**20 bytes, above 0.
        n_experiences: Most experiences in one segment, at least 1.

    Raises:
        InputError: A limit is not positive.
    """

    memory_gb: float = 4.0
    cpu_s: float = 300.0
    wall_s: float = 600.0
    file_mb: float = 2048.0
    content_mb: float = 2048.0
    n_experiences: int = 2_000_000

    @classmethod
    def of(cls, given: Mapping[Any, Any]) -> "CheckLimits":
        """Take the limits given, and the defaults for those that are not, or are ``None``.

        Raises:
            InputError: A limit is not positive.
        """
        return cls(**{name: value for name, value in given.items() if value is not None})

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise InputError(f"limit {field.name} = {value!r}: expected a number above 0")


MB = 1024**2
GB = 1024**3
