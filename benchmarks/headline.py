"""GPU seconds to 95 % of the best F1, whole searches: the reference's way compared with the product.

*Reference*: XAutoLM's value lists, its prior, its rules for failure, and its recipe (``reference_worker.py``), each
trial in a process of its own. *Product*: the default space, the prior ``evidence``, captured steps in half precision,
trials that are evaluated at their limit, foreseen times, warm workers. Both know the seed store without the task's own
trials, have the same rows, models, number of trials, limit of a trial and one slot of one GPU.

A sitting runs both sides of one task and seed on this machine. Each side that has ended is a line of the state file;
the same command goes on with what is missing. The target of a task is 95 % of the best validation F1 of all its trials,
of both sides. A search pays until the end of the first trial that reaches it; one that misses it pays all, and is
marked. It pays what its jobs held: start-up and the profile of the task count, failures of the machine do not.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from benchmarks.goals import Goal, run
from benchmarks.training import SHARED
from xautolm_hpc.durable import read_json
from xautolm_hpc.failures import FailureOrigin
from xautolm_hpc.jobdir import Claim, End, claim_path
from xautolm_hpc.node import list_gpus, node_name
from xautolm_hpc.records import from_json
from xautolm_hpc.run.attempt_end import read_end
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.history import Attempt, charged_s, read_history
from xautolm_hpc.store import ExperienceStore

ROOT_DIR = Path(__file__).resolve().parents[1]
SEED_STORE = ROOT_DIR / "store" / "seed" / "store"
KINDS = {"sst2": "text-classification", "liar": "text-classification", "squad": "question-answering"}
"""Task -> its kind."""

ENDED = (0, 3)
"""Exit statuses of a search whose budget ended, with a success or without one."""

FAILED_ALIKE = "trials failed alike"
"""Words of a search that ended because its trials fail for one reason."""

SIDES = ("reference", "product")
TARGET_SHARE, LEAST_RATIO = 0.95, 5.0
GENERATION = 4
"""Trials of a generation, which the product's jobs run one after the other."""

WORKER = """#!/bin/sh
case " $* " in *" trial "*) exec {python} {root}/benchmarks/reference_worker.py "$@";; esac
exec {python} "$@"
"""

SEARCH = """name = "{side}"
profile = "{side}-profile.toml"
[task]
name = "{task}"
kind = "{kind}"
[data]
path = {data}
train_rows = {rows}
validation_rows = {validation_rows}
test_rows = 10
[space]
preset = "{preset}"
models = {models}
[search]
objectives = ["f1"]
population = {population}
seed = {seed}
[budget]
trials = {trials}
[trial]
time_limit_min = {time_limit_min}
max_attempts = 2
step = "{step}"
at_limit = "{at_limit}"
foretell = "{foretell}"
[prior]
kind = "{prior}"
[store]
path = "{side}-store"
also_read = ["past"]
"""

PROFILE = """site = "headline"
cluster = "headline"
{worker}
[job]
n_cpus = {n_cpus}
n_gpus = {n_gpus}
memory_gb = 12.0
trials_per_job = {trials_per_job}
[local]
n_slots = 1
poll_s = 0.1
"""

