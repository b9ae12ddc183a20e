"""Padded lengths: few where there are few steps, fine where there are many, the cheapest cut of all."""

from itertools import combinations

import numpy as np
import pytest

from xautolm_hpc.train.steps.buckets import CAPTURE_STEPS, FLOOR_TOKENS, GRID, choose_edges, padded_length

SST2 = [int(n) for n in np.random.default_rng(0).integers(20, 60, size=128)]


def _cost(lengths: list[int], edges: tuple[int, ...], *, n_rows: int, n_repeats: int) -> float:
    costs = [1 + padded_length(length, edges) * n_rows / FLOOR_TOKENS for length in lengths]
    return CAPTURE_STEPS * len(edges) + n_repeats * sum(costs)


@pytest.mark.parametrize("n_repeats", [1, 3, 30, 1000])
def test_no_other_cut_is_cheaper(n_repeats: int) -> None:
    longest = max(SST2)
    grid = sorted({min(-(-length // GRID) * GRID, longest) for length in SST2})

    chosen = choose_edges(SST2, n_rows=32, n_repeats=n_repeats)

    others = [(*some, longest) for n in range(len(grid)) for some in combinations(grid[:-1], n)]
    least = min(_cost(SST2, edges, n_rows=32, n_repeats=n_repeats) for edges in others)
    assert _cost(SST2, chosen, n_rows=32, n_repeats=n_repeats) == pytest.approx(least)


def test_a_long_training_gets_more_lengths_than_a_short_one() -> None:
    n_edges = [len(choose_edges(SST2, n_rows=32, n_repeats=epochs)) for epochs in (1, 10, 100)]

    assert n_edges[0] <= 4
    assert n_edges[0] < n_edges[1] <= n_edges[2] == 6


def test_one_step_gets_one_length() -> None:
    assert choose_edges([37], n_rows=8, n_repeats=1) == (37,)
    assert choose_edges([37, 5], n_rows=8, n_repeats=1) == (37,)


def test_no_length_is_above_the_longest_row_and_the_others_are_multiples() -> None:
    edges = choose_edges(SST2, n_rows=32, n_repeats=10_000)

    assert edges[-1] == max(SST2)
    assert all(edge % GRID == 0 for edge in edges[:-1])
    assert all(padded_length(length, edges) - length < GRID for length in SST2)


def test_graphs_that_another_input_multiplies_are_fewer() -> None:
    alone = choose_edges(SST2, n_rows=32, n_repeats=10)

    assert len(choose_edges(SST2, n_rows=32, n_repeats=10, n_parallel=4)) < len(alone)


def test_a_length_above_all_edges_stays() -> None:
    assert [padded_length(length, (8, 16)) for length in (1, 8, 9, 16, 17)] == [8, 8, 16, 16, 17]
