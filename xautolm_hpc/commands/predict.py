"""``predict``: answer the rows of a file with an exported model."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xautolm_hpc.commands.output_file import check_output
from xautolm_hpc.durable import open_regular, read_json, write_bytes, write_json
from xautolm_hpc.errors import InputError, LaunchError
from xautolm_hpc.predictions import ANSWERS, PREDICT, ROWS
from xautolm_hpc.profile.formats import check_columns, read_file
from xautolm_hpc.task_kinds import COLUMNS

OPTION = "--{} {}"
"""How messages name the option that says a column, or the delimiter."""


def run(arguments: argparse.Namespace) -> int:
    """Print a JSON object for each row, in order, or write them to a file.

    Raises:
        InputError: The folder is no exported model, the file or a row of it cannot be read, or the file to write is not
            to be overwritten.
        LaunchError: The worker failed.
    """
    model_dir = Path(arguments.model).resolve()
    described = _described(model_dir)
    path = Path(arguments.file)
    if arguments.to is not None:
        check_output(arguments.to, inputs=[path, *model_dir.iterdir()], force=arguments.force)
    names = COLUMNS[described["kind"]]
    columns = {name: getattr(arguments, name) or described["columns"].get(name, name) for name in names}
    rows = read_rows(path, columns, delimiter=arguments.delimiter)
    answers = _answers(model_dir, rows, python=arguments.python or sys.executable, environ=arguments.environ)
    if arguments.to is None:
        print(answers, end="")
        return 0
    write_bytes(Path(arguments.to), answers.encode())
    print(f"`{arguments.to}` holds {len(rows):,} answers, a line each, in the order of the rows")
    return 0


def read_rows(path: Path, columns: Mapping[str, str], *, delimiter: str | None = None) -> list[dict[str, str]]:
    """Read what a model answers.

    Args:
        path: The file.
        columns: What a row needs -> the column that has it.
        delimiter: What divides the columns of a CSV or TSV file; ``None`` if it is to be recognised.

    Raises:
        InputError: The file or a column is missing, or a cell is no text.
    """
    try:
        with open_regular(path) as file:
            content = file.read()
        read = read_file(path, content, columns=columns, delimiter=delimiter, key=OPTION)
    except IsADirectoryError as error:
        raise InputError(f"`{path}` is a folder; give a file with rows to answer") from error
    except FileNotFoundError as error:
        raise InputError(f"`{path}` does not exist; give a file with rows to answer") from error
    check_columns(path, read, columns=columns, key=OPTION)
    rows = [dict(zip(columns, cells, strict=True)) for cells in read.cells]
    for number, row in enumerate(rows, start=1):
        for name, cell in row.items():
            if not isinstance(cell, str):
                raise InputError(f"`{path}`: row {number}, column {columns[name]!r} is {cell!r}; expected a text")
    return [{name: str(cell) for name, cell in row.items()} for row in rows]


def _described(model_dir: Path) -> dict[str, Any]:
    """Read for which ``kind`` of task a model was exported, and the ``columns`` of the data it has learnt from.

    Raises:
        InputError: It is no exported model, or of a version that did not say.
    """
    path = model_dir / PREDICT
    if (model_dir / "adapter_config.json").exists():
        raise InputError(f"`{model_dir}` holds adapters alone; export the trial again without --adapter")
    if not path.exists():
        raise InputError(f"`{path}` is missing: give a folder that `export-model` of this version wrote")
    described = read_json(path)
    if not isinstance(described, dict):
        raise InputError(f"`{path}` is a {type(described).__name__}; expected an object with `kind`")
    kind = str(described.get("kind"))
    if kind not in COLUMNS:
        raise InputError(f"`{path}`: kind = {kind!r}; expected one of {', '.join(COLUMNS)}")
    columns = described.get("columns", {})
    if not isinstance(columns, dict) or not all(isinstance(column, str) for column in columns.values()):
        raise InputError(f"`{path}`: columns = {columns!r}; expected names of columns, such as {{'text': 'review'}}")
    return {"kind": kind, "columns": columns}


def _answers(model_dir: Path, rows: Sequence[Mapping[str, str]], *, python: str, environ: Mapping[str, str]) -> str:
    """Start a worker that answers the rows; return its answers as JSON Lines."""
    with tempfile.TemporaryDirectory(prefix="xautolm-predict-") as name:
        folder = Path(name)
        write_json(folder / PREDICT, {"model": str(model_dir)})
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_bytes(folder / ROWS, lines.encode(), flush=False)
        done = subprocess.run([python, "-m", "xautolm_hpc.train", "predict", name], env=dict(environ), check=False)
        if done.returncode:
            raise LaunchError(f"the worker failed with status {done.returncode}; see above")
        return (folder / ANSWERS).read_text(encoding="utf-8")
