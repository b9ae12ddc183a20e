"""The same from Python: searches, their results and stores of experiences, for notebooks and scripts.

::

    import xautolm_hpc

    run = xautolm_hpc.search(frame, name="tickets")  # a data frame, a datasets.Dataset, or a path
    run.trials                                       # every trial, as a data frame
    run.export(run.best["trial"], "model")

It runs the commands of the command line, so a search from here can be resumed, shown and exported there, and the other
way round. ``import xautolm_hpc`` itself imports nothing of this.
"""

import contextlib
import io
import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xautolm_hpc.cli import run_command
from xautolm_hpc.commands.report import read_summary
from xautolm_hpc.durable import write_bytes
from xautolm_hpc.errors import InputError
from xautolm_hpc.records import Experience, to_json
from xautolm_hpc.report import write_page
from xautolm_hpc.report.figure_numbers import all_trials
from xautolm_hpc.run.folder import check_run_name, find_run
from xautolm_hpc.store import ExperienceStore
from xautolm_hpc.store.packaged import locate_store

if TYPE_CHECKING:
    import pandas as pd

StrPath = str | os.PathLike[str]

GUESSED = {
    ("task", "kind"): "--kind",
    **{("data", key): f"--{key}" for key in ("text", "label", "question", "context", "answers", "delimiter")},
}
"""Section and key of a search file -> the option by which ``init`` is told it, instead of guessing it."""

REPLACED_WHOLE = frozenset({"budget"})
"""Sections that are replaced as a whole where they are given: a limit that is left out is none."""


