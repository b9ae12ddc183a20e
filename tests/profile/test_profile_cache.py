"""The same data and request are measured once; a damaged entry is measured anew."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import xautolm_hpc
from tests.profile.profile_samples import NODE, make_request, sample_rows, write_jsonl
from xautolm_hpc.jobdir import ProfileRequest
from xautolm_hpc.profile import profile_task
from xautolm_hpc.profile.cache import NOT_IN_KEY, cache_key
from xautolm_hpc.records import canonical_json, to_json

ELSEWHERE = dataclasses.replace(NODE, n_cpu_cores=64)
RESULT = "profile-result.json"


@pytest.fixture
def first(tmp_path: Path) -> ProfileRequest:
    """A request that was profiled."""
    request = make_request(write_jsonl(tmp_path / "rows.jsonl", sample_rows(100)), tmp_path)
    profile_task(request, system=NODE)
    return request


@pytest.fixture
def second(first: ProfileRequest, tmp_path: Path) -> ProfileRequest:
    """The same request of another run."""
    return dataclasses.replace(first, data_dir=str(tmp_path / "other" / "data"))


def entry_of(request: ProfileRequest) -> Path:
    (entry_dir,) = Path(request.cache_dir).iterdir()
    return entry_dir


def contents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_a_hit_copies_split_and_features_and_measures_the_node(first: ProfileRequest, second: ProfileRequest) -> None:
    again = profile_task(second, system=ELSEWHERE)

    assert again.from_cache
    assert again.system == ELSEWHERE
    assert contents(second.data_dir) == contents(first.data_dir)


def test_a_hit_computes_nothing(second: ProfileRequest) -> None:
    path = entry_of(second) / RESULT
    marked = json.loads(path.read_text()) | {"majority_f1": 0.125}
    path.write_text(json.dumps(marked))

    again = profile_task(second, system=NODE)

    assert again.majority_f1 == 0.125


@pytest.mark.parametrize(
    "change",
    [{"split_seed": 14}, {"train_rows": 40}, {"test_rows": 5}, {"task_name": "other"}],
    ids=lambda change: next(iter(change)),
)
def test_another_request_is_measured_anew(second: ProfileRequest, change: dict[str, object]) -> None:
    other = dataclasses.replace(second, **change)  # type: ignore[arg-type]

    result = profile_task(other, system=NODE)

    assert not result.from_cache


def test_another_byte_of_the_data_is_measured_anew(second: ProfileRequest) -> None:
    path = Path(second.data_path)
    path.write_bytes(path.read_bytes() + b"\n")

    result = profile_task(second, system=NODE)

    assert not result.from_cache


def truncate_split(entry_dir: Path) -> None:
    path = entry_dir / "dev.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-1])


def remove_split(entry_dir: Path) -> None:
    (entry_dir / "test.jsonl.gz").unlink()


def tear_result(entry_dir: Path) -> None:
    path = entry_dir / RESULT
    path.write_bytes(path.read_bytes()[:100])


def write_foreign_result(entry_dir: Path) -> None:
    (entry_dir / RESULT).write_text('{"task": null}')


@pytest.mark.parametrize("damage", [truncate_split, remove_split, tear_result, write_foreign_result])
def test_a_damaged_entry_is_ignored_and_rewritten(
    second: ProfileRequest, first: ProfileRequest, damage: Callable[[Path], None]
) -> None:
    whole = contents(str(entry_of(second)))
    damage(entry_of(second))

    result = profile_task(second, system=NODE)

    assert not result.from_cache
    assert contents(str(entry_of(second))) == whole
    assert contents(second.data_dir) == contents(first.data_dir)


def test_a_cache_that_cannot_be_written_does_not_stop_the_profile(tmp_path: Path) -> None:
    request = make_request(write_jsonl(tmp_path / "rows.jsonl", sample_rows(100)), tmp_path)
    Path(request.cache_dir).write_text("a file where the folder should be")
    logged: list[str] = []

    result = profile_task(request, system=NODE, log=logged.append)

    assert not result.from_cache
    assert any("could not be cached" in line for line in logged)


def test_a_profile_of_another_content_version_is_not_handed_to_a_new_run(
    second: ProfileRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xautolm_hpc.profile.cache.CONTENT_VERSION", 1)

    assert not profile_task(second, system=NODE).from_cache


def test_the_cache_of_the_first_version_which_ordered_numbers_as_text_is_not_read(tmp_path: Path) -> None:
    request = make_request(write_jsonl(tmp_path / "rows.jsonl", sample_rows(100)), tmp_path)
    asked = {name: value for name, value in to_json(request).items() if name not in (*NOT_IN_KEY, "delimiter")}
    content = Path(request.data_path).read_bytes()
    inputs = {"train": [["rows.jsonl", hashlib.sha256(content).hexdigest()]]}
    old = canonical_json([inputs, asked, "text-classification/1", xautolm_hpc.__version__])

    paths = {"train": (Path(request.data_path),)}
    key = cache_key(request, paths, contents={Path(request.data_path): content})

    assert key != hashlib.sha256(old.encode()).hexdigest()
