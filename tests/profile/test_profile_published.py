"""The meta-features equal those published with XAutoLM, on the data sets both have."""

from pathlib import Path

import pytest

from tests.profile.profile_samples import NODE, make_request
from xautolm_hpc.profile import profile_task
from xautolm_hpc.records import Task

MELD = (
    11098.0,
    7.0,
    2.2308658494209044,
    0.02640115336096594,
    0.46675076590376646,
    0.056563706563706566,
    40.49594521535412,
    31.847622649718772,
    0.7864397899680011,
    0.4905389571635628,
)
LIAR_2_TO_6 = (6.0, 2.53531547347489, 0.08287053106560222, 0.20496355432141616, 0.40431837425910244)


def profile(shared_dir: Path, name: str, out_dir: Path) -> Task:
    return profile_task(make_request(shared_dir / "datasets" / name, out_dir), system=NODE).task


def test_meld_has_the_published_features(shared_dir: Path, tmp_path: Path) -> None:
    task = profile(shared_dir, "meld", tmp_path)

    assert task.features[:9] == pytest.approx(MELD[:9], rel=1e-6)
    assert task.features[9] == pytest.approx(MELD[9], abs=0.01)  # another list of stop words


def test_liar_has_the_published_class_features(shared_dir: Path, tmp_path: Path) -> None:
    """The rows are all 10,269 of train and 1,284 of validation; the published ones lack 29 of them."""
    task = profile(shared_dir, "liar", tmp_path)

    assert task.features[0] == 10_269 + 1_284
    assert task.features[1:6] == pytest.approx(LIAR_2_TO_6, abs=0.002)
    assert task.features[9] == pytest.approx(0.2245, abs=0.01)


def test_the_agencys_news_are_profiled_without_a_validation_file(shared_dir: Path, tmp_path: Path) -> None:
    task = profile(shared_dir, "ag_news", tmp_path)

    assert (task.n_train, task.n_dev, task.n_validation, task.n_test) == (7_680, 1_920, 2_400, 2_000)
