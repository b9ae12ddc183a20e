"""Measures what the image costs a trial: the same attempt run by the wrapper inside and outside, in turn.

Needs root on Debian, for the ordinary user and the network namespace of containers/dev. One attempt's files are
copied for each run, so both sides train the same pipeline on the same split with the same seed.
"""

import shutil
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.goals import Goal, run
from containers.dev.offline import ROOT_DIR, OfflinePlace
from containers.image import build
from tests.container.searching import PYTHON, search, write_one_trial, write_profile
from xautolm_hpc.catalogue import load_catalogue
from xautolm_hpc.container import ContainerSection, find_package, make_container, with_binds
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.image import Container
from xautolm_hpc.jobdir import (
    COMMAND,
    OUTCOME,
    PIPELINE,
    PROFILE_RESULT,
    TASK,
    Command,
    End,
    Exit,
    ProfileResult,
    TrialInput,
    exit_path,
    write_members,
)
from xautolm_hpc.records import from_json, to_json
from xautolm_hpc.run.folder import RunDir

N_PAIRS = 3
EPOCHS = 16
CALL = "import sys; from xautolm_hpc.submit.wrapper import run_member; run_member(sys.argv[1], 0, job_id='1')"


def measure() -> list[Goal]:
    """Run pairs of attempts and compute medians, also of the differences and ratios within pairs."""
    image = build("cpu", mirror=None, sign_key=None)
    with OfflinePlace("overhead") as place:
        first = _first_attempt(place)
        data_dir = str(place.folder / "first" / "runs" / "one" / "data")
        models = [load_catalogue()["minilm-l3"]]
        section = ContainerSection(image=str(image))
        made = make_container(section, models, hf_home=place.folder, n_gpus=0, find_package=find_package)
        container = with_binds(made, reads=[data_dir], writes=[])
        pairs = []
        for number in range(N_PAIRS):
            sides = {"out": None, "in": container}
            order = sorted(sides, reverse=bool(number % 2))  # other load on the machine slows both alike
            done = {s: _attempt(place, first, folder=place.folder / f"{s}-{number}", container=sides[s]) for s in order}
            pairs.append((done["out"], done["in"]))
    median = statistics.median
    return [
        Goal("start-up outside", median(out[0] for out, _ in pairs), None, "s"),
        Goal("start-up inside", median(inside[0] for _, inside in pairs), None, "s"),
        Goal("start-up, inside less outside", median(inside[0] - out[0] for out, inside in pairs), 2.0, "s"),
        Goal("steps a second outside", median(out[1] for out, _ in pairs), None, "1/s"),
        Goal("steps a second inside", median(inside[1] for _, inside in pairs), None, "1/s"),
        Goal(
            "steps a second, inside over outside",
            median(inside[1] / out[1] for out, inside in pairs),
            0.97,
            "",
            at_most=False,
        ),
    ]


def _first_attempt(place: OfflinePlace) -> Path:
    """Run a search of one trial on the host; its attempt folder is what every run copies."""
    folder = place.folder / "first"
    write_profile(folder, None, launcher="local")
    search(place, write_one_trial(folder, epochs=EPOCHS), folder)
    return folder / "runs" / "one" / "gen-000" / "trial-000" / "attempt-0"


def _attempt(place: OfflinePlace, first: Path, *, folder: Path, container: Container | None) -> tuple[float, float]:
    """Run one attempt and return its seconds outside training and evaluation, and its steps a second."""
    attempt_dir = folder / "attempt"
    attempt_dir.mkdir(parents=True)
    run_dir = RunDir(first.parents[2])
    result_path = run_dir.profile_attempt_dir(0) / PROFILE_RESULT
    result = from_json(ProfileResult, read_json(result_path), where=PROFILE_RESULT)
    trial_input = TrialInput(task=result.task, data_dir=str(run_dir.data_dir), sha256=result.sha256)
    write_json(attempt_dir / TASK, to_json(trial_input))
    shutil.copy(first / PIPELINE, attempt_dir)
    command = from_json(Command, read_json(first / COMMAND), where=COMMAND)
    argv = command.argv if container is None else ("/opt/worker/bin/python", *command.argv[1:])
    write_json(attempt_dir / COMMAND, to_json(replace(command, argv=argv, container=container)))
    write_members(folder / "submission", [attempt_dir])
    owner = place.folder.stat()
    subprocess.run(["chown", "-R", f"{owner.st_uid}:{owner.st_gid}", str(folder)], check=True)
    done = place.run(
        PYTHON, "-c", CALL, str(folder / "submission" / "members.json"), environ={"PYTHONPATH": str(ROOT_DIR)}
    )
    if not (attempt_dir / OUTCOME).exists():
        raise SystemExit(f"{folder.name}: no outcome\n{done.stderr}\n{(attempt_dir / 'stderr').read_text()[-2000:]}")
    ended = from_json(Exit, read_json(exit_path(attempt_dir, 0)), where="exit")
    outcome = from_json(End, read_json(attempt_dir / OUTCOME), where=OUTCOME).outcome
    worked_s = (outcome.train_s or 0.0) + (outcome.eval_s or 0.0)
    return ended.ended_at - ended.started_at - worked_s, (outcome.n_steps or 0) / (outcome.train_s or 1.0)


if __name__ == "__main__":
    sys.exit(run(measure))
