"""Names say what a thing is, and docstrings keep to what the code does."""

import ast
import re

from tests.checks.source import (
    Function,
    functions,
    listing,
    n_function_lines,
    parameters,
    places,
    python_files,
)

PRIVATE_HELPER_LINES = 10
EMPTY_WORDS = {"manager", "util", "utils", "helper", "helpers", "misc"}
QUANTITIES = {"delay", "duration", "elapsed", "energy", "interval", "latency", "memory", "period", "timeout"}
NUMBERS = {"int", "float", "int | None", "float | None"}


def test_names_say_more_than_get_handle_process_or_manager() -> None:
    named = [place for place in places("xautolm_hpc") if isinstance(place.node, Function | ast.ClassDef)]
    files = [path.relative_to(path.parents[1]) for path in python_files("xautolm_hpc")]

    empty = [f"{place} {place.node.name}" for place in named if _is_empty(place.node.name)]  # type: ignore[union-attr]
    empty += [str(path) for path in files if _is_empty(path.stem)]

    assert not empty, listing(empty)


def test_a_number_that_is_a_quantity_ends_in_its_unit() -> None:
    unitless = [
        f"{place} {name}"
        for place in places("xautolm_hpc")
        for name in _declared_numbers(place.node)
        if name.split("_")[-1] in QUANTITIES
    ]

    assert not unitless, listing(unitless, "say the unit: timeout_s, memory_gb, energy_j")


def test_docstrings_name_no_parameter_that_is_gone() -> None:
    gone = [
        f"{place} {function.name}: {name}"
        for place, function in functions("xautolm_hpc", "benchmarks")
        for name in _section(ast.get_docstring(function), "Args")
        if name not in {parameter.arg for parameter in parameters(function)}
    ]

    assert not gone, listing(gone)


def test_public_functions_name_every_error_they_raise() -> None:
    silent = [
        f"{place} {function.name}: {error}"
        for place, function in functions("xautolm_hpc")
        if not function.name.startswith("_")
        for error in sorted(_raised(function))
        if error not in (ast.get_docstring(function) or "")
    ]

    assert not silent, listing(silent, "name it under Raises: with its cause")


def test_public_dataclasses_say_what_each_field_is() -> None:
    classes = {place.node.name for place in places("xautolm_hpc") if isinstance(place.node, ast.ClassDef)}

    silent = [
        f"{place} {name}"
        for place in places("xautolm_hpc")
        if isinstance(place.node, ast.ClassDef) and _is_public_dataclass(place.node)
        for name in _fields(place.node, classes)
        if not _is_documented(name, ast.get_docstring(place.node) or "")
    ]

    assert not silent, listing(silent, "name it under Attributes: with unit and range")


def test_longer_private_functions_say_what_they_do() -> None:
    silent = [
        f"{place} {function.name}"
        for place, function in functions("xautolm_hpc")
        if function.name.startswith("_") and not function.name.endswith("__")
        if n_function_lines(function) > PRIVATE_HELPER_LINES and ast.get_docstring(function) is None
    ]

    assert not silent, listing(silent)


def _is_empty(name: str) -> bool:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_").split("_")
    return words[0] in {"get", "handle"} or words == ["process"] or bool(EMPTY_WORDS & set(words))


def _declared_numbers(node: ast.AST) -> list[str]:
    if isinstance(node, Function):
        return [p.arg for p in parameters(node) if p.annotation and ast.unparse(p.annotation) in NUMBERS]
    if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) in NUMBERS:
        return [ast.unparse(node.target)]
    return []


def _section(docstring: str | None, title: str) -> list[str]:
    """List the names a Google-style section documents; ``*`` and types in parentheses left out."""
    found = re.search(rf"^{title}:\n((?:[ \t]+.*\n?|\n)+)", docstring or "", flags=re.MULTILINE)
    if found is None:
        return []
    entries = re.findall(r"^ {4}([\w*, ]+?)(?: \([^)]*\))?:", found[1], flags=re.MULTILINE)
    return [name.strip().lstrip("*") for entry in entries for name in entry.split(",")]


def _raised(function: Function) -> set[str]:
    """Name the errors that a function raises by itself, without those of functions inside it."""
    inner = {
        id(node)
        for child in ast.walk(function)
        if child is not function and isinstance(child, Function)
        for node in ast.walk(child)
    }
    raises = [node for node in ast.walk(function) if isinstance(node, ast.Raise) and id(node) not in inner]
    calls = [node.exc for node in raises if isinstance(node.exc, ast.Call)]
    return {ast.unparse(call.func).split(".")[-1] for call in calls if ast.unparse(call.func)[:1].isupper()}


def _is_public_dataclass(node: ast.ClassDef) -> bool:
    decorators = {ast.unparse(decorator).split("(")[0] for decorator in node.decorator_list}
    return not node.name.startswith("_") and bool(decorators & {"dataclass", "dataclasses.dataclass"})


def _fields(node: ast.ClassDef, classes: set[str]) -> list[str]:
    """List a dataclass's public fields, without those that hold a record of ours: its class speaks for it."""
    declared = {
        ast.unparse(statement.target): ast.unparse(statement.annotation)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign)
    }
    return [
        name
        for name, annotation in declared.items()
        if not name.startswith("_") and "ClassVar" not in annotation and annotation not in classes
    ]


def _is_documented(field: str, docstring: str) -> bool:
    return field in _section(docstring, "Attributes") or f"``{field}``" in docstring
