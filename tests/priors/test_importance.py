"""Which hyperparameters mattered: what is planted is found, and noise is not told as knowledge."""

import numpy as np
import pytest

from tests import nouns
from xautolm_hpc.priors import hyperparameter_importance
from xautolm_hpc.records import Experience


def trials(n: int, *, seed: int, noise: float = 0.01, effect: float = 0.5) -> list[Experience]:
    """Build trials whose F1 follows from the learning rate and, half as strongly, from the method."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(n):
        rate, method, batch = float(rng.uniform()), str(rng.choice(["full", "lora"])), int(rng.integers(1, 64))
        f1 = 0.2 + effect * rate + effect / 2 * (method == "lora") + noise * float(rng.normal())
        params = {"learning_rate": rate, "batch_size": batch, "epochs": 3}
        outcome = nouns.succeeded(f1=min(max(f1, 0.0), 1.0))
        found.append(nouns.experience(outcome, given=nouns.pipeline(method=method, params=params), trial=number))
    return found


def test_what_f1_follows_from_comes_first() -> None:
    found = hyperparameter_importance(trials(120, seed=1))

    assert found is not None
    assert list(found["shares"])[:2] == ["learning_rate", "method"]
    assert found["shares"]["batch_size"] < 0.1
    assert sum(found["shares"].values()) == pytest.approx(1.0)
    assert found["trials"] == 120
    assert 0.7 < found["r2"] <= 1.0


def test_what_never_differs_has_no_share() -> None:
    found = hyperparameter_importance(trials(60, seed=2))

    assert found is not None
    assert set(found["shares"]) == {"learning_rate", "method", "batch_size"}


def test_of_noise_nothing_is_said() -> None:
    assert hyperparameter_importance(trials(60, seed=3, effect=0.0, noise=0.1)) is None


@pytest.mark.parametrize("n", [0, 1, 19])
def test_of_few_trials_nothing_is_said(n: int) -> None:
    assert hyperparameter_importance(trials(n, seed=4)) is None


def test_where_f1_never_differs_nothing_is_said() -> None:
    assert hyperparameter_importance(trials(40, seed=5, effect=0.0, noise=0.0)) is None
