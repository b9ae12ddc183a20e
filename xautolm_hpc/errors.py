"""Errors of xautolm_hpc: an exception means our program, the input or the cluster is at fault.

A pipeline that fails is no exception, it is a stored outcome.

::

    XAutoLMError                our fault or the cluster's        exit status 1
    ├── InputError              usage or bad input                exit status 2
    │   ├── ConfigError         a search file or cluster profile
    │   ├── DataError           the user's data
    │   ├── SpaceError          a search space nothing can be drawn from
    │   ├── ImageError          a container image that cannot be used
    │   └── RunFolderError      a run folder that cannot be used
    ├── StoreError              an experience store
    │   ├── FormatError         a store of a format this version cannot read
    │   └── NoStoreError        a path that is no store and cannot become one
    ├── FetchError              models could not be fetched, or are damaged
    ├── LaunchError             jobs could not be submitted or watched
    │   ├── BusyError           the cluster does not answer now; ask again later
    │   └── QueueFullError      the cluster takes fewer jobs than these, or none now
    ├── LeaseLostError          another driver took the run over
    └── InterruptedSearchError  the person pressed Ctrl-C         exit status 130
"""

import errno
import reprlib
from enum import Enum

DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
"""``errno`` of an OSError where the disk, or what the user may have of it, is full."""

SHOWN_CHARS = 80


class XAutoLMError(Exception):
    """Base of all errors of this package; the message says what, where, what was expected and what to do."""

    exit_status = 1


class InputError(XAutoLMError):
    """The user's input is wrong; nothing was submitted."""

    exit_status = 2


class ConfigError(InputError):
    """A search file or cluster profile has an unknown key, a wrong type or a value out of range."""


class DataError(InputError):
    """The user's data is missing, lacks a column, or cannot be learnt from."""


class SpaceError(InputError):
    """The search space names something unknown, or nothing in it can run."""


class ImageError(InputError):
    """The container image is missing, damaged, for another processor, or not what it should be."""


class RunFolderError(InputError):
    """The run folder cannot be written, is open to others, or belongs to another search."""


class StoreError(XAutoLMError):
    """An experience store is damaged or could not be written."""


class FormatError(StoreError):
    """A segment has a format that this version does not read."""

    exit_status = 2


class NoStoreError(StoreError):
    """A path that was given as a store is something else, such as a text file."""

    exit_status = 2


class LaunchError(XAutoLMError):
    """Jobs could not be submitted, found again or cancelled."""


class BusyError(LaunchError):
    """The cluster gave no clear answer: what was asked may have been done, and may work later."""


class QueueFullError(LaunchError):
    """A limit on jobs in the queue is reached: nothing was submitted; fewer jobs, or later, may be taken."""


class FetchError(XAutoLMError):
    """Models could not be fetched, or what came is not what the hub says."""


class LeaseLostError(XAutoLMError):
    """Another driver holds the run folder; this one must not submit or commit any more."""


class InterruptedSearchError(XAutoLMError):
    """The person interrupted the search; the same command goes on."""

    exit_status = 130


class _Shortener(reprlib.Repr):
    """Writes the beginning of a value, however long or deep it is, without writing the whole of it first."""

    def __init__(self) -> None:
        super().__init__()
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = SHOWN_CHARS // 3

    def repr_str(self, x: str, level: int) -> str:
        """Write the beginning of a text."""
        return repr(x[:SHOWN_CHARS])

    def repr_int(self, x: int, level: int) -> str:
        """Write a whole number; Python itself refuses to write one of more than 4,300 digits."""
        n_digits = int(x.bit_length() * 0.30103) + 1
        return f"a whole number of about {n_digits:,} digits" if n_digits > SHOWN_CHARS else str(x)


def quoted(value: object) -> str:
    """Return a value as messages quote it: the first 80 characters of what Python shows; of an enum, of its value."""
    return _Shortener().repr(value.value if isinstance(value, Enum) else value)[:SHOWN_CHARS]
