"""Reads the repository's own source for the checks of style."""

import ast
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT_DIR = Path(__file__).resolve().parents[2]
PACKAGE_DIR = ROOT_DIR / "xautolm_hpc"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Place:
    """A piece of code and where it stands.

    Attributes:
        path: File, relative to the repository's root.
        node: The syntax node.
    """

    path: str
    node: ast.stmt | ast.expr | ast.excepthandler | ast.arg

    def __str__(self) -> str:
        return f"{self.path}:{self.node.lineno}"


def python_files(*folders: str) -> list[Path]:
    """List the Python files below folders of the repository, sorted; folders that do not exist have none."""
    return sorted(path for folder in folders for path in (ROOT_DIR / folder).rglob("*.py"))


def n_lines(path: Path) -> int:
    """Count a file's lines."""
    return len(path.read_text().splitlines())


def places(*folders: str) -> Iterator[Place]:
    """Walk every syntax node that has a line, of every Python file below folders of the repository."""
    for path in python_files(*folders):
        for node in _nodes(path):
            yield Place(str(path.relative_to(ROOT_DIR)), node)


def functions(*folders: str) -> Iterator[tuple[Place, Function]]:
    """Walk every function and method below folders of the repository."""
    for place in places(*folders):
        if isinstance(place.node, Function):
            yield place, place.node


def n_function_lines(function: Function) -> int:
    """Count a function's lines from its ``def`` to its end, without its docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        lines -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return lines


def parameters(function: Function) -> list[ast.arg]:
    """List a function's parameters, ``*args`` and ``**kwargs`` included."""
    arguments = function.args
    starred = [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *starred]


@functools.cache
def tree(path: Path) -> ast.Module:
    """Parse a file."""
    return ast.parse(path.read_text(), filename=str(path))


@functools.cache
def _nodes(path: Path) -> list[ast.stmt | ast.expr | ast.excepthandler | ast.arg]:
    kinds = (ast.stmt, ast.expr, ast.excepthandler, ast.arg)
    return [node for node in ast.walk(tree(path)) if isinstance(node, kinds)]


def listing(findings: Sequence[str] | Mapping[str, int], advice: str = "") -> str:
    """Write findings one to a line, so that a failing check shows all of them at once."""
    rows = (f"{name}: {n}" for name, n in findings.items()) if isinstance(findings, Mapping) else findings
    return "\n".join([advice, *rows])
