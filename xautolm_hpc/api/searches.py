"""Searches from Python, and what can be done with their results."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xautolm_hpc.api.calls import StrPath, call
from xautolm_hpc.api.frames import flat_trial, frame_of
from xautolm_hpc.api.opened_store import Store
from xautolm_hpc.api.search_files import check_section, search_text, write_data
from xautolm_hpc.commands.report import as_it_stands, read_summary
from xautolm_hpc.commands.runs import SECTIONS, read_run
from xautolm_hpc.durable import write_bytes
from xautolm_hpc.errors import InputError
from xautolm_hpc.report import write_page
from xautolm_hpc.report.figure_numbers import all_trials
from xautolm_hpc.run.folder import RunDir, check_run_name, find_run
from xautolm_hpc.store import locate_store

if TYPE_CHECKING:
    import pandas as pd


def search(
    data: object,
    /,
    *,
    name: str,
    store: "StrPath | Store | None" = None,
    profile: StrPath | None = None,
    runs_dir: StrPath = "runs",
    effort: str = "quick",
    **settings: Mapping[str, Any] | Sequence[Mapping[str, Any]],
) -> "Run":
    """Search for the best way to fine-tune a model on some data, or go on with a search that was interrupted.

    The settings are those of ``xautolm-hpc init`` for the data, which guesses kind of task and columns; what is given
    replaces them. They are written to ``RUNS_DIR/NAME.toml``.

    Args:
        data: A data frame, a ``datasets.Dataset`` or a list of rows (mappings), which are written to
            ``RUNS_DIR/NAME.data.jsonl``; or the path of a file or folder. It has no name: ``data=`` is the section.
        name: Name of the search and of its folder below ``runs_dir``.
        store: Store to learn from and to add to; by default ``RUNS_DIR/experience-store``.
        profile: Cluster profile; by default trials run on this machine.
        runs_dir: Folder of the runs; made if it is not there.
        effort: How much it may cost: ``quick``, ``normal`` or ``thorough``.
        **settings: Sections of the search file and their keys, such as ``space={"models": ["minilm-l3"]}``,
            ``budget={"trials": 8}`` (without other limits then) or ``data={"text": "body"}``; ``model`` is a list of
            mappings, one for each model of your own.

    Returns:
        The run, once the search has ended; without a success, too.

    Raises:
        InputError: Data, name or settings are not valid, or the run has other data or settings.
        XAutoLMError: Something else went wrong; the same call goes on.
    """
    check_run_name(name, where="name")
    for section, value in settings.items():
        if section not in SECTIONS:
            valid = dict.fromkeys(("data", "name", "store", "profile", "runs_dir", "effort", *SECTIONS))
            raise InputError(f"argument `{section}`: unknown; valid: {', '.join(valid)}")
        check_section(section, value, valid=SECTIONS[section])
    folder = Path(runs_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    data_path = write_data(data, folder / f"{name}.data.jsonl")
    if store is not None:
        place = store.path if isinstance(store, Store) else locate_store(os.fspath(store))
        settings = {**settings, "store": {"path": str(place.resolve())}}
    write_bytes(path, search_text(data_path, name, profile=profile, effort=effort, settings=settings).encode())
    call("run", str(path), "--runs-dir", str(folder), "--quiet")
    return Run.open(folder / name)


@dataclass(frozen=True, slots=True, repr=False)
class Run:
    """A search on disk: its results, and what can be done with them.

    Attributes:
        path: The run's folder.
    """

    path: Path

    @classmethod
    def open(cls, path: StrPath) -> "Run":
        """Open a run that is there already.

        Args:
            path: Its folder, or its name below ``runs``.

        Raises:
            RunFolderError: There is none; the message lists those there are below ``runs``.
        """
        return cls(find_run(os.fspath(path), "runs").path)

    def __repr__(self) -> str:
        """Return its name, its state and its best score."""
        row = read_run(RunDir(self.path))
        score = "no best trial" if row.best is None else f"best {row.best.objective} {row.best.value:.4g}"
        return f"<Run {row.name}: {row.state}, {score}>"

    @property
    def summary(self) -> dict[str, Any]:
        """The content of ``report.json``."""
        return read_summary(find_run(str(self.path), os.curdir))

    @property
    def best(self) -> dict[str, Any] | None:
        """The best trial by the first objective, as in ``report.json``; ``None`` if no trial succeeded."""
        best: dict[str, Any] | None = self.summary["best"]
        return best

    @property
    def trials(self) -> "pd.DataFrame":
        """Every trial by number: what it is, how it ended, its metrics, costs and ``params.NAME``."""
        return frame_of([flat_trial(trial) for trial in all_trials(self.summary)])

    @property
    def pareto(self) -> "pd.DataFrame":
        """The trials that no other beats in every objective, best first; columns as in :attr:`trials`."""
        return frame_of([flat_trial(trial) for trial in self.summary["front"]])

    def report(self) -> Path:
        """Write the page of the report anew.

        Returns:
            Path of ``report.html``.
        """
        run_dir = find_run(str(self.path), os.curdir)
        return write_page(as_it_stands(run_dir, read_summary(run_dir)), run_dir.report_dir)

    def export(self, trial: int, folder: StrPath, *, adapter: bool = False, licence: str | None = None) -> Path:
        """Write a trained model as a folder that transformers loads.

        Args:
            trial: Number of the trial; those of the Pareto set have kept their weights.
            folder: Folder to write; new or empty.
            adapter: Whether to write adapters alone, for the base model.
            licence: Licence of the base model, where nothing else says it.

        Returns:
            The folder.

        Raises:
            InputError: The folder is not empty, or the trial cannot be exported.
        """
        options = [*(["--adapter"] if adapter else []), *(["--licence", licence] if licence else [])]
        call("export-model", str(self.path), str(trial), "--to", os.fspath(folder), *options)
        return Path(folder)

    def resume(self, search_file: StrPath | None = None) -> "Run":
        """Continue the search where it stands; one that has ended stays as it is, unless its budget was raised.

        Args:
            search_file: Its search file; by default the one that :func:`search` wrote beside the run's folder.

        Raises:
            InputError: There is no such file.
            XAutoLMError: As for :func:`search`.
        """
        path = self.path.with_name(f"{self.path.name}.toml") if search_file is None else Path(search_file)
        if not path.exists():
            raise InputError(f"`{path}` does not exist; give the search file of the run")
        call("run", str(path), "--runs-dir", str(self.path.parent), "--quiet")
        return self
