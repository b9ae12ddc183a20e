"""A store of experiences, opened from Python."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xautolm_hpc.api.calls import StrPath, call
from xautolm_hpc.api.frames import flat_experience, frame_of
from xautolm_hpc.errors import NoStoreError
from xautolm_hpc.records import Experience
from xautolm_hpc.store import ExperienceStore, locate_store

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Store:
    """A store of experiences, of one site or merged from several.

    Attributes:
        path: Its folder, or one ``.h5`` file.
    """

    path: Path

    @classmethod
    def open(cls, path: StrPath) -> "Store":
        """Open a store; one that is not there is empty.

        Args:
            path: Folder of segments, or one ``.h5`` file; ``package:seed`` is the store that comes with this program.

        Raises:
            InputError: No store that comes with this program has this name.
            NoStoreError: The path, or a folder it lies in, is a file that is none.
        """
        place = locate_store(os.fspath(path)).resolve()
        ExperienceStore(place).check_place(is_only_read=True)
        return cls(place)

    def __iter__(self) -> Iterator[Experience]:
        """Iterate over the experiences, in ascending order of their ids."""
        return iter(ExperienceStore(self.path).read())

    def __len__(self) -> int:
        """Count the experiences."""
        return len(ExperienceStore(self.path).ids())

    def frame(self) -> "pd.DataFrame":
        """Return the experiences as a data frame: task, site, GPU, model, method, parameters, result and costs.

        Raises:
            NoStoreError: There is no store at the path.
        """
        if not self.path.exists():
            raise NoStoreError(f"no store at `{self.path}`; give the folder of one")
        return frame_of([flat_experience(experience) for experience in self])

    def merge(self, *others: "StrPath | Store") -> None:
        """Add the experiences of other stores; what is here already stays once.

        Args:
            others: Stores, or their paths.

        Raises:
            StoreError: One of them cannot be read, or this one comes with the program, which is only read.
        """
        paths = [str(other.path if isinstance(other, Store) else locate_store(os.fspath(other))) for other in others]
        call("store", "merge", "--into", str(self.path), *paths)
