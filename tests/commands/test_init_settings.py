"""Which settings ``init`` chooses for a task and a machine."""

import json
import sys
from pathlib import Path

import pytest

from tests import nouns
from xautolm_hpc.catalogue import Model, can_learn, load_catalogue, load_lists
from xautolm_hpc.commands.init_settings import EffortName, SearchSettings, choose_settings
from xautolm_hpc.config import ClusterProfile
from xautolm_hpc.records import System, Task

GIB = 2**30
CPU = nouns.system(n_cpu_cores=2, n_gpus=0, gpu_name=None, gpu_memory_bytes=None, gpu_capability=None)
ELSEWHERE = ClusterProfile(launcher="slurm", worker_python="/elsewhere/bin/python")
"""A profile whose worker's packages cannot be seen from here."""


def a_task(n_train: int, *, words: float = 20.0, kind: str = "text-classification") -> Task:
    fifth = max(1, n_train // 4)
    return nouns.task(
        kind=kind,
        n_train=n_train,
        n_dev=fifth,
        n_validation=fifth,
        n_test=fifth,
        length_tokens=(words / 2, words, words),
    )


def a_gpu(memory_gib: int) -> System:
    return nouns.system(n_gpus=1, gpu_name="X", gpu_memory_bytes=memory_gib * GIB, gpu_capability=8.0)


def choose(
    task: Task,
    folder: Path,
    *,
    effort: EffortName = "quick",
    system: System = CPU,
    profile: ClusterProfile | None = None,
) -> SearchSettings:
    return choose_settings(task, effort, profile=profile or ClusterProfile(), system=system, hf_home=folder)


def cache(folder: Path, model_id: str) -> None:
    """Put the files of a model into an offline cache, as far as a look at it goes."""
    repo = folder / "hub" / f"models--{(load_catalogue()[model_id].hub_repo or '').replace('/', '--')}"
    snapshot = repo / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps({}))
    (snapshot / "model.safetensors").write_bytes(b"")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0" * 40)


@pytest.mark.parametrize(
    ("words", "lengths"),
    [(10.0, (32,)), (40.0, (32, 64)), (80.0, (64, 128)), (300.0, (256, 512)), (2000.0, (256, 512))],
)
def test_lengths_hold_nineteen_of_twenty_texts_if_a_model_can(
    words: float, lengths: tuple[int, ...], tmp_path: Path
) -> None:
    assert choose(a_task(200, words=words), tmp_path).max_lengths == lengths


def test_few_rows_get_more_epochs_than_many(tmp_path: Path) -> None:
    few, more = (choose(a_task(n_rows, words=10.0), tmp_path) for n_rows in (100, 800))

    assert few.epochs == (6, 20)
    assert more.epochs[1] < few.epochs[1]
    assert (few.batch_sizes, choose(a_task(50_000), tmp_path).batch_sizes) == ((8, 16), (16, 32, 64))


def test_least_steps_are_no_more_than_the_shortest_training_has(tmp_path: Path) -> None:
    for n_rows in (4, 30, 155, 1_500):
        settings = choose(a_task(n_rows), tmp_path)
        assert settings.min_steps <= settings.epochs[0] * n_rows // settings.batch_sizes[-1]


def test_rows_are_drawn_where_no_model_could_learn_from_all_in_time(tmp_path: Path) -> None:
    quick = choose(a_task(100_000, words=100.0), tmp_path)
    thorough = choose(a_task(100_000, words=100.0), tmp_path, effort="thorough")

    assert 500 <= quick.rows["train"] < thorough.rows["train"] < 125_000
    assert (quick.rows["validation"], quick.rows["test"]) == (2_000, 2_000)
    assert choose(a_task(200), tmp_path).rows == {}


def test_without_a_gpu_the_deepest_cuts_of_the_packaged_model_are_searched(tmp_path: Path) -> None:
    settings = choose(a_task(200), tmp_path)

    assert settings.models == ("minilm-l3", "minilm-l6")
    assert not settings.is_to_fetch


def test_a_fetched_model_is_searched_beside_it(tmp_path: Path) -> None:
    cache(tmp_path, "distilbert-base-uncased")

    settings = choose(a_task(200), tmp_path)

    assert settings.models == ("minilm-l3", "minilm-l6", "distilbert-base-uncased")
    assert settings.learning_rates["full"] == (5e-6, 2e-3), "small models learn faster, larger ones more slowly"


@pytest.mark.parametrize(
    ("memory_gib", "name"), [(16, "small"), (24, "medium"), (48, "medium"), (80, "large"), (141, "large")]
)
def test_a_gpu_gets_the_list_for_its_memory_to_be_fetched(memory_gib: int, name: str, tmp_path: Path) -> None:
    settings = choose(a_task(2_000), tmp_path, effort="normal", system=a_gpu(memory_gib), profile=ELSEWHERE)

    assert settings.models == load_lists()[name]
    assert settings.is_to_fetch


@pytest.mark.parametrize(("effort", "n_models"), [("quick", 4), ("normal", 14)])
def test_a_model_has_three_trials_on_average_and_what_is_fetched_is_counted(
    effort: EffortName, n_models: int, tmp_path: Path
) -> None:
    settings = choose(a_task(2_000), tmp_path, effort=effort, system=a_gpu(80), profile=ELSEWHERE)

    models = [load_catalogue()[name] for name in settings.models]
    n_bytes = sum(model.n_parameters * (2 if model.family == "decoder" else 4) for model in models)
    assert settings.models == load_lists()["large"][:n_models]
    assert settings.fetch_gb == pytest.approx(n_bytes / 1e9)


def test_what_is_fetched_of_the_list_is_enough(tmp_path: Path) -> None:
    cache(tmp_path, "roberta-large")

    settings = choose(a_task(2_000), tmp_path, system=a_gpu(80), profile=ELSEWHERE)

    assert (settings.models, settings.is_to_fetch) == (("roberta-large",), False)


def test_where_nothing_of_the_list_is_at_hand_the_file_names_the_list(tmp_path: Path) -> None:
    settings = choose(a_task(2_000), tmp_path, system=a_gpu(80))

    assert (settings.larger, settings.is_to_fetch) == ("large", False)
    assert set(settings.models) >= {"minilm-l6"}


@pytest.mark.parametrize("kind", ["question-answering", "text-generation"])
def test_models_can_learn_the_kind_of_task(kind: str, tmp_path: Path) -> None:
    for system in (CPU, a_gpu(24)):
        settings = choose(a_task(200, kind=kind), tmp_path, system=system)
        found: list[Model] = [load_catalogue()[name] for name in settings.models]
        assert found
        assert all(can_learn(model, kind) for model in found)


def test_a_search_on_a_cluster_has_more_time(tmp_path: Path) -> None:
    here = choose(a_task(200), tmp_path)
    there = choose(a_task(200), tmp_path, profile=ELSEWHERE)

    assert (here.minutes, there.minutes) == (5, 60)
    assert here.time_limit_min < there.time_limit_min <= 15
    assert here.trials == there.trials


def test_the_interpreter_of_the_driver_may_be_named_as_the_worker(tmp_path: Path) -> None:
    settings = choose(a_task(200), tmp_path, profile=ClusterProfile(worker_python=sys.executable))

    assert settings.models == ("minilm-l3", "minilm-l6")