OF_SIDE: Mapping[str, Mapping[str, Any]] = {
    "reference": {
        "preset": "xautolm", "prior": "xautolm", "step": "eager", "at_limit": "fail", "foretell": "off",
        "trials_per_job": 1, "worker": 'worker_python = "./reference-worker"',
    },
    "product": {
        "preset": "default", "prior": "evidence", "step": "graph", "at_limit": "evaluate", "foretell": "obey",
        "trials_per_job": GENERATION, "worker": "",
    },
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """What both sides of a sitting have in common; results of other settings are not compared.

    Attributes:
        task: The task.
        seed: Seed of the search.
        trials: Trials of a search.
        rows: Rows to train on; ``validation_rows``: rows to validate on.
        models: Models of the space.
        time_limit_min: Limit of a trial, minutes.
    """

    task: str
    seed: int
    trials: int
    rows: int
    validation_rows: int
    models: tuple[str, ...]
    time_limit_min: float


@dataclass(frozen=True, kw_only=True)
class Side:
    """One search that has ended: a line of the state file.

    Attributes:
        sitting: Its settings.
        side: One of :data:`SIDES`.
        machine: Id of the GPU, or name of the machine without one; ``device`` is the GPU's name.
        ended_at: When it ended, UTC.
        profile_s: Seconds of the profile job.
        f1: Validation F1 of each trial in the order of their ends; ``None`` for a failure.
        gpu_s: Seconds that each trial held its GPU, in the same order.
        failures: Kind of failure of each trial, ``None`` for a success.
    """

    sitting: Sitting
    side: str
    machine: str
    device: str
    ended_at: str
    profile_s: float
    f1: tuple[float | None, ...]
    gpu_s: tuple[float, ...]
    failures: tuple[str | None, ...]

    @property
    def all_s(self) -> float:
        """Seconds of the whole search."""
        return self.profile_s + sum(self.gpu_s)

    def reached(self, target: float) -> int | None:
        """Count the trials until the first one that reaches an F1; ``None`` if none does."""
        return next((n for n, f1 in enumerate(self.f1, start=1) if f1 is not None and f1 >= target), None)

    def cost_s(self, target: float) -> float:
        """Compute the seconds until an F1 is reached, or of the whole search if it is missed."""
        n_trials = self.reached(target)
        return self.all_s if n_trials is None else self.profile_s + list(accumulate(self.gpu_s))[n_trials - 1]


def targets(sides: Sequence[Side]) -> dict[str, float]:
    """Compute the target of each task: a share of the best F1 of all its trials."""
    best: dict[str, float] = {}
    for side in sides:
        best[side.sitting.task] = max([best.get(side.sitting.task, 0.0), *(f1 for f1 in side.f1 if f1 is not None)])
    return {task: TARGET_SHARE * f1 for task, f1 in best.items()}


def pairs(sides: Sequence[Side], sittings: Sequence[Sitting]) -> list[tuple[Side, Side]]:
    """List the complete sittings in their order: of each the first pair of both sides on one machine."""
    found = []
    for sitting in sittings:
        here = [side for side in sides if side.sitting == sitting]
        by_machine = {
            machine: {side.side: side for side in reversed(here) if side.machine == machine}
            for machine in dict.fromkeys(side.machine for side in here)
        }
        complete = [known for known in by_machine.values() if len(known) == len(SIDES)]
        found += [(known["reference"], known["product"]) for known in complete[:1]]
    return found


def missing(sides: Sequence[Side], sitting: Sitting, *, machine: str) -> list[str]:
    """List the sides of a sitting that this machine has to run: none if any machine has run both."""
    if pairs(sides, [sitting]):
        return []
    here = {side.side for side in sides if side.sitting == sitting and side.machine == machine}
    return [name for name in SIDES if name not in here]


def compare(done: Sequence[tuple[Side, Side]], *, n_sittings: int) -> list[Goal]:
    """Compare both sides; the goal is missed as long as sittings are."""
    wanted = targets([side for pair in done for side in pair])
    costs = [[side.cost_s(wanted[side.sitting.task]) for side in pair] for pair in done]
    theirs, ours = (sum(cost[number] for cost in costs) for number in range(2))
    goals = [Goal("sittings", len(done), n_sittings, "", at_most=False)]
    for task, target in wanted.items():
        of_task = [cost for cost, pair in zip(costs, done, strict=True) if pair[0].sitting.task == task]
        goals.append(Goal(f"{task}: target F1", target, None, ""))
        ratio = sum(cost[0] for cost in of_task) / sum(cost[1] for cost in of_task)
        goals.append(Goal(f"{task}: GPU seconds, reference / product", ratio, None, "times"))
    if done:
        goals += [Goal("GPU seconds, reference", theirs, None, "s"), Goal("GPU seconds, product", ours, None, "s")]
        goals.append(Goal("GPU seconds, reference / product", theirs / ours, LEAST_RATIO, "times", at_most=False))
    return goals


def table(done: Sequence[tuple[Side, Side]]) -> str:
    """Write a line for each search."""
    wanted = targets([side for pair in done for side in pair])
    lines = [
        "| task | seed | search | trials | failed | best F1 | target | trials to it | GPU s to it | GPU s in all |",
        "|---" * 10 + "|",
    ]
    for side in (side for pair in done for side in pair):
        target = wanted[side.sitting.task]
        n_trials = side.reached(target)
        best = max((f1 for f1 in side.f1 if f1 is not None), default=0.0)
        n_failed = sum(kind is not None for kind in side.failures)
        cells = [
            side.sitting.task, side.sitting.seed, side.side, len(side.f1), n_failed, f"{best:.3f}", f"{target:.3f}",
            "missed" if n_trials is None else n_trials, f"{side.cost_s(target):.1f}", f"{side.all_s:.1f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def write_search(folder: Path, sitting: Sitting, *, side: str, data: Path) -> Path:
    """Write the files of one search into a folder, and return the search file."""
    folder.mkdir(parents=True, exist_ok=True)
    worker_path = folder / "reference-worker"
    worker_path.write_text(WORKER.format(python=sys.executable, root=ROOT_DIR))
    worker_path.chmod(0o755)
    if not (folder / "past").exists():
        others = [e for e in ExperienceStore(SEED_STORE).read() if e.task.name != sitting.task]
        ExperienceStore(folder / "past").append(others)
    n_gpus = min(1, len(list_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"))[0]))
    values = {
        **asdict(sitting), **OF_SIDE[side], "side": side, "kind": KINDS[sitting.task], "n_gpus": n_gpus,
        "n_cpus": min(8, os.cpu_count() or 1), "population": min(GENERATION, sitting.trials),
        "data": json.dumps(str(data.resolve())), "models": json.dumps(list(sitting.models)),
    }  # fmt: skip
    (folder / f"{side}-profile.toml").write_text(PROFILE.format(**values))
    path = folder / f"{side}.toml"
    path.write_text(SEARCH.format(**values))
    return path


def search(folder: Path, sitting: Sitting, *, side: str) -> Side:
    """Run one search to its end, or go on with it.

    Raises:
        RuntimeError: It failed.
    """
    path = write_search(folder, sitting, side=side, data=SHARED / "datasets" / sitting.task)
    command = [sys.executable, "-m", "xautolm_hpc", "run", str(path), "--runs-dir", str(folder / "runs")]
    ended = subprocess.run(
        [*command, "--quiet", "--skip-job-check", "--final", "none"],
        cwd=ROOT_DIR, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if ended.returncode not in ENDED and FAILED_ALIKE not in ended.stdout:
        raise RuntimeError(f"{' '.join(command)} ended with status {ended.returncode}:\n{ended.stdout}")
    return read_side(RunDir((folder / "runs" / side).resolve()), sitting, side=side)


def _since_claimed(attempt: Attempt) -> End | None:
    """Return how an attempt ended, begun when its job claimed it: the imports of its worker count."""
    end = attempt.end
    if end is None or end.job_started_at is not None:
        return end
    claim = from_json(Claim, read_json(claim_path(attempt.path, end.restart)), where=str(attempt.path))
    return replace(end, started_at=claim.claimed_at)


def read_side(run_dir: RunDir, sitting: Sitting, *, side: str) -> Side:
    """Read from a run what its trials came to and what they cost."""
    attempts = [attempt for trial in read_history(run_dir).trials.values() for attempt in trial.attempts]
    ends = [end for end in map(_since_claimed, attempts) if end is not None]
    held = [
        (end.outcome, seconds)
        for end, seconds in sorted(zip(ends, charged_s(ends), strict=True), key=lambda pair: pair[0].ended_at)
        if end.outcome.origin is not FailureOrigin.INFRASTRUCTURE
    ]
    profiled = [read_end(path) for path in run_dir.profile_attempt_dirs()]
    gpus = list_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"))[0]
    return Side(
        sitting=sitting,
        side=side,
        machine=gpus[0].uuid if gpus else node_name(),
        device=gpus[0].name if gpus else "CPU",
        ended_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        profile_s=sum(end.ended_at - end.started_at for end in profiled if end is not None and end.started_at),
        f1=tuple(outcome.metrics.get("f1") if outcome.succeeded else None for outcome, _ in held),
        gpu_s=tuple(seconds for _, seconds in held),
        failures=tuple(outcome.kind for outcome, _ in held),
    )


def read_state(path: Path) -> list[Side]:
    """Read the searches that have ended; a last line that was torn off does not count."""
    sides = []
    for line in path.read_text().splitlines(keepends=True) if path.exists() else []:
        if line.endswith("\n"):
            read = json.loads(line)
            sitting = Sitting(**{**read["sitting"], "models": tuple(read["sitting"]["models"])})
            lists = {name: tuple(read[name]) for name in ("f1", "gpu_s", "failures")}
            sides.append(Side(**{**read, **lists, "sitting": sitting}))
    return sides


def add_to_state(path: Path, side: Side) -> None:
    """Append a search that has ended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = path.read_text() if path.exists() else ""
    whole = kept[: kept.rfind("\n") + 1]  # without a line that was torn off
    aside = path.with_suffix(".part")
    aside.write_text(whole + json.dumps(asdict(side)) + "\n")
    aside.replace(path)


def sit(state_path: Path, sittings: Sequence[Sitting], *, folder: Path, most: int) -> None:
    """Run what is missing of at most so many sittings, one after the other."""
    gpus = list_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"))[0]
    machine = gpus[0].uuid if gpus else node_name()
    todo = [each for each in sittings if missing(read_state(state_path), each, machine=machine)]
    for sitting in todo[:most]:
        for side in missing(read_state(state_path), sitting, machine=machine):
            began_s = time.monotonic()
            settings = json.dumps([asdict(sitting), machine], sort_keys=True)
            name = f"{sitting.task}-{sitting.seed}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"
            ended = search(folder / name, sitting, side=side)
            add_to_state(state_path, ended)
            print(f"{sitting.task}, seed {sitting.seed}, {side}: {time.monotonic() - began_s:.0f} s", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run sittings and compare what has been run; 1 with ``--check`` if the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("state", type=Path, help="file of the searches that have ended (JSON Lines)")
    parser.add_argument("--folder", type=Path, default=ROOT_DIR / "build" / "headline", help="of the runs")
    parser.add_argument("--sittings", type=int, default=99, metavar="N", help="run at most N sittings; 0 only compares")
    parser.add_argument("--tasks", nargs="+", choices=list(KINDS), default=list(KINDS), metavar="TASK")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--validation-rows", type=int, default=800)
    models = ["minilm-l1", "minilm-l2", "minilm-l3", "minilm-l6"]
    parser.add_argument("--models", nargs="+", default=models, metavar="MODEL")
    parser.add_argument("--time-limit-min", type=float, default=1.0, help="of a trial")
    parser.add_argument("--json", metavar="FILE", help="also write the values to FILE")
    parser.add_argument("--check", action="store_true", help="exit 1 when a goal is missed")
    given = parser.parse_args(argv)
    sittings = [
        Sitting(
            task=task, seed=seed, trials=given.trials, rows=given.rows, validation_rows=given.validation_rows,
            models=tuple(given.models), time_limit_min=given.time_limit_min,
        )
        for seed in given.seeds
        for task in given.tasks
    ]  # fmt: skip
    sit(given.state, sittings, folder=given.folder, most=given.sittings)
    done = pairs(read_state(given.state), sittings)
    print(table(done))
    options = [*(["--json", given.json] if given.json else []), *(["--check"] if given.check else [])]
    return run(compare(done, n_sittings=len(sittings)), options)


if __name__ == "__main__":
    sys.exit(main())
