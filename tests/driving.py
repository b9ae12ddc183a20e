"""Whole searches with the fake launcher: set-up, a made-up profile job, and what two runs are compared by."""

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.fakes import SYSTEM, FakeClock, FakeLauncher, end_with, stub_end
from tests.nouns import succeeded, task
from xautolm_hpc.config import ClusterProfile, SearchFile, load_search
from xautolm_hpc.driver.inputs import Inputs
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.durable import read_json, write_bytes, write_json
from xautolm_hpc.jobdir import PROFILE, PROFILE_RESULT, PROTOCOL, End, ProfileRequest, ProfileResult
from xautolm_hpc.launcher import Launcher
from xautolm_hpc.records import from_json, to_json
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.resume import open_run
from xautolm_hpc.store import ExperienceStore
from xautolm_hpc.view import RunFacts, RunView

SEARCH = """
name = "fake"
[task]
name = "made-up"
[data]
path = "rows.jsonl"
[space]
models = ["minilm-l1", "minilm-l2", "minilm-l3", "minilm-l6"]
methods = ["full", "partial", "lora", "head"]
[search]
objectives = ["f1"]
population = 4
seed = 7
[budget]
generations = 3
[store]
path = "store"
"""

TASK = task(
    name="made-up",
    n_train=400,
    n_dev=100,
    n_validation=100,
    n_test=100,
    labels=("no", "yes"),
    features=(600.0, 2.0, 1.0, 0.5, 0.5, 1.0, 80.0, 20.0, 0.25, 0.6),
    length_tokens=(15.0, 30.0, 60.0),
)


class Notes:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.views: list[RunView] = []
        self.lines: list[str] = []

    def show(self, view: RunView) -> None:
        self.views.append(view)

    def log(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.lines.append(f"warning: {text}")


def end_attempt(attempt_dir: Path, *, trial_end: Callable[[Path], End | None] = stub_end) -> End | None:
    """End the profile job as the real one does, and a trial's attempt as a pure function of its pipeline."""
    if not (attempt_dir / PROFILE).exists():
        return trial_end(attempt_dir)
    request = from_json(ProfileRequest, read_json(attempt_dir / PROFILE), where=PROFILE)
    data_dir = Path(request.data_dir)
    data_dir.mkdir(exist_ok=True)
    for split in ("train", "dev", "validation", "test"):
        (data_dir / f"{split}.jsonl.gz").write_bytes(gzip.compress(b"{}\n", mtime=0))
    result = ProfileResult(task=TASK, system=SYSTEM, sha256={}, from_cache=False, majority_f1=0.33, protocol=PROTOCOL)
    write_json(attempt_dir / PROFILE_RESULT, to_json(result))
    return end_with(succeeded(None))


def write_search(folder: Path, *, text: str = SEARCH) -> SearchFile:
    """Write a search file with its data beside it, and load it."""
    write_bytes(folder / "rows.jsonl", b'{"text": "a", "label": "no"}\n', flush=False)
    write_bytes(folder / "search.toml", text.encode(), flush=False)
    return load_search(folder / "search.toml")


def make_setup(
    folder: Path,
    *,
    launcher: Launcher | None = None,
    text: str = SEARCH,
    n_interrupts: Callable[[], int] = lambda: 0,
    lease_stale_s: float = 1e-9,
    final: tuple[int, ...] | None = None,
) -> Setup:
    """Set a search up in a folder, as the command does; a dead driver of this very process is replaced at once."""
    run_dir = RunDir(folder / "runs" / write_search(folder, text=text).name)
    inputs = Inputs.load(folder / "search.toml", (), environ={}).for_run(run_dir)
    run_dir.create()
    clock, config = FakeClock(), inputs.run_config()
    run_id, changes = open_run(run_dir, config, source=folder / "search.toml", clock=clock, lease_stale_s=lease_stale_s)
    return Setup(
        search=inputs.search,
        profile=ClusterProfile.model_validate({"patience": {"lease_stale_s": lease_stale_s}}),
        space=inputs.space,
        run_dir=run_dir,
        run_id=run_id,
        config=config,
        changes=tuple(changes),
        launcher=launcher or FakeLauncher(end_attempt),
        clock=clock,
        watcher=Notes(),
        worker=("python",),
        worker_environment={},
        hf_home=None,
        redact=lambda text: text,
        n_interrupts=n_interrupts,
        final=final,
    )


def search_in(folder: Path, **options: object) -> RunFacts:
    """Run a search in a folder to its end."""
    return run_search(make_setup(folder, **options))  # type: ignore[arg-type]


def projection(folder: Path, store: str = "store") -> list[tuple[object, ...]]:
    """List what must be equal between two runs: everything of a record but time, energy and the run's name."""
    return sorted(
        (
            e.provenance.generation,
            e.provenance.trial,
            e.provenance.attempt,
            e.pipeline.canonical(),
            e.outcome.status,
            e.outcome.kind,
            json.dumps(dict(e.outcome.metrics), sort_keys=True),
        )
        for e in ExperienceStore(folder / store).read()
    )


def ledger_of(folder: Path, name: str = "fake") -> list[Mapping[str, object]]:
    """Read a run's ledger."""
    lines = (folder / "runs" / name / "ledger.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
