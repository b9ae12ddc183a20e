"""Driver and worker of two versions: each leaves out what the other does not know, or it is refused before a trial."""

import dataclasses
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.driving import SEARCH, Notes, end_attempt, make_setup, search_in
from tests.fakes import FakeLauncher, failed_end, stub_end
from tests.nouns import end, succeeded
from tests.train.tiny import tiny_model, tiny_train_state
from tests.upgrade.old_run import OLD, end_trial, launcher, unpack
from xautolm_hpc.catalogue import Model
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.driver.worker_version import ASKED
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.errors import InputError
from xautolm_hpc.execution import Execution
from xautolm_hpc.jobdir import (
    ADDED,
    COMMAND,
    OUTCOME,
    PIPELINE,
    PROFILE,
    PROFILE_RESULT,
    PROTOCOL,
    PROTOCOL_VARIABLE,
    TASK,
    Command,
    End,
    ProfileRequest,
    ProfileResult,
    TrialInput,
    TrialPlan,
    protocol_of_driver,
    to_wire,
)
from xautolm_hpc.records import Outcome, Pipeline, System, Task
from xautolm_hpc.store import ExperienceStore, copy_store, segment
from xautolm_hpc.train.checkpoint import OTHER_VERSION, load_checkpoint, save_checkpoint
from xautolm_hpc.train.energy import EnergyReader
from xautolm_hpc.train.loop import TrainState
from xautolm_hpc.train.loop import train as run_training

FILES: dict[str, tuple[type, dict[str, type]]] = {
    COMMAND: (Command, {}),
    TASK: (TrialInput, {"task": Task}),
    PIPELINE: (TrialPlan, {"pipeline": Pipeline, "model": Model, "execution": Execution}),
    PROFILE: (ProfileRequest, {}),
    PROFILE_RESULT: (ProfileResult, {"task": Task, "system": System}),
    OUTCOME: (End, {"outcome": Outcome, "system": System}),
}
"""File of an attempt -> the record in it, and the records in that."""

WITH_MIN_STEPS = SEARCH + "[trial]\nearly_stopping_min_steps = 60\n"
AS_BEFORE = SEARCH + "[trial]\nearly_stopping_min_steps = 0\nstep = 'eager'\nat_limit = 'fail'\nforetell = 'off'\n"


def logged(setup: Setup) -> list[str]:
    """Return what the driver logged."""
    assert isinstance(setup.watcher, Notes)
    return setup.watcher.lines


def files_of(run_dir: Path, name: str) -> list[Path]:
    """List the files of one name in a run that protocol 1 wrote, or a later one."""
    return sorted(run_dir.rglob(name))


def keys_in(path: Path, parts: dict[str, type]) -> dict[str, set[str]]:
    """List the keys of a file and of the records in it, by record; ``""`` is the file itself."""
    data = read_json(path)
    return {"": set(data), **{part: set(data[part]) for part in parts if data[part] is not None}}


@pytest.fixture
def old_keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, set[str]]]:
    """List the keys that the first version knows: it wrote every one it had."""
    folder = tmp_path_factory.mktemp("old")
    unpack(folder)
    return {name: keys_in(files_of(folder / "runs" / "old", name)[-1], parts) for name, (_, parts) in FILES.items()}


@pytest.mark.parametrize("name", FILES)
def test_a_field_that_the_first_version_lacks_is_listed_as_added(
    old_keys: dict[str, dict[str, set[str]]], name: str
) -> None:
    whole, parts = FILES[name]

    for part, record_type in {"": whole, **parts}.items():
        fields = {field.name for field in dataclasses.fields(record_type)}
        assert fields - old_keys[name][part] == set(ADDED.get(record_type, {})), f"{name}: {part}"


def test_every_added_field_may_be_left_out() -> None:
    fields = [field for record_type in ADDED for field in dataclasses.fields(record_type)]

    required = {field.name for field in fields if field.default is dataclasses.MISSING}
    assert not required & {name for added in ADDED.values() for name in added}
    assert {since for added in ADDED.values() for since in added.values()} <= set(range(2, PROTOCOL + 1))


def test_a_run_of_the_first_version_goes_on_with_files_that_its_worker_reads(
    tmp_path: Path, old_keys: dict[str, dict[str, set[str]]]
) -> None:
    unpack(tmp_path)
    written: list[dict[str, dict[str, set[str]]]] = []

    def end_of(path: Path) -> End | None:
        written.append({name: keys_in(path / name, FILES[name][1]) for name in (COMMAND, TASK, PIPELINE)})
        return end_attempt(path, trial_end=end_trial)

    search_in(tmp_path, text=OLD, launcher=FakeLauncher(end_of))

    assert len(written) > 10
    assert all(keys == {name: old_keys[name] for name in keys} for keys in written)


