"""``predict``: answer the rows of a file with an exported model."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from xautolm_hpc.durable import read_json, write_bytes, write_json
from xautolm_hpc.errors import InputError, LaunchError
from xautolm_hpc.predictions import ANSWERS, PREDICT, ROWS
from xautolm_hpc.profile.formats import check_columns, read_file

COLUMNS = {
    "text-classification": ("text",),
    "question-answering": ("question", "context"),
    "text-generation": ("question", "context"),
}
"""Kind of task -> columns that a row needs."""


def run(arguments: argparse.Namespace) -> int:
    """Print a JSON object for each row, in order, or write them to a file.

    Raises:
        InputError: The folder is no exported model, or the file or a row of it cannot be read.
        LaunchError: The worker failed.
    """
    model_dir = Path(arguments.model).resolve()
    names = COLUMNS[_kind(model_dir)]
    columns = {name: getattr(arguments, name) for name in names}
    rows = read_rows(Path(arguments.file), columns, delimiter=arguments.delimiter)
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
        content = path.read_bytes()
        is_alone = content.split(b"\n", 1)[0].strip().strip(b'"') in {column.encode() for column in columns.values()}
        read = read_file(path, content, columns=columns, delimiter=delimiter or ("," if is_alone else None))
    except FileNotFoundError as error:
        raise InputError(f"`{path}` does not exist; give a file with rows to answer") from error
    check_columns(path, read, columns=columns)
    rows = [dict(zip(columns, cells, strict=True)) for cells in read.cells]
    for number, row in enumerate(rows):
        for name, cell in row.items():
            if not isinstance(cell, str):
                raise InputError(f"`{path}`: row {number}, column {columns[name]!r} is {cell!r}; expected a text")
    return [{name: str(cell) for name, cell in row.items()} for row in rows]


def _kind(model_dir: Path) -> str:
    """Read for which kind of task a model was exported.

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
    return kind


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