def search(
    data: object,
    *,
    name: str,
    store: "StrPath | Store | None" = None,
    profile: StrPath | None = None,
    runs_dir: StrPath = "runs",
    effort: str = "quick",
    **settings: Mapping[str, Any],
) -> "Run":
    """Search for the best way to fine-tune a model on some data, or go on with a search that was interrupted.

    The settings are those of ``xautolm-hpc init`` for the data, which guesses kind of task and columns; what is given
    replaces them. They are written to ``RUNS_DIR/NAME.toml``.

    Args:
        data: A data frame, a ``datasets.Dataset`` or a list of rows (mappings), which are written to
            ``RUNS_DIR/NAME.data.jsonl``; or the path of a file or folder.
        name: Name of the search and of its folder below ``runs_dir``.
        store: Store to learn from and to add to; by default ``RUNS_DIR/experience-store``.
        profile: Cluster profile; by default trials run on this machine.
        runs_dir: Folder of the runs; made if it is not there.
        effort: How much it may cost: ``quick``, ``normal`` or ``thorough``.
        **settings: Sections of the search file and their keys, such as ``space={"models": ["minilm-l3"]}``,
            ``budget={"trials": 8}`` (without other limits then) or ``data={"text": "body"}``.

    Returns:
        The run, once the search has ended; without a success, too.

    Raises:
        InputError: Data, name or settings are not valid, or the run has other data or settings.
        XAutoLMError: Something else went wrong; the same call goes on.
    """
    check_run_name(name, where="name")
    folder = Path(runs_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    data_path = _data_path(data, folder / f"{name}.data.jsonl")
    if store is not None:
        place = store.path if isinstance(store, Store) else Path(store)
        settings = {**settings, "store": {**settings.get("store", {}), "path": str(place.resolve())}}
    write_bytes(path, _search_text(data_path, name, profile=profile, effort=effort, settings=settings).encode())
    _call("run", str(path), "--runs-dir", str(folder), "--quiet")
    return Run.open(folder / name)


@dataclass(frozen=True, slots=True)
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
            path: Its folder.

        Raises:
            RunFolderError: It is none.
        """
        return cls(find_run(os.fspath(path), os.curdir).path)

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
        return _frame([_flat(trial) for trial in all_trials(self.summary)])

    @property
    def pareto(self) -> "pd.DataFrame":
        """The trials that no other beats in every objective, best first; columns as in :attr:`trials`."""
        return _frame([_flat(trial) for trial in self.summary["front"]])

    def report(self) -> Path:
        """Write the page of the report anew.

        Returns:
            Path of ``report.html``.
        """
        run_dir = find_run(str(self.path), os.curdir)
        return write_page(read_summary(run_dir), run_dir.report_dir)

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
        _call("export-model", str(self.path), str(trial), "--to", os.fspath(folder), *options)
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
        _call("run", str(path), "--runs-dir", str(self.path.parent), "--quiet")
        return self


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
            NoStoreError: The path, or a folder it lies in, is a file that is none.
        """
        place = locate_store(os.fspath(path)).resolve()
        ExperienceStore(place).check_place()
        return cls(place)

    def __iter__(self) -> Iterator[Experience]:
        """Iterate over the experiences, in ascending order of their ids."""
        return iter(ExperienceStore(self.path).read())

    def __len__(self) -> int:
        """Count the experiences."""
        return len(ExperienceStore(self.path).ids())

    def frame(self) -> "pd.DataFrame":
        """Return the experiences as a data frame: task, site, GPU, model, method, parameters, result and costs."""
        return _frame([_row(experience) for experience in self])

    def merge(self, *others: "StrPath | Store") -> None:
        """Add the experiences of other stores; what is here already stays once.

        Args:
            others: Stores, or their paths.

        Raises:
            StoreError: One of them cannot be read.
        """
        paths = [str(other.path if isinstance(other, Store) else Path(other)) for other in others]
        _call("store", "merge", "--into", str(self.path), *paths)


def _call(*arguments: str) -> None:
    """Run a command; what it prints is not shown, its errors are raised."""
    with contextlib.redirect_stdout(io.StringIO()):
        run_command(arguments)


def _data_path(data: object, path: Path) -> Path:
    """Return the path of the data; rows are written to a file of their own first.

    Raises:
        InputError: They are of no known form, or a search of this name has other data.
    """
    if isinstance(data, str | os.PathLike):
        return Path(data).resolve()
    content = _json_lines(data).encode()
    if path.exists() and path.read_bytes() != content:
        raise InputError(f"`{path}` holds other data of a search of this name; give another name, or remove that file")
    write_bytes(path, content)
    return path.resolve()


def _json_lines(data: object) -> str:
    """Write rows as JSON Lines.

    Raises:
        InputError: They are of no known form, or a value is none that JSON has.
    """
    if hasattr(data, "to_json") and hasattr(data, "columns"):  # a data frame
        return str(data.to_json(orient="records", lines=True, force_ascii=False))
    rows: Any = data.to_list() if hasattr(data, "to_list") else data  # a datasets.Dataset
    if not isinstance(rows, Sequence) or not rows or not all(isinstance(row, Mapping) for row in rows):
        raise InputError(
            f"data is a {type(data).__name__}; expected a data frame, a datasets.Dataset, a list of mappings (not "
            "empty) or the path of a file or folder"
        )
    try:
        return "".join(json.dumps(dict(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    except (TypeError, ValueError) as error:
        raise InputError(f"data has a value that JSON has not: {error}") from error


def _search_text(
    data_path: Path, name: str, *, profile: StrPath | None, effort: str, settings: Mapping[str, Mapping[str, Any]]
) -> str:
    """Write the search file: what ``init`` chooses for the data, and what is given in its place."""
    from tempfile import TemporaryDirectory

    options = ["--cluster", str(Path(profile).resolve())] if profile is not None else []
    for (section, key), option in GUESSED.items():
        if key in settings.get(section, {}):
            options += [option, str(settings[section][key])]
    with TemporaryDirectory(prefix="xautolm-api-") as folder:
        path = Path(folder) / "search.toml"
        _call("init", str(data_path), "--name", name, "--effort", effort, "--to", str(path), *options)
        chosen = tomllib.loads(path.read_text())
    chosen["data"]["path"] = str(data_path)
    if profile is not None:
        chosen["profile"] = str(Path(profile).resolve())
    for section, keys in settings.items():
        kept = {} if section in REPLACED_WHOLE else chosen.get(section, {})
        chosen[section] = {**kept, **keys}
    space = chosen["space"]
    if "params" not in settings.get("space", {}):  # what was chosen for methods that are not searched has no use
        space["params"] = {name: table for name, table in space["params"].items() if name in space["methods"]}
    return "".join(f"{key} = {_toml(value)}\n" for key, value in chosen.items())


def _toml(value: Any) -> str:
    """Write a value as TOML in one line.

    Raises:
        InputError: TOML has no such value.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | os.PathLike):
        return json.dumps(os.fspath(value))
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(key)} = {_toml(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    raise InputError(f"a setting is {value!r}; expected text, a number, true or false, a list or a mapping of them")


def _flat(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Write a trial as a row: its metrics by their names, its hyperparameters as ``params.NAME``."""
    nested = ("metrics", "params", "curve")
    plain = {key: value for key, value in trial.items() if key not in nested}
    params = {f"params.{name}": value for name, value in trial["params"].items()}
    return {**plain, **trial["metrics"], **params, "curve": trial.get("curve")}


def _row(experience: Experience) -> dict[str, Any]:
    """Write an experience as a row."""
    task, system, pipeline, outcome = experience.task, experience.system, experience.pipeline, experience.outcome
    return {
        "id": experience.id,
        "site": experience.provenance.site,
        "task": task.name,
        "kind_of_task": task.kind,
        "gpu": system.gpu_name,
        "model": pipeline.model_id,
        "method": pipeline.method,
        "status": str(outcome.status),
        "failure": outcome.kind,
        "truncated": outcome.truncated,
        **outcome.metrics,
        "evaluation_time_s": outcome.evaluation_time_s,
        "gpu_energy_j": outcome.gpu_energy_j,
        "peak_gpu_memory_bytes": outcome.peak_gpu_memory_bytes,
        **{f"params.{name}": to_json(value) for name, value in pipeline.params.items()},
    }


def _frame(rows: Sequence[Mapping[str, Any]]) -> "pd.DataFrame":
    """Build a data frame.

    Raises:
        InputError: pandas is not installed here.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise InputError("data frames need pandas, which is not installed here: pip install pandas") from error
    return pd.DataFrame(rows)
