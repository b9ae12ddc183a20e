"""``models``: every model whole, what fits the profile's GPU with which methods, what is at hand, what is gated."""

import json
from pathlib import Path
from typing import Any

import pytest

from xautolm_hpc import cli
from xautolm_hpc.catalogue import load_catalogue, load_lists


def listed(
    folder: Path, capsys: pytest.CaptureFixture[str], *, profile: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """List the models for a profile as JSON: id -> what is said of it."""
    monkeypatch.setenv("HF_HOME", str(folder / "elsewhere"))
    (folder / "site.toml").write_text(profile)
    assert cli.main(["models", str(folder / "site.toml"), "--json"]) == 0
    return {row["id"]: row for row in json.loads(capsys.readouterr().out)}


def card(memory_gb: int | None, *, n_gpus: int = 1) -> str:
    given = "" if memory_gb is None else f"gpu_memory_gb = {memory_gb}\n"
    return f'hf_home = "cache"\n[job]\nn_gpus = {n_gpus}\n[system]\n{given}'


def test_a_larger_gpu_fits_more_models_with_more_methods(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = (listed(tmp_path, capsys, profile=card(memory), monkeypatch=monkeypatch) for memory in (8, 80))

    every = ["full", "partial", "lora", "dora", "ia3", "bitfit", "head"]
    assert small["bert-base-uncased"]["fits"] == large["bert-base-uncased"]["fits"] == every
    assert "lora" in large["Qwen/Qwen3-8B-Base"]["fits"]
    assert {"full", "bitfit", "lora"}.isdisjoint(small["Qwen/Qwen3-8B-Base"]["fits"])
    assert "lora with nf4" in small["Qwen/Qwen3-8B-Base"]["fits"]
    assert large["google-t5/t5-small"]["fits"] == [method for method in every if method != "bitfit"]
    assert all(set(small[name]["fits"]) - {"lora with nf4"} <= set(large[name]["fits"]) for name in small)
    assert not small["mistralai/Mixtral-8x7B-Instruct-v0.1"]["fits"]


def test_two_gpus_fit_what_one_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (listed(tmp_path, capsys, profile=card(12, n_gpus=n), monkeypatch=monkeypatch) for n in (1, 2))

    assert "full" not in one["gpt2-large"]["fits"]
    assert "full" in two["gpt2-large"]["fits"]


def test_without_the_memory_of_the_gpu_it_is_unknown_what_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = listed(tmp_path, capsys, profile=card(None), monkeypatch=monkeypatch)
    assert cli.main(["models", str(tmp_path / "site.toml")]) == 0

    assert {row["fits"] for row in rows.values()} == {None}
    assert "Fits with: unknown; name a profile that says gpu_memory_gb in [system]" in capsys.readouterr().out


def test_a_model_is_at_hand_when_the_profiles_cache_or_a_package_has_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = tmp_path / "cache" / "hub" / "models--openai-community--gpt2"
    (repo / "snapshots" / "a1").mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("a1")
    for name in ("config.json", "model.safetensors"):
        (repo / "snapshots" / "a1" / name).write_text("{}")

    rows = listed(tmp_path, capsys, profile=card(24), monkeypatch=monkeypatch)

    at_hand = [name for name, row in rows.items() if row["in_cache"]]
    assert at_hand == ["minilm-l1", "minilm-l2", "minilm-l3", "minilm-l6", "gpt2"]


def test_each_model_is_said_with_its_lists_and_whether_it_is_gated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = listed(tmp_path, capsys, profile=card(24), monkeypatch=monkeypatch)

    assert list(rows) == list(load_catalogue())
    for name, ids in load_lists().items():
        assert {model for model, row in rows.items() if name in row["lists"]} == set(ids)
    assert rows["meta-llama/Llama-3.1-8B"]["gated"]
    assert not rows["Qwen/Qwen3-8B-Base"]["gated"]


def test_the_table_says_what_its_columns_stand_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    listed(tmp_path, capsys, profile=card(24), monkeypatch=monkeypatch)

    assert cli.main(["models", str(tmp_path / "site.toml")]) == 0

    lines = capsys.readouterr().out.splitlines()
    llama = next(line for line in lines if line.startswith("meta-llama/Llama-3.2-1B "))
    assert "llama3.2, gated" in llama
    assert f"At hand: whole in the offline cache {tmp_path / 'cache'}, or installed here" in lines
    assert (
        "Fits with: methods that train in 24 GiB on a GPU, texts of 256 tokens, a sample at a time if need be" in lines
    )


@pytest.mark.parametrize("command", [["models"], ["doctor"], ["init", "rows.csv", "--cluster"]])
def test_a_search_file_in_the_place_of_a_profile_is_called_so_once(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("text,label\n")
    (tmp_path / "search.toml").write_text('name = "a"\n[task]\nname = "a"\n[data]\npath = "rows.csv"\n')

    status = cli.main([*command, "search.toml"])

    assert status == 2
    assert capsys.readouterr().err == "xautolm-hpc: `search.toml`: this is a search file; expected a cluster profile\n"
