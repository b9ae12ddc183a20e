"""However large a foreign record is, no process takes much memory: it is refused or cut, with the reason."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.store import hostile
from tests.store.measured import MIB, measured
from tests.store.samples import experience, experiences
from xautolm_hpc.records import to_json
from xautolm_hpc.redact import LONGEST_MESSAGE, cut_message
from xautolm_hpc.store import ExperienceStore

MOST_MIB = 500
LARGE = 300_000_000

READ = """
from pathlib import Path
from xautolm_hpc.store import ExperienceStore
store = ExperienceStore(Path(sys.argv[1]))
print(len(store.read()), len(store.read_table()), store.info()["n_experiences"])
print(*[finding.message for finding in store.findings])
print(*[finding.message for finding in store.verify()])
"""

IMPORT = """
from pathlib import Path
from xautolm_hpc.store import ExperienceStore, read_jsonl
print(ExperienceStore(Path(sys.argv[2])).append(read_jsonl(Path(sys.argv[1]))).n_new)
"""

COMMIT = """
import dataclasses
from pathlib import Path
from tests.store.samples import experience
from xautolm_hpc.store import ExperienceStore, storable
e = experience(1, outcome={"message": sys.argv[2] * int(sys.argv[3])})
store = ExperienceStore(Path(sys.argv[1]))
store.append([storable(e) if sys.argv[4] == "own" else e])
del e
print(len(store.read()[0].outcome.message))
"""

OUTCOME = """
from pathlib import Path
from xautolm_hpc.driver.results import check_end
from xautolm_hpc.gather.traces import read_outcome
print(read_outcome(Path(sys.argv[1]), check_end))
"""


def segment_beside(store: Path, change: hostile.Change) -> None:
    """Write a sound segment, and a copy in which one thing was changed."""
    ExperienceStore(store).append(experiences(3))
    sound = next(store.glob("seg-*.h5"))
    copy = store / f"seg-{0:032d}.h5"
    copy.write_bytes(sound.read_bytes())
    with h5py.File(copy, "r+") as file:
        change(file)


def put_large(file: h5py.File, name: str) -> None:
    """Put 300 million characters in a blob's place; on disk they are next to nothing."""
    del file[name]
    file.create_dataset(name, shape=(LARGE,), dtype=np.uint8, chunks=(MIB,), fillvalue=ord("x"))


def large_message(file: h5py.File) -> None:
    put_large(file, "message")
    ends = file["variable_ends"][...]
    ends[1] = LARGE
    hostile.put(file, "variable_ends", ends)


def large_task(file: h5py.File) -> None:
    put_large(file, "tasks")


def large_mark(file: h5py.File) -> None:
    put_large(file, "marks")


def large_value(file: h5py.File) -> None:
    put_large(file, "values")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (large_message, "a message has 300,000,000 bytes; the limit is 1,572,866"),
        (large_task, "an entry of tasks has more than 2,097,152 bytes"),
        (large_mark, "an entry of marks has more than 262,144 bytes"),
        (large_value, "an entry of values has more than 262,144 bytes"),
    ],
)
def test_a_segment_with_something_large_is_refused_and_the_rest_is_read(
    tmp_path: Path, change: hostile.Change, reason: str
) -> None:
    segment_beside(tmp_path, change)

    ended = measured(READ, tmp_path)

    assert ended.text.startswith("3 3 3\n")
    assert ended.text.count(reason) == 2
    assert ended.peak_mib < MOST_MIB


@pytest.mark.parametrize(
    ("begin", "piece", "n", "reason"),
    [
        (
            '{"id": "',
            "x" * 1000,
            LARGE // 1000,
            "line 1: it has 16,777,216 characters or more, which no experience has",
        ),
        ("", '{"":', 4_000_000, "line 1: it holds 4,000,000 lists and objects; expected at most 50,000"),
        ("[1", ",1.5", 4_000_000, "line 1: no JSON"),
    ],
    ids=["message", "nested", "numbers"],
)
def test_a_large_line_of_json_is_refused(tmp_path: Path, begin: str, piece: str, n: int, reason: str) -> None:
    write_repeated(tmp_path / "large.jsonl", begin=begin, piece=piece, n=n)

    ended = measured(IMPORT, tmp_path / "large.jsonl", tmp_path / "store")

    assert reason in ended.text
    assert ended.peak_mib < MOST_MIB


def write_repeated(path: Path, *, begin: str, piece: str, n: int) -> None:
    with path.open("w") as file:
        file.write(begin)
        file.writelines(piece for _ in range(n))


def test_a_name_of_three_megabytes_is_refused_with_its_beginning(tmp_path: Path) -> None:
    plain = to_json(experience(1))
    plain["pipeline"]["params"]["x" * 3_000_000] = 1
    (tmp_path / "large.jsonl").write_text(json.dumps(plain))

    ended = measured(IMPORT, tmp_path / "large.jsonl", tmp_path / "store")

    assert "line 1: params: a name is 'xxx" in ended.text
    assert "expected a text of 1 to 200 characters" in ended.text
    assert len(ended.text) < 1_000
    assert ended.peak_mib < MOST_MIB


@pytest.mark.parametrize("whose", ["own", "foreign"])
def test_a_message_of_300_megabytes_is_cut_when_it_is_written(tmp_path: Path, whose: str) -> None:
    ended = measured(COMMIT, tmp_path, "x", str(LARGE), whose)

    assert 0 < int(ended.text) <= LONGEST_MESSAGE
    assert ended.peak_mib < MOST_MIB
    assert ExperienceStore(tmp_path).verify() == []


def test_an_outcome_file_that_no_worker_writes_is_not_read(tmp_path: Path) -> None:
    write_repeated(tmp_path / "outcome.json", begin='{"message": "', piece="x" * 1000, n=LARGE // 1000)

    ended = measured(OUTCOME, tmp_path)

    assert "has 300,000,013 bytes; expected at most 16,777,216" in ended.text
    assert ended.peak_mib < MOST_MIB


def test_a_long_message_keeps_its_beginning_and_end() -> None:
    text = "first line\n" + "x" * 100_000 + "\nlast line"

    cut = cut_message(text)

    assert (cut[:10], cut[-9:]) == ("first line", "last line")
    assert f"... {len(text) - 2 * 8142:,} characters left out ..." in cut
    assert len(cut) <= LONGEST_MESSAGE
    assert cut_message(cut) == cut
    assert cut_message("short") == "short"
