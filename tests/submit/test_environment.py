"""Which variables reach a job."""

import subprocess
import sys
from pathlib import Path

import pytest

from xautolm_hpc.errors import ConfigError
from xautolm_hpc.redact import is_secret
from xautolm_hpc.submit.environment import node_environment, worker_environment, wrapper_environment

MINE = {
    "PATH": "/usr/bin",
    "HOME": "/home/me",
    "HF_TOKEN": "planted",
    "EDITOR": "vi",
    "http_proxy": "http://user:password@proxy",
    "SLURM_JOB_ID": "5",
    "CUDA_VISIBLE_DEVICES": "0",
}


def test_a_worker_gets_the_basics_offline_switches_and_its_threads() -> None:
    found = worker_environment(n_threads=3, hf_home="/cache", environ=MINE)

    assert found == {
        "PATH": "/usr/bin",
        "HOME": "/home/me",
        "LC_ALL": "C.UTF-8",
        "HF_HOME": "/cache",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "OMP_NUM_THREADS": "3",
        "MKL_NUM_THREADS": "3",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONNOUSERSITE": "1",
        "PYTHONHASHSEED": "0",
    }


def test_the_profile_takes_over_and_sets_more() -> None:
    settings = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "true"}

    found = worker_environment(n_threads=3, allow=("EDITOR", "ABSENT"), settings=settings, environ=MINE)

    assert (found["EDITOR"], found["OMP_NUM_THREADS"], found["TOKENIZERS_PARALLELISM"]) == ("vi", "1", "true")
    assert "ABSENT" not in found


@pytest.mark.parametrize("name", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "wandb_api_key", "DB_PASSWORD", "SLURM_JWT"])
def test_a_secret_can_be_neither_taken_over_nor_set(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}', which looks like a secret"):
        worker_environment(n_threads=1, allow=[name], environ=MINE)
    with pytest.raises(ConfigError, match=f"'{name}', which looks like a secret"):
        worker_environment(n_threads=1, settings={name: "x"}, environ=MINE)


def test_the_wrapper_keeps_its_gpus_and_no_secret() -> None:
    found = wrapper_environment(MINE)

    assert found["CUDA_VISIBLE_DEVICES"] == "0"
    assert not any(is_secret(name) for name in found)
    assert not {"http_proxy", "SLURM_JOB_ID", "EDITOR"} & set(found)


def test_the_wrappers_interpreter_finds_this_package(tmp_path: Path) -> None:
    code = "import xautolm_hpc; print(xautolm_hpc.__file__)"

    printed = subprocess.run(
        [sys.executable, "-c", code],
        env=wrapper_environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert Path(printed.strip()).parents[1] == Path(__file__).resolve().parents[2]


def test_the_node_adds_its_job_and_gpus() -> None:
    assert node_environment({**MINE, "SLURM_JWT": "planted"}) == {"SLURM_JOB_ID": "5", "CUDA_VISIBLE_DEVICES": "0"}