def with_protocol(protocol: int | None) -> Callable[[Path], End | None]:
    """End the profile job as a worker of a protocol does; protocol 1 wrote no number."""

    def end_of(path: Path) -> End | None:
        ended = end_attempt(path)
        if (path / PROFILE_RESULT).exists():
            result = read_json(path / PROFILE_RESULT)
            del result["protocol"]
            write_json(path / PROFILE_RESULT, result if protocol is None else result | {"protocol": protocol})
        return ended

    return end_of


def test_a_worker_that_does_not_know_a_setting_is_refused_before_a_trial_is_drawn(tmp_path: Path) -> None:
    inner = FakeLauncher(with_protocol(None))

    with pytest.raises(InputError, match="which does not know trial") as caught:
        search_in(tmp_path, text=WITH_MIN_STEPS, launcher=inner)

    assert str(caught.value) == (
        "the worker `python` has an earlier version of xautolm-hpc, which does not know "
        'trial.early_stopping_min_steps = 60, trial.step = "graph", trial.at_limit = "evaluate", trial.foretell = '
        '"obey": every trial would fail. Install this version there, or set trial.early_stopping_min_steps = 0, '
        'trial.step = "eager", trial.at_limit = "fail", trial.foretell = "off"'
    )
    assert caught.value.exit_status == 2
    assert len(inner.submissions) == 1  # the profile job
    search_in(tmp_path, text=AS_BEFORE, launcher=inner)
    assert len(ExperienceStore(tmp_path / "store").read()) > 0


def test_what_a_search_asks_of_a_worker_is_known_of_every_added_field_of_a_plan() -> None:
    assert set(ASKED) == set(ADDED[TrialPlan])


def test_a_worker_that_cannot_capture_steps_is_refused_before_a_trial_is_drawn(tmp_path: Path) -> None:
    earlier = FakeLauncher(with_protocol(None))
    text = AS_BEFORE.replace("eager", "graph")

    with pytest.raises(InputError, match=r"trial\.step = \"graph\": .* or set trial\.step = \"eager\""):
        search_in(tmp_path, text=text, launcher=earlier)

    assert len(earlier.submissions) == 1  # the profile job


def test_an_earlier_worker_that_knows_every_setting_is_named_and_used(tmp_path: Path) -> None:
    setup = make_setup(tmp_path, text=AS_BEFORE, launcher=FakeLauncher(with_protocol(1)))

    run_search(setup)

    lines = logged(setup)
    assert [line for line in lines if "earlier version" in line] == [
        "the worker `python` has an earlier version of xautolm-hpc: what only later ones measure stays unknown"
    ]


@pytest.mark.parametrize("protocol", [PROTOCOL, PROTOCOL + 1])
def test_a_worker_of_this_version_or_a_later_one_is_used_without_a_word(tmp_path: Path, protocol: int) -> None:
    setup = make_setup(tmp_path, text=WITH_MIN_STEPS, launcher=FakeLauncher(with_protocol(protocol)))

    run_search(setup)

    lines = logged(setup)
    assert not [line for line in lines if "earlier version" in line]


@pytest.mark.parametrize(
    ("environ", "protocol"), [({}, 1), ({PROTOCOL_VARIABLE: "2"}, 2), ({PROTOCOL_VARIABLE: "x"}, 1)]
)
def test_a_driver_that_names_no_protocol_is_of_the_first(environ: dict[str, str], protocol: int) -> None:
    assert protocol_of_driver(environ) == protocol


def test_a_worker_writes_for_an_earlier_driver_what_that_driver_reads(old_keys: dict[str, dict[str, set[str]]]) -> None:
    measured = succeeded(truncated=False, step="eager", epochs=3, epochs_done=1.5, schedule_share=0.5, cpu_share=1.0)
    ended = end(measured, is_model_unfit=True)

    earlier, present = to_wire(ended, reader=1), to_wire(ended, reader=PROTOCOL)

    assert set(earlier) == old_keys[OUTCOME][""]
    assert set(earlier["outcome"]) == old_keys[OUTCOME]["outcome"]
    assert set(present["outcome"]) - set(earlier["outcome"]) == set(ADDED[Outcome]) - {"step_reason"}
    assert present["is_model_unfit"] is True


