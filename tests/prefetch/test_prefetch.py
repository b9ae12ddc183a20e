"""Models are downloaded to the offline cache pinned, verified, and whole or not at all; from a hub on loopback."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

from tests.prefetch.hub import COMMIT, Hub
from xautolm_hpc.catalogue import Model, cached_snapshot

REPO = "someone/tiny"
SEARCH = """
name = "hub"
[task]
name = "tickets"
[data]
path = "rows.jsonl"
[space]
models = ["someone/tiny"]
[budget]
generations = 1
[[model]]
repo = "someone/tiny"
"""
MODEL = Model(
    id=REPO,
    family="encoder",
    n_parameters=100000,
    n_layers=1,
    hidden_size=16,
    vocab_size=200,
    context_length=64,
    licence="MIT",
)


@pytest.fixture(scope="session")
def _repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a repository as they are: weights in two formats, a tokeniser, and files that nobody needs."""
    folder = tmp_path_factory.mktemp("hub")
    config = BertConfig(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=60_000
    )
    BertForSequenceClassification(config).save_pretrained(folder / REPO)
    (folder / REPO / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "word"]))
    (folder / REPO / "pytorch_model.bin").write_bytes(b"pickled")
    (folder / REPO / "README.md").write_text("# tiny")
    (folder / REPO / "onnx").mkdir()
    (folder / REPO / "onnx" / "model.onnx").write_bytes(b"graph")
    return folder


