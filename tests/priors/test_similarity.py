"""Distances of experiences against hand-computed values."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.nouns import GIB, system
from tests.nouns import SYSTEM as NO_GPU
from tests.priors.builders import SYSTEM, TASK, a_success, an_experience
from xautolm_hpc.priors.similarity import (
    Term,
    combine_terms,
    cosine_distances,
    euclidean_distances,
    experience_distances,
    standardise,
    system_features,
)
from xautolm_hpc.records import Task
from xautolm_hpc.table import build_table

NAN = math.nan


def test_features_of_a_gpu_node_are_in_cores_and_gib() -> None:
    node = system(
        n_cpu_cores=16, ram_bytes=128 * GIB, n_gpus=2, gpu_memory_bytes=80 * GIB, gpu_capability=9.0
    )  # fmt: skip

    assert system_features(node) == (16.0, 128.0, 2.0, 80.0, 9.0)


def test_a_node_known_to_have_no_gpu_has_gpu_memory_zero() -> None:
    assert system_features(NO_GPU) == (4.0, 16.0, 0.0, 0.0, 0.0)


def test_a_node_nothing_is_known_of_has_no_feature() -> None:
    assert system_features(system()) == (None,) * 5


def test_features_are_standardised_over_the_experiences_and_the_current_one() -> None:
    # Values 1, 1, 3 and the current 3: mean 2, population deviation 1.
    features, used, current = np.array([[1.0], [3.0]]), np.array([0, 0, 1]), np.array([3.0])

    z, z_current = standardise(features, used, current=current)

    assert z.tolist() == [[-1.0], [1.0]]
    assert z_current.tolist() == [1.0]


def test_every_experience_counts_in_the_mean() -> None:
    # Values 0, 0, 0 and the current 4: mean 1, population deviation sqrt(3).
    z, z_current = standardise(np.array([[0.0]]), np.array([0, 0, 0]), current=np.array([4.0]))

    assert z[0, 0] == pytest.approx(-1 / math.sqrt(3))
    assert z_current[0] == pytest.approx(3 / math.sqrt(3))


def test_a_feature_that_is_the_same_everywhere_is_0() -> None:
    # The deviation of equal numbers that have no exact mean rounds to above 0; dividing by it would give about 1.
    z, z_current = standardise(np.array([[0.1]]), np.zeros(2, dtype=np.int64), current=np.array([0.1]))

    assert z.tolist() == [[0.0]]
    assert z_current.tolist() == [0.0]


def test_a_missing_feature_is_0_after_standardising() -> None:
    z, z_current = standardise(np.array([[NAN, NAN], [2.0, NAN]]), np.array([0, 1]), current=np.array([4.0, NAN]))

    assert z.tolist() == [[0.0, 0.0], [-1.0, 0.0]]
    assert z_current.tolist() == [1.0, 0.0]


def test_euclidean_distance_is_the_length_of_the_difference() -> None:
    distances = euclidean_distances(np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([0.0, 0.0]))

    assert distances.tolist() == [5.0, 0.0]


def test_cosine_distance_is_one_minus_the_cosine() -> None:
    points = np.array([[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0], [1.0, 1.0]])

    distances = cosine_distances(points, np.array([1.0, 0.0]))

    assert distances == pytest.approx([0.0, 1.0, 2.0, 1 - math.sqrt(0.5)])


def test_cosine_distance_is_0_between_two_zero_vectors_and_1_to_one() -> None:
    points = np.array([[0.0, 0.0], [1.0, 2.0]])

    assert cosine_distances(points, np.array([0.0, 0.0])).tolist() == [0.0, 1.0]
    assert cosine_distances(points, np.array([1.0, 2.0]))[0] == 1.0


def test_terms_are_added_by_weight() -> None:
    terms = [Term(0.4, np.array([1.0, 2.0])), Term(0.3, np.array([10.0, 0.0])), Term(0.3, np.array([0.5, 0.5]))]

    assert combine_terms(terms, 2) == pytest.approx([0.4 + 3.0 + 0.15, 0.8 + 0.15])


def test_a_term_the_current_task_lacks_is_dropped_and_the_weights_rescaled() -> None:
    terms = [Term(0.4, np.array([7.0])), Term(0.3, np.array([14.0]))]

    assert combine_terms(terms, 1) == pytest.approx([0.4 / 0.7 * 7 + 0.3 / 0.7 * 14])


def test_an_experience_that_lacks_a_term_is_as_far_as_the_farthest_other() -> None:
    terms = [Term(0.4, np.array([1.0, 1.0, 1.0])), Term(0.6, np.array([2.0, NAN, 5.0]))]

    assert combine_terms(terms, 3) == pytest.approx([0.4 + 1.2, 0.4 + 3.0, 0.4 + 3.0])


def test_a_term_that_every_experience_lacks_is_dropped() -> None:
    terms = [Term(0.4, np.array([3.0])), Term(0.6, np.array([NAN]))]

    assert combine_terms(terms, 1) == pytest.approx([3.0])
    assert combine_terms([], 2).tolist() == [0.0, 0.0]


def _distances(others: list[Task], current: Task, metric: str = "euclidean") -> list[float]:
    """Compute the distances of one experience of each task, in the order of the tasks."""
    experiences = [an_experience(a_success(), trial, task=task) for trial, task in enumerate(others)]
    table = build_table(experiences)
    rows = np.arange(len(table))
    found = experience_distances(table, rows, task=current, system=SYSTEM, metric=metric)
    return [float(found[table.trial.tolist().index(trial)]) for trial in range(len(others))]


def test_task_system_and_semantic_terms_add_up() -> None:
    # Feature 1: values 1, 3 and current 3: z -1.414.., .707.. each; feature 2 equal. Systems equal: 0.
    near = replace(TASK, features=(3.0, 2.0), semantic=(0.0, 2.0))
    far = replace(TASK, features=(1.0, 2.0), semantic=(1.0, 0.0))
    current = replace(TASK, features=(3.0, 2.0), semantic=(0.0, 1.0))

    distances = _distances([far, near], current)

    assert distances == pytest.approx([0.4 * 2 / math.sqrt(8 / 9) + 0.3 * 1.0, 0.0])


def test_meaning_is_compared_by_cosine_of_the_raw_vectors_whatever_the_metric() -> None:
    other, current = replace(TASK, semantic=(100.0, 0.0)), replace(TASK, semantic=(1.0, 1.0))

    assert _distances([other], current, "euclidean") == pytest.approx([0.3 * (1 - math.sqrt(0.5))])
    assert _distances([other], current, "cosine") == pytest.approx([0.3 * (1 - math.sqrt(0.5))])


def test_a_meaning_of_another_length_counts_as_unknown() -> None:
    same, opposite = replace(TASK, semantic=(1.0, 0.0)), replace(TASK, semantic=(-1.0, 0.0))
    other_model = replace(TASK, semantic=(1.0, 0.0, 0.0))

    distances = _distances([same, opposite, other_model, TASK], replace(TASK, semantic=(1.0, 0.0)))

    assert distances == pytest.approx([0.0, 0.6, 0.6, 0.6])


def test_a_system_of_which_nothing_is_known_is_as_far_as_the_farthest() -> None:
    unknown = replace(SYSTEM, n_cpu_cores=None, ram_bytes=None, n_gpus=None, gpu_memory_bytes=None, gpu_capability=None)
    bigger = replace(SYSTEM, n_cpu_cores=64)
    experiences = [
        an_experience(a_success(), trial, system=system) for trial, system in enumerate((SYSTEM, bigger, unknown))
    ]
    table = build_table(experiences)

    found = experience_distances(table, np.arange(3), task=TASK, system=SYSTEM, metric="euclidean")

    same, big, nothing = (found[table.trial.tolist().index(trial)] for trial in range(3))
    assert same == 0.0
    assert nothing == big > 0.0
