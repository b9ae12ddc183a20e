"""``models``: list the catalogue of pretrained models."""

import argparse
import json

from rich.console import Console
from rich.table import Table

from xautolm_hpc.catalogue import load_catalogue
from xautolm_hpc.records import to_json


def run(arguments: argparse.Namespace) -> int:
    """List the catalogue."""
    models = load_catalogue().values()
    if arguments.json:
        print(json.dumps([to_json(model) for model in models], indent=1))
        return 0
    table = Table("model", "family", "parameters", "layers", "context", "licence", "weights")
    for model in models:
        weights = f"package {model.package}" if model.package else model.path or model.hub_repo
        size = f"{model.n_parameters / 1e6:,.1f} M"
        table.add_row(
            model.id, model.family, size, str(model.n_layers), str(model.context_length), model.licence, weights
        )
    Console().print(table)
    return 0
