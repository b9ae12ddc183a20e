"""What is fuzzed: files that commands read, how one of them is changed, and what must hold afterwards."""

import gzip
import json
import random
import re
import shutil
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from tests.fakes import JOB, SYSTEM
from tests.fuzz.mutations import mutate_bytes, mutate_json, replace_by_other
from tests.fuzz.toml import mutate_toml
from tests.fuzz.workplace import (
    NAME,
    STATUSES,
    Said,
    call,
    call_checked,
    copy_project,
    fake_jobs,
    inside,
    outside_of,
    write_runs,
    write_search,
)  # fmt: skip
from xautolm_hpc import cli
from xautolm_hpc.config import load_profile
from xautolm_hpc.driver.inputs import Inputs
from xautolm_hpc.driver.launchers import slurm_launcher
from xautolm_hpc.jobdir import ProfileRequest
from xautolm_hpc.launcher import Resources, Submission
from xautolm_hpc.profile.task import profile_task

ROOT = Path(__file__).resolve().parents[2]
READS = (["status", NAME, "--once", "--json"], ["report", NAME, "--json"], ["report", NAME], ["priors", NAME],
         ["logs", NAME, "6"], ["logs", NAME, "profile"], ["status", NAME], ["runs"])  # fmt: skip
RUN, CANCEL = ["run", "search.toml", "--quiet"], ["cancel", NAME]


class FoundError(AssertionError):
    """A fault that a case found."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a target.

    Attributes:
        target: Name of the target.
        number: From it and the seed everything in the case follows.
        seed: Seed of the whole fuzzing.
    """

    target: str
    number: int
    seed: int

    def rng(self) -> random.Random:
        """Return the case's own stream of random numbers."""
        return random.Random(f"{self.seed}/{self.target}/{self.number}")


@dataclass(frozen=True, slots=True)
class Templates:
    """Valid examples, made once and copied for every case.

    Attributes:
        folder: Where they lie.
    """

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "Templates":
        """Make runs, a project and data."""
        write_runs(folder)
        write_search(folder / "project")
        write_data(folder / "data")
        return cls(folder)

    def copy(self, name: str, to: Path) -> Path:
        """Copy one of them, links as links."""
        return copy_project(self.folder / name, to)


