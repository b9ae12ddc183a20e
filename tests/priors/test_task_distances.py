"""How far the tasks of a store are from one another."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.priors.builders import TASK, a_success, an_experience
from xautolm_hpc.cli import main
from xautolm_hpc.priors import distance_table, task_distances
from xautolm_hpc.records import Experience
from xautolm_hpc.store import ExperienceStore


def _experiences() -> list[Experience]:
    tasks = [replace(TASK, name=f"task-{i}", fingerprint=f"f{i}", features=(float(i * i), 1.0)) for i in range(3)]
    asked = replace(TASK, name="task-0", fingerprint="g", kind="question-answering", feature_schema="q/1")
    return [an_experience(a_success(0.5, 1.0), i, task=task) for i, task in enumerate([*tasks, asked])]


def test_the_distance_of_a_task_to_itself_is_0_and_grows_with_its_features() -> None:
    names, distances = task_distances(_experiences()[:3])

    assert names == ["task-0", "task-1", "task-2"]
    assert np.diag(distances).tolist() == [0.0, 0.0, 0.0]
    assert 0 < distances[0, 1] < distances[0, 2]


def test_between_kinds_of_task_there_is_no_distance_and_one_name_is_told_apart() -> None:
    names, distances = task_distances(reversed(_experiences()))

    assert names == ["task-0 f0", "task-0 g", "task-1", "task-2"]
    assert np.isnan(distances[1]).tolist() == [True, False, True, True]
    assert distance_table(names, distances).splitlines()[3] == "| task-0 g |  | 0.00 |  |  |"


def test_the_command_prints_a_table_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ExperienceStore(tmp_path / "store").append(_experiences())

    assert main(["store", "distances", str(tmp_path / "store")]) == 0
    assert capsys.readouterr().out.startswith("| seen from | task-0 f0 | task-0 g | task-1 | task-2 |")

    assert main(["store", "distances", str(tmp_path / "store"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["distances"][0][:2] == [0.0, None]
