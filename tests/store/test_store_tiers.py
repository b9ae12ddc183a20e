"""However many commits there are, the number of segments stays small."""

import json
import math
from pathlib import Path

import pytest

from tests.store.samples import as_text, by_id, experiences
from xautolm_hpc.store import ExperienceStore, trust
from xautolm_hpc.store.tiers import MAX_PER_TIER, tier, tier_mates
from xautolm_hpc.store.trust import CheckedSegments


@pytest.mark.parametrize(
    ("n", "expected"), [(0, 0), (1, 0), (32, 0), (255, 0), (256, 1), (2047, 1), (2048, 2), (16384, 3)]
)
def test_a_tier_is_eight_times_the_one_below(n: int, expected: int) -> None:
    assert tier(n) == expected


def test_a_full_tier_is_merged_and_may_fill_the_next() -> None:
    small = {f"s{i}": 32 for i in range(7)}
    middle = {f"m{i}": 256 for i in range(7)}

    assert tier_mates({**dict(list(small.items())[:6]), **middle}, 32) == []
    assert tier_mates({**small, **dict(list(middle.items())[:6])}, 32) == list(small)
    assert tier_mates({**small, **middle, "large": 16384}, 32) == [*small, *middle]


def test_many_tiny_segments_are_merged_once() -> None:
    assert tier_mates({f"s{i}": 1 for i in range(7)}, 1) == [f"s{i}" for i in range(7)]


@pytest.mark.parametrize("n_commits", [2, 7, 8, 9, 63, 64, 512, 700, 3125])
def test_commits_of_32_stay_within_the_bound(n_commits: int) -> None:
    sizes: dict[int, int] = {}
    rewritten = 0
    for number in range(n_commits):
        merged = tier_mates(sizes, 32)
        sizes[number] = 32 + sum(sizes.pop(name) for name in merged)
        rewritten += sizes[number]

    n = 32 * n_commits
    assert sum(sizes.values()) == n
    assert len(sizes) <= 8 * math.log(n / 32, 8)
    assert all(sum(tier(s) == t for s in sizes.values()) <= MAX_PER_TIER for t in range(6))
    assert rewritten <= n * (1 + math.log(n_commits, 8))


def test_segments_on_disk_are_merged_and_the_old_ones_removed(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path)
    records = experiences(20)

    n_files = []
    for i in range(0, 20, 2):
        store.append(records[i : i + 2])
        n_files.append(len(list(tmp_path.glob("seg-*.h5"))))

    assert n_files == [1, 2, 3, 4, 5, 6, 7, 1, 2, 3]
    assert as_text(store.read()) == as_text(by_id(records))
    assert store.verify() == []


def test_compacting_leaves_one_segment_and_changes_nothing_else(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path)
    for i in range(0, 10, 2):
        store.append(experiences(2, start=i))
    before, digest = store.read(), store.digest()

    name = store.compact()
    again = store.compact()

    assert [path.name for path in tmp_path.glob("seg-*.h5")] == [name] == [again]
    assert name == f"seg-{digest}.h5"
    assert (store.read(), store.digest()) == (before, digest)


def test_a_segment_that_another_process_writes_while_one_compacts_stays_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, others, read_memory = ExperienceStore(tmp_path), list[str](), CheckedSegments.refresh
    for i in range(0, 12, 2):
        store.append(experiences(2, start=i))

    def refresh_after_another_commit(checked: CheckedSegments) -> None:
        if len(list(tmp_path.glob("seg-*.h5"))) == 1 and not others:  # all is merged, the old ones are removed
            others.append("soon")
            ExperienceStore(tmp_path).append(experiences(2, start=50))
            others.extend(path.name for path in tmp_path.glob("seg-*.h5"))
        read_memory(checked)

    monkeypatch.setattr(trust, "SPARE_LINES", 0)
    monkeypatch.setattr(CheckedSegments, "refresh", refresh_after_another_commit)
    name = store.compact()

    remembered = {json.loads(line)[0] for line in (tmp_path / ".checked").read_text().splitlines()}
    assert remembered == {name, *others[1:]}
    assert len(remembered) == 2


def test_compacting_an_empty_store_makes_nothing(tmp_path: Path) -> None:
    assert ExperienceStore(tmp_path / "none").compact() is None
    assert not (tmp_path / "none").exists()