def write_data(folder: Path) -> None:
    """Write the same rows in every format."""
    folder.mkdir()
    rows = [{"text": f"words {n} of a text, not long", "label": "no" if n % 3 else "yes"} for n in range(40)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(lines)
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    for name, delimiter in (("rows.csv", ","), ("rows.tsv", "\t")):
        cells = [delimiter.join(("text", "label"))] + [f'"{row["text"]}"{delimiter}{row["label"]}' for row in rows]
        (folder / name).write_text("\n".join(cells) + "\n")
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, folder / "rows.parquet")
    with pa.OSFile(str(folder / "rows.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def fuzz_run(case: Case, templates: Templates, folder: Path) -> None:
    """Change one file of a run that ended or was left, then give a command; at last the run's own."""
    rng = case.rng()
    places = [(name, path) for name in ("ended", "left") for path in _files_of(templates.folder / name)]
    kinds = sorted({_kind(path) for _, path in places})
    kind = kinds[case.number % len(kinds)]  # each kind of file as often
    name, relative = rng.choice([(name, path) for name, path in places if _kind(path) == kind])
    project = templates.copy(name, folder / "project")
    path = project / relative
    done = change_file(path, rng, outside=project / "outside")
    before = outside_of(project)
    label = f"{case}: {path.relative_to(project)}: {done}"
    commands = [rng.choice(READS), *([RUN] if rng.random() < 0.7 else [rng.choice([CANCEL, rng.choice(READS)])])]
    with fake_jobs(), inside(project):
        for command in commands:
            check_said(call_or_found(partial(cli.main, command), label=label), label=f"{label}: {command}")
    if outside_of(project) != before:
        raise FoundError(f"{label}: something outside the run has changed")


def _files_of(project: Path) -> list[Path]:
    """List the files of a project's run, relative to it; not those of the fake that runs its jobs."""
    found = [path for path in sorted((project / "runs" / NAME).rglob("*")) if path.is_file() and path.name != JOB]
    return [path.relative_to(project) for path in found]


def _kind(path: Path) -> str:
    return re.sub(r"[0-9]+", "N", path.name)


def change_file(path: Path, rng: random.Random, *, outside: Path) -> str:
    """Change a file in some way; returns what was done."""
    kind = rng.random()
    is_json = path.suffix in (".json", ".jsonl") or path.name.startswith("lease-")
    if kind < 0.15:
        return replace_by_other(path, rng, outside=outside)
    if path.suffix == ".toml" and kind < 0.85:
        return mutate_toml(path, rng)
    if is_json and kind < 0.7:
        return mutate_json(path, rng)
    return mutate_bytes(path, rng)


def call_or_found(command: Callable[[], int], *, label: str) -> Said:
    """Run a command; whatever it raises is a fault."""
    try:
        return call(command)
    except BaseException as error:
        raise FoundError(f"{label}: {describe(error)}") from error


def describe(error: BaseException) -> str:
    """Write an error with the last places of the package that it came through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "xautolm_hpc" in f.filename]
    places = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-4:]))
    return f"{type(error).__name__}: {str(error)[:200]} at {places}"


def check_said(said: Said, *, label: str) -> None:
    """Check that a command ended as documented, and said why where it did not do what it was asked."""
    if said.status not in STATUSES:
        raise FoundError(f"{label}: status {said.status}")
    if "Traceback" in said.complaint:
        raise FoundError(f"{label}: {said.complaint}")
    if said.status in (1, 2) and "xautolm-hpc: " not in said.complaint:
        raise FoundError(f"{label}: status {said.status} without a message")


def fuzz_search(case: Case, templates: Templates, folder: Path) -> None:
    """Change a search file or the profile that it names, and read it as every command does."""
    rng = case.rng()
    project = templates.copy("project", folder / "project")
    examples = [*sorted((ROOT / "examples").glob("*.toml")), project / "search.toml"]
    path = project / "search.toml"
    path.write_text(rng.choice(examples).read_text())
    changed = rng.choice([path, path, project / "site.toml"])
    label = f"{case}: {changed.name}: {change_file(changed, rng, outside=project / 'outside')}"
    before = outside_of(project)

    def check() -> None:
        inputs = Inputs.load(path, (), environ={})
        inputs.refused()
        inputs.check()
        inputs.run_config()

    with inside(project):
        said = call_or_found_checked(check, label=label)
    check_said(said, label=label)
    if outside_of(project) != before:
        raise FoundError(f"{label}: something has changed")


def call_or_found_checked(check: Callable[[], object], *, label: str) -> Said:
    """Run a check of input; what is no error of ours is a fault."""
    try:
        return call_checked(check)
    except BaseException as error:
        raise FoundError(f"{label}: {describe(error)}") from error


def fuzz_profile(case: Case, templates: Templates, folder: Path) -> None:
    """Change a cluster profile, read it and write the batch script of a submission."""
    del templates
    rng = case.rng()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "site.toml"
    path.write_text(rng.choice(sorted((ROOT / "slurm").glob("*.toml"))).read_text())
    (folder / "outside").mkdir()
    label = f"{case}: {change_file(path, rng, outside=folder / 'outside')}"
    one = Resources(n_nodes=1, n_cpus=1, n_gpus=0, memory_bytes=2**30, time_limit_s=600.0)
    submission = Submission(name="xa-0-g000-s0", folder=folder / "s", attempt_dirs=(folder / "a",), resources=one)

    def check() -> None:
        profile = load_profile(path)
        if profile.launcher == "slurm":
            slurm_launcher(profile, since=0.0).sbatch_text(submission)

    check_said(call_or_found_checked(check, label=label), label=label)


def fuzz_data(case: Case, templates: Templates, folder: Path) -> None:
    """Change a file of data and profile it."""
    rng = case.rng()
    data = templates.copy("data", folder / "data")
    path = rng.choice(sorted(data.iterdir()))
    (folder / "outside").mkdir()
    kind = rng.random()
    if kind < 0.1:
        done = replace_by_other(path, rng, outside=folder / "outside")
    elif path.suffix == ".jsonl" and kind < 0.5:
        done = mutate_json(path, rng)
    else:
        done = mutate_bytes(path, rng)
    label = f"{case}: {path.name}: {done}"
    request = ProfileRequest(
        task_name="fuzz", task_kind="text-classification", data_path=str(path), text_column="text",
        label_column="label", train_rows=None, validation_rows=None, test_rows=None, split_seed=13,
        data_dir=str(folder / "split"), cache_dir=str(folder / "cache"),
    )  # fmt: skip

    def check() -> None:
        profile_task(request, system=SYSTEM)

    check_said(call_or_found_checked(check, label=label), label=label)


TARGETS: Mapping[str, Callable[[Case, Templates, Path], None]] = {
    "run": fuzz_run,
    "search": fuzz_search,
    "profile": fuzz_profile,
    "data": fuzz_data,
}
"""Name of a target -> what runs one case of it."""


def run_case(case: Case, templates: Templates, folder: Path) -> None:
    """Run a case in a folder of its own, which goes if it finds nothing.

    Raises:
        FoundError: It found a fault; the folder stays.
    """
    place = folder / f"{case.target}-{case.number}"
    TARGETS[case.target](case, templates, place)
    shutil.rmtree(place)