@pytest.fixture
def search_path(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": "no"}\n')
    path = tmp_path / "search.toml"
    path.write_text(SEARCH)
    return path


def command(
    name: str, *words: str, hf_home: Path, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command as a person would, without this process's settings of the hub's client."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-m", "xautolm_hpc", name, *words],
        env={**clean, "HF_HOME": str(hf_home), **(environ or {})},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def prefetch(search_path: Path, hub: Hub, *words: str, hf_home: Path) -> subprocess.CompletedProcess[str]:
    return command("prefetch", str(search_path), *words, hf_home=hf_home, environ={"HF_ENDPOINT": hub.address})


def test_a_model_is_fetched_pinned_and_verified_and_then_loads_offline(
    hub: Hub, search_path: Path, tmp_path: Path
) -> None:
    hf_home = tmp_path / "cache"

    fetched = prefetch(search_path, hub, "--json", hf_home=hf_home)

    assert fetched.returncode == 0, fetched.stderr
    assert re.search(rf"someone/tiny +{COMMIT}", fetched.stderr)
    (plan,) = json.loads(fetched.stdout)["models"]
    assert (plan["commit"], sorted(file["name"] for file in plan["files"])) == (
        COMMIT,
        ["config.json", "model.safetensors", "vocab.txt"],
    )
    snapshot = cached_snapshot(MODEL, hf_home)
    assert snapshot is not None
    assert snapshot.name == COMMIT
    assert AutoModelForSequenceClassification.from_pretrained(snapshot, local_files_only=True).config.hidden_size == 64
    assert not hub.downloads("pytorch_model.bin")


def test_a_dry_run_shows_the_sizes_and_fetches_nothing(hub: Hub, search_path: Path, tmp_path: Path) -> None:
    shown = prefetch(search_path, hub, "--dry-run", hf_home=tmp_path / "cache")

    assert shown.returncode == 0, shown.stderr
    assert "someone/tiny" in shown.stdout
    assert not any("/resolve/" in path for _, path, _ in hub.requests)


def test_a_search_with_packaged_models_and_a_file_has_nothing_to_fetch(
    hub: Hub, search_path: Path, tmp_path: Path
) -> None:
    text = re.sub(r"models = .*", 'models = ["minilm-l3"]', SEARCH.partition("[[model]]")[0])
    search_path.write_text(text)

    for words in ((), ("--dry-run",)):
        shown = prefetch(search_path, hub, *words, hf_home=tmp_path / "cache")
        assert shown.returncode == 0, shown.stderr
        assert "nothing to fetch" in shown.stdout
        assert "verified" not in shown.stdout
    assert not hub.requests


def test_an_interrupted_prefetch_goes_on_and_ends_with_the_same_cache(
    hub: Hub, search_path: Path, tmp_path: Path
) -> None:
    hub.cut_at, hub.cuts_left = 12_000_000, 20  # the hub's client keeps what came in pieces of 10 MiB
    hf_home = tmp_path / "cache"

    interrupted = prefetch(search_path, hub, hf_home=hf_home)
    refused = command("run", str(search_path), "--runs-dir", str(tmp_path / "runs"), hf_home=hf_home)
    hub.cuts_left = 0
    repeated = prefetch(search_path, hub, hf_home=hf_home)
    whole = prefetch(search_path, hub, hf_home=tmp_path / "other")

    assert interrupted.returncode == 1, interrupted.stderr
    assert "Give the same command again" in interrupted.stderr
    assert refused.returncode == 2
    assert repeated.returncode == whole.returncode == 0, repeated.stderr
    assert contents(hf_home) == contents(tmp_path / "other")
    assert f"bytes={10 * 2**20}-" in hub.downloads("model.safetensors")


def contents(hf_home: Path) -> dict[str, bytes]:
    """Read what a worker reads of a cache."""
    repo = hf_home / "hub" / "models--someone--tiny"
    return {
        str(path.relative_to(repo)): path.read_bytes()
        for folder in ("refs", "snapshots")
        for path in sorted((repo / folder).rglob("*"))
        if path.is_file()
    }


def test_a_file_damaged_in_the_cache_is_fetched_again(hub: Hub, search_path: Path, tmp_path: Path) -> None:
    hf_home = tmp_path / "cache"
    prefetch(search_path, hub, hf_home=hf_home)
    before = contents(hf_home)
    weights = hf_home / "hub" / "models--someone--tiny" / "snapshots" / COMMIT / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.resolve().write_bytes(raw)

    repeated = prefetch(search_path, hub, hf_home=hf_home)

    assert repeated.returncode == 0, repeated.stderr
    assert contents(hf_home) == before


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.txt"])
def test_a_file_that_comes_damaged_is_refused_and_no_search_sees_the_model(
    hub: Hub, search_path: Path, tmp_path: Path, name: str
) -> None:
    hub.damaged.add(name)

    refused = prefetch(search_path, hub, hf_home=tmp_path / "cache")

    assert refused.returncode == 1
    assert f"someone/tiny: {name} does not have the checksum that the hub says" in refused.stderr
    assert cached_snapshot(MODEL, tmp_path / "cache") is None


def test_a_search_whose_model_is_not_in_the_cache_stops_with_the_command(search_path: Path, tmp_path: Path) -> None:
    refused = command("run", str(search_path), "--runs-dir", str(tmp_path / "runs"), hf_home=tmp_path / "cache")

    assert refused.returncode == 2
    assert f"xautolm-hpc prefetch {search_path}" in refused.stderr
    assert not (tmp_path / "runs").exists()


def test_pickled_weights_are_refused(hub: Hub, search_path: Path, tmp_path: Path) -> None:
    (hub.folder / REPO / "model.safetensors").unlink()

    refused = prefetch(search_path, hub, hf_home=tmp_path / "cache")

    assert refused.returncode == 2
    assert "no weights as safetensors" in refused.stderr
    assert not hub.downloads("pytorch_model.bin")


def test_a_gated_model_an_unknown_one_and_an_unknown_revision_are_explained(
    hub: Hub, search_path: Path, tmp_path: Path
) -> None:
    hub.gated.add(REPO)
    gated = prefetch(search_path, hub, hf_home=tmp_path)
    hub.gated.clear()
    search_path.write_text(f"{SEARCH}revision = 'deadbeef'\n")
    revision = prefetch(search_path, hub, hf_home=tmp_path)
    search_path.write_text(SEARCH.replace("someone/tiny", "someone/else"))
    unknown = prefetch(search_path, hub, hf_home=tmp_path)

    assert [each.returncode for each in (gated, revision, unknown)] == [2, 2, 2]
    assert "Ask for it on its page, huggingface.co/someone/tiny, then set HF_TOKEN" in gated.stderr
    assert "someone/tiny at revision deadbeef: the hub has no such revision" in revision.stderr
    assert "someone/else: the hub has no such repository" in unknown.stderr


def test_every_gated_model_is_named_before_anything_is_downloaded(hub: Hub, search_path: Path, tmp_path: Path) -> None:
    shutil.copytree(hub.folder / REPO, hub.folder / "someone" / "small")
    hub.locked |= {REPO, "someone/small"}
    text = SEARCH.replace('["someone/tiny"]', '["someone/tiny", "someone/small"]')
    search_path.write_text(f"{text}[[model]]\nrepo = 'someone/small'\n")

    refused = prefetch(search_path, hub, hf_home=tmp_path / "cache")
    environ = {"HF_ENDPOINT": hub.address, "HF_TOKEN": "granted"}
    fetched = command("prefetch", str(search_path), hf_home=tmp_path / "cache", environ=environ)

    access = "its owner grants access on request. Ask for it on its page, huggingface.co/"
    assert refused.returncode == 2
    assert [line.strip() for line in refused.stderr.splitlines()] == [
        f"xautolm-hpc: {REPO}: {access}{REPO}, then set HF_TOKEN",
        f"someone/small: {access}someone/small, then set HF_TOKEN",
    ]
    assert fetched.returncode == 0, fetched.stderr


def test_what_a_table_says_of_a_model_is_held_against_what_was_fetched(
    hub: Hub, search_path: Path, tmp_path: Path
) -> None:
    search_path.write_text(f"{SEARCH}n_layers = 99\n")

    fetched = prefetch(search_path, hub, hf_home=tmp_path / "cache")

    assert fetched.returncode == 2
    assert "model 'someone/tiny': its [[model]] table says n_layers = 99, which is 1 in" in fetched.stderr


def test_no_hub_and_offline_mode_are_reported(search_path: Path, tmp_path: Path) -> None:
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    absent = command("prefetch", str(search_path), hf_home=tmp_path, environ=nobody)
    offline = command("prefetch", str(search_path), hf_home=tmp_path, environ={"HF_HUB_OFFLINE": "1"})

    assert (absent.returncode, "the hub does not answer" in absent.stderr) == (1, True), absent.stderr
    assert (offline.returncode, "unset HF_HUB_OFFLINE" in offline.stderr) == (2, True), offline.stderr


def test_only_a_token_that_the_person_gives_reaches_the_hub(hub: Hub, search_path: Path, tmp_path: Path) -> None:
    environ = {"HF_ENDPOINT": hub.address, "HF_TOKEN": "hf_planted"}
    prefetch(search_path, hub, hf_home=tmp_path)
    assert hub.tokens == set()

    command("prefetch", str(search_path), hf_home=tmp_path, environ=environ)

    assert hub.tokens == {"Bearer hf_planted"}


def test_a_fetched_model_whose_weights_do_not_fit_is_refused_by_name(
    hub: Hub, search_path: Path, tmp_path: Path
) -> None:
    config = hub.folder / REPO / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 1', '"num_hidden_layers": 2'))

    fetched = prefetch(search_path, hub, hf_home=tmp_path / "cache")

    assert fetched.returncode == 2, fetched.stderr
    said = " ".join(fetched.stderr.split())
    assert "model someone/tiny: its weights in `someone/tiny` do not fit its architecture" in said
    assert "bert.encoder.layer.1.attention.self.query.weight is missing" in said


def test_a_worker_that_does_not_start_here_leaves_the_check_to_the_first_job(
    hub: Hub, search_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "site.toml").write_text('worker_python = "/nowhere/python"\n')
    search_path.write_text('profile = "site.toml"\n' + SEARCH)

    fetched = prefetch(search_path, hub, hf_home=tmp_path / "cache")

    assert fetched.returncode == 0, fetched.stderr
    assert "`/nowhere/python` did not check the models" in " ".join(fetched.stderr.split())
