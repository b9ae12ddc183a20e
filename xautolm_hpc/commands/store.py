"""``store info|verify|show``: look into an experience store."""

import argparse
import json
from pathlib import Path

from xautolm_hpc.errors import InputError
from xautolm_hpc.records import to_json
from xautolm_hpc.store import ExperienceStore


def run(arguments: argparse.Namespace) -> int:
    """Do one of the store's verbs.

    Raises:
        InputError: There is no such store.
    """
    path = Path(arguments.store)
    if not path.exists():
        raise InputError(f"`{path}` does not exist; expected a store: a folder of segments, or one `.h5` file")
    store = ExperienceStore(path)
    verbs = {"info": _info, "verify": _verify, "show": _show}
    return verbs[arguments.store_verb](store, arguments)


def _info(store: ExperienceStore, arguments: argparse.Namespace) -> int:
    """Print the counts of a store."""
    info = store.info()
    if arguments.json:
        print(json.dumps(info, indent=1))
        return 0
    for key, value in info.items():
        if isinstance(value, dict):
            print(f"{key}:")
            for name, count in value.items():
                print(f"  {name}: {count}")
        else:
            print(f"{key}: {value}")
    return 0


def _verify(store: ExperienceStore, arguments: argparse.Namespace) -> int:
    findings = store.verify()
    if arguments.json:
        print(json.dumps([to_json(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            print(finding)
        print(f"{len(findings)} findings in {store.path}")
    return 4 if findings else 0


def _show(store: ExperienceStore, arguments: argparse.Namespace) -> int:
    print(json.dumps(to_json(store.show(arguments.id)), indent=1, ensure_ascii=arguments.json))
    return 0
