"""``models``: list the catalogue of pretrained models."""

import argparse
import json
from collections.abc import Iterable

from rich.console import Console

from xautolm_hpc import report
from xautolm_hpc.catalogue import Model, load_catalogue
from xautolm_hpc.records import to_json


def run(arguments: argparse.Namespace) -> int:
    """List the catalogue."""
    models = load_catalogue().values()
    if arguments.json:
        print(json.dumps([to_json(model) for model in models], indent=1))
        return 0
    report.print_table(_table(models), Console())
    return 0


def _table(models: Iterable[Model]) -> report.Table:
    """Build the table of models, a row each."""
    columns = ("Model", "Family", "Parameters", "Layers", "Context", "Licence", "Weights")
    rows = tuple(
        (
            model.id,
            model.family,
            f"{model.n_parameters / 1e6:,.1f} M",
            str(model.n_layers),
            str(model.context_length),
            model.licence,
            f"package {model.package}" if model.package else model.path or model.hub_repo or "",
        )
        for model in models
    )
    return report.Table(columns, rows, right=frozenset({"Parameters", "Layers", "Context"}))