def saved(folder: Path) -> tuple[TrainState, dict[str, Any]]:
    """Train for two epochs, save a checkpoint, and return the train state with what is in the file."""
    train_state = fresh()
    run_training(train_state, save=lambda: None)
    save_checkpoint(folder, train_state, energy=EnergyReader([]))
    content: dict[str, Any] = torch.load(folder / "state.pt", weights_only=True)
    return train_state, content


def fresh() -> TrainState:
    return tiny_train_state(tiny_model("bert", dropout=0.0), method="head", epochs=2)


def drop_number(content: dict[str, Any]) -> None:
    """Leave the format out, as the first version did."""
    del content["format"]


def rename_field(content: dict[str, Any]) -> None:
    content["state"]["n_epochs"] = content["state"].pop("epoch")


def add_field(content: dict[str, Any]) -> None:
    content["state"]["buckets"] = [16, 32]


def lack_progress(content: dict[str, Any]) -> None:
    del content["progress"]["train_s"]


def raise_format(content: dict[str, Any]) -> None:
    content["format"] = 7


def lack_part(content: dict[str, Any]) -> None:
    del content["scheduler"]


def test_a_checkpoint_of_the_first_version_is_resumed(tmp_path: Path) -> None:
    train_state, content = saved(tmp_path)
    drop_number(content)
    torch.save(content, tmp_path / "state.pt")

    resumed = fresh()

    assert load_checkpoint(tmp_path, resumed)
    assert resumed.progress.step == train_state.progress.step
    assert resumed.progress.notes == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (rename_field, "other fields of state: epoch, n_epochs"),
        (add_field, "other fields of state: buckets"),
        (lack_progress, "other fields of progress: train_s"),
        (raise_format, "format 7 instead of 1"),
        (lack_part, "no scheduler"),
    ],
)
def test_a_checkpoint_of_another_version_is_set_aside_and_training_begins_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[dict[str, Any]], None], why: str
) -> None:
    _, content = saved(tmp_path)
    change(content)
    torch.save(content, tmp_path / "state.pt")
    resumed = fresh()

    is_resumed = load_checkpoint(tmp_path, resumed)

    note = f"a checkpoint of another version ({why}) was set aside; training began anew"
    assert not is_resumed
    assert (resumed.loop.epoch, resumed.progress.step, resumed.progress.notes) == (0, 0, [note])
    assert capsys.readouterr().err == f"{tmp_path.name}/state.pt: {note}\n"
    assert [path.name for path in tmp_path.iterdir()] == [OTHER_VERSION]
    assert not load_checkpoint(tmp_path, fresh())


def test_a_run_of_the_first_version_goes_on_in_its_store_of_format_1(tmp_path: Path) -> None:
    unpack(tmp_path)
    before = {e.id for e in ExperienceStore(tmp_path / "store").read()}
    setup = make_setup(tmp_path, text=OLD, launcher=launcher())

    run_search(setup)

    store = ExperienceStore(tmp_path / "store")
    notes = [line for line in logged(setup) if "now gets one of format 2" in line]
    assert {segment.recorded_format(path) for path in (tmp_path / "past").glob("seg-*.h5")} == {1}
    assert {segment.recorded_format(path) for path in store.path.glob("seg-*.h5")} == {1, 2}
    assert len(notes) == 1
    assert before < {e.id for e in store.read()}
    assert store.verify() == []


def busy_at_first(path: Path) -> End | None:
    """End the first attempt of every trial on a busy node."""
    return failed_end("node_busy") if path.name == "attempt-0" else stub_end(path)


def test_an_attempt_that_an_earlier_version_stored_as_lost_is_not_stored_again(tmp_path: Path) -> None:
    search_in(tmp_path, launcher=FakeLauncher(partial(end_attempt, trial_end=busy_at_first)))
    copy_store(tmp_path / "store", tmp_path / "earlier", is_redacted=False, format_version=1)
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "earlier").rename(tmp_path / "store")
    ledger_path = tmp_path / "runs" / "fake" / "ledger.jsonl"
    lines = ledger_path.read_text().splitlines(keepends=True)
    last = max(i for i, line in enumerate(lines) if '"commit"' in line)  # its driver died between store and ledger
    ledger_path.write_text("".join(lines[:last]))

    search_in(tmp_path, launcher=FakeLauncher(partial(end_attempt, trial_end=busy_at_first)))

    store = ExperienceStore(tmp_path / "store")
    assert store.verify() == []
    assert {e.outcome.kind for e in store.read() if e.provenance.attempt == 0} == {"lost"}
