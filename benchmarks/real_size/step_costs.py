"""Measures what steps of the models of the catalogue cost, for `make catalogue`: writes packaged/step_costs.json.

Models of the same architecture are measured once. What the file has is kept, unless ``--anew`` is given.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import transformers

import xautolm_hpc
from benchmarks.real_size.published import published_config
from xautolm_hpc.catalogue import load_catalogue
from xautolm_hpc.train.costs.measure import measure_costs

STEP_COSTS = Path(xautolm_hpc.__file__).with_name("packaged") / "step_costs.json"


def groups(ids: Sequence[str]) -> list[list[str]]:
    """Group models of the same architecture, in their order; how many positions they have costs nothing."""
    found: dict[str, list[str]] = {}
    for model_id in ids:
        config = {**published_config(model_id).to_dict(), "max_position_embeddings": None}
        found.setdefault(json.dumps(config, sort_keys=True), []).append(model_id)
    return list(found.values())


def measure(model_id: str, precisions: Sequence[str]) -> Mapping[str, Any] | None:
    """Measure one model; return plain data, or ``None`` where its architecture cannot be followed."""
    torch.set_num_threads(1)
    model = load_catalogue()[model_id]
    costs = measure_costs(
        published_config(model_id), family=model.family, context_length=model.context_length, precisions=precisions
    )
    return None if costs is None else costs.plain()


def write(models: Mapping[str, Any], path: Path) -> None:
    """Write the file, a model a line."""
    ordered = [model_id for model_id in load_catalogue() if models.get(model_id) is not None]
    lines = ",\n".join(f"{json.dumps(model_id)}: {json.dumps(models[model_id])}" for model_id in ordered)
    made = json.dumps({"torch": torch.__version__, "transformers": transformers.__version__})
    path.write_text(f'{{"made_with": {made},\n"models": {{\n{lines}\n}}}}\n')


def main() -> int:
    """Measure what is missing and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--anew", action="store_true", help="measure all models again")
    parser.add_argument("--models", nargs="+", metavar="ID", help="only these, and those of the same blocks")
    parser.add_argument("--precisions", nargs="+", default=["half", "single", "mixed"], metavar="NAME")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="models measured at a time")
    parser.add_argument("--out", type=Path, default=STEP_COSTS, metavar="FILE", help="file to write")
    arguments = parser.parse_args()
    done = {} if arguments.anew or not arguments.out.exists() else json.loads(arguments.out.read_text())["models"]
    every = groups(list(load_catalogue()))
    for group in every:
        done |= dict.fromkeys(group, next((done[model_id] for model_id in group if model_id in done), None))
    done = {model_id: costs for model_id, costs in done.items() if costs is not None}
    write(done, arguments.out)
    left = [
        group
        for group in every
        if any(model_id not in done for model_id in group) and set(group) & set(arguments.models or group)
    ]
    with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
        futures = [(group, pool.submit(measure, group[0], arguments.precisions)) for group in left]
        for group, future in futures:
            began = time.monotonic()
            measured = future.result()
            done |= dict.fromkeys(group, measured)
            write(done, arguments.out)
            print(
                f"{group[0]}: {len(measured['costs']) if measured else 'no'} ways, {time.monotonic() - began:.0f} s",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
