"""Logs for trackers, read back through the libraries that show them: every value is that of ``report.json``."""

import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from tests.report.facts import facts, failure, success
from tests.report.whole_run import whole_run
from xautolm_hpc.errors import InputError
from xautolm_hpc.report import summarise, write_log
from xautolm_hpc.report.figure_numbers import all_trials
from xautolm_hpc.report.summary import MEASURES

CURVE: Any = ((1.0, 0.9, 0.8, 0.4, 3.0), (2.0, 0.5, 0.6, 0.7, 7.5), (2.5, 0.4, None, 0.6, 9.0))
GROUP = "tickets-1-6f1e0a52"
MARKUP = "evil/a|<b>$x$</b>[red]"


def summary_of(**fields: Any) -> dict[str, Any]:
    """Summarise a run with a curve, scores on test, a truncated trial, failures and markup in a model's name."""
    run = whole_run(tests={0: {"f1": 0.79, "accuracy": 0.8}})
    first, *others = run.experiences
    curved = dataclasses.replace(first.outcome, curve=CURVE, truncated=True, epochs_done=2.5)
    attempts = (dataclasses.replace(first, outcome=curved), *others)
    summary: dict[str, Any] = json.loads(
        json.dumps(summarise(dataclasses.replace(run, experiences=attempts, **fields)))
    )
    return summary


def expected_metrics(summary: Mapping[str, Any], trial: Mapping[str, Any]) -> dict[str, float]:
    """List the final metrics of a trial of ``report.json``."""
    known = {**trial["metrics"], **{name: trial[name] for name in MEASURES}}
    known |= {f"test_{name}": value for name, value in summary["tests"].get(str(trial["trial"]), {}).items()}
    return {name: value for name, value in known.items() if value is not None}


EXPECTED_CURVES = {
    "curve/epoch": [1.0, 2.0, 2.5],
    "curve/train_loss": [0.9, 0.5, 0.4],
    "curve/dev_loss": [0.8, 0.6],
    "curve/dev_f1": [0.4, 0.7, 0.6],
    "curve/epoch_s": [3.0, 4.5, 1.5],
}


def events_of(folder: Path, trial: int) -> EventAccumulator:
    """Read the events of a trial as TensorBoard does."""
    events = EventAccumulator(str(folder / GROUP / f"trial-{trial:04d}"))
    events.Reload()
    return events


def test_tensorboard_reads_every_value_of_the_report(tmp_path: Path) -> None:
    summary = summary_of()

    line = write_log("tensorboard", summary, folder=tmp_path / "logs")

    assert line == f"tensorboard: 8 trials written; to look: tensorboard --logdir {tmp_path / 'logs'}"
    for trial in all_trials(summary):
        events = events_of(tmp_path / "logs", trial["trial"])
        tags = events.Tags()["scalars"]
        found = {tag: [event.value for event in events.Scalars(tag)] for tag in tags}
        expected = {f"final/{name}": [v] for name, v in expected_metrics(summary, trial).items()}
        expected |= EXPECTED_CURVES if trial["trial"] == 0 else {}
        assert found == {tag: [float(np.float32(v)) for v in values] for tag, values in expected.items()}
    steps = [(event.step, event.wall_time) for event in events_of(tmp_path / "logs", 0).Scalars("curve/dev_f1")]
    began_s = steps[0][1] - 3.0
    assert steps == [(1, began_s + 3.0), (2, began_s + 7.5), (3, began_s + 9.0)]


def test_tensorboard_compares_hyperparameters_and_shows_tags_without_markup(tmp_path: Path) -> None:
    write_log("tensorboard", summary_of(), folder=tmp_path)

    events = events_of(tmp_path, 2)
    content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    params = metadata.parse_session_start_info_plugin_data(content).hparams
    (text,) = events.Tensors("trial/text_summary")[0].tensor_proto.string_val

    assert (params["model"].string_value, params["method"].string_value) == (MARKUP, "lora")
    assert (params["learning_rate"].number_value, params["class_weighted_loss"].bool_value) == (2e-5, True)
    assert b"<b>" not in text
    assert b"evil/a\\|&lt;b&gt;&#36;x&#36;" in text
    assert b"| status | succeeded |" in text


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Write a run to a store of MLflow."""
    folder, summary = tmp_path_factory.mktemp("a folder é"), summary_of()
    line = write_log("mlflow", summary, folder=folder)
    assert line == f"mlflow: 8 trials written; to look: mlflow ui --backend-store-uri 'sqlite:///{folder}/mlflow.db'"
    return folder, summary


def runs_of(folder: Path, group: str = GROUP) -> tuple[MlflowClient, dict[str, Run]]:
    """Read the runs of an experiment as MLflow does, by name."""
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name(group)
    runs = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in runs}) == len(runs)
    return client, {run.info.run_name: run for run in runs}


def test_mlflow_reads_every_value_of_the_report(store: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = store

    client, runs = runs_of(folder)

    trials = all_trials(summary)
    assert set(runs) == {f"trial {trial['trial']}" for trial in trials}
    for trial in trials:
        run = runs[f"trial {trial['trial']}"]
        expected = expected_metrics(summary, trial)
        assert {name: v for name, v in run.data.metrics.items() if not name.startswith("curve/")} == expected
        assert run.data.params == {
            **{name: str(value) for name, value in trial["params"].items()},
            "model": trial["model"],
            "method": trial["method"],
        }
        assert run.info.status == {"succeeded": "FINISHED", "failed": "FAILED"}[trial["status"]]
        assert run.data.tags["experience"] == trial["experience"]
        assert run.data.tags.get("kind") == trial["kind"]
    history = {name: client.get_metric_history(runs["trial 0"].info.run_id, name) for name in EXPECTED_CURVES}
    assert {name: [point.value for point in points] for name, points in history.items()} == EXPECTED_CURVES
    assert [point.step for point in history["curve/dev_f1"]] == [1, 2, 3]
    tags = runs["trial 0"].data.tags
    assert (tags["truncated"], tags["run_id"], tags["energy_source"]) == (
        "true", summary["run"]["run_id"], "nvml-counter",
    )  # fmt: skip
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"  # nothing is sent anywhere


def test_mlflow_keeps_what_is_there_and_replaces_what_has_changed(store: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = store
    summary = summary_of(run_id="00000000-0000-4000-8000-000000000000")
    group = "tickets-1-00000000"
    write_log("mlflow", summary, folder=folder)
    client, before = runs_of(folder, group)
    client.set_tag(before["trial 1"].info.run_id, "note", "of a person")
    client.update_run(before["trial 3"].info.run_id, status="RUNNING")  # as a killed writer leaves it
    own = client.create_run(before["trial 0"].info.experiment_id, run_name="of a person")
    changed = {**summary, "tests": {"2": {"f1": 0.64}}}

    line = write_log("mlflow", changed, folder=folder)

    _, after = runs_of(folder, group)
    replaced = {name for name, run in before.items() if after[name].info.run_id != run.info.run_id}
    assert line.startswith("mlflow: 3 trials written, 5 there already;")
    assert replaced == {"trial 0", "trial 2", "trial 3"}
    assert after["trial 2"].data.metrics["test_f1"] == 0.64
    assert after["trial 1"].data.tags["note"] == "of a person"
    assert after["of a person"].info.run_id == own.info.run_id
    assert len(after) == len(before) + 1


def test_tensorboard_keeps_what_is_there_and_replaces_what_has_changed(tmp_path: Path) -> None:
    summary = summary_of()
    write_log("tensorboard", summary, folder=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("events*")}
    own = tmp_path / GROUP / "trial-0002" / "events.out.tfevents.1.of-a-person"
    own.touch()
    left = tmp_path / GROUP / "trial-0002" / "events.out.tfevents.1.host.xautolm-part"  # by a killed writer
    left.touch()

    again = write_log("tensorboard", summary, folder=tmp_path)
    line = write_log("tensorboard", {**summary, "tests": {**summary["tests"], "2": {"f1": 0.64}}}, folder=tmp_path)

    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("events*")}
    assert again.startswith("tensorboard: 0 trials written, 8 there already;")
    assert line.startswith("tensorboard: 1 trial written, 7 there already;")
    assert len(before.items() & after.items()) == 7
    assert len(after) == len(before) + 1
    assert own in after
    assert events_of(tmp_path, 2).Scalars("final/test_f1")[0].value == float(np.float32(0.64))


@pytest.mark.parametrize(("tracker", "module"), [("tensorboard", "tensorboardX"), ("mlflow", "mlflow")])
def test_without_the_extra_the_command_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(InputError, match=rf"needs {module}.*pip install 'xautolm_hpc\[{tracker}\]'"):
        write_log(tracker, summary_of(), folder=tmp_path / "new")

    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow"])
def test_a_library_that_does_not_work_is_named_and_the_report_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str
) -> None:
    def broken(*given: object, **named: object) -> int:
        raise TypeError("Descriptors cannot be created directly.")

    monkeypatch.setattr(f"xautolm_hpc.report.trackers.{tracker}_writer.write_trials", broken)

    with pytest.raises(InputError, match=rf"library does not work here \(Descriptors.*xautolm_hpc\[{tracker}\]"):
        write_log(tracker, summary_of(), folder=tmp_path)


def test_what_is_no_folder_and_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "mlflow.db").write_text("my notes")

    with pytest.raises(InputError, match="no such tracker; these are known: tensorboard, mlflow"):
        write_log("wandb", summary_of(), folder=tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        write_log("tensorboard", summary_of(), folder=tmp_path / "file")
    with pytest.raises(InputError, match=r"file is not a database. Give another folder"):
        write_log("mlflow", summary_of(), folder=tmp_path)
    with pytest.raises(InputError, match="MLflow reads no path with %"):
        write_log("mlflow", summary_of(), folder=tmp_path / "50%")

    assert (tmp_path / "mlflow.db").read_text() == "my notes"


def test_an_older_report_and_odd_names_are_written_too(tmp_path: Path) -> None:
    odd = "../\x1b[2J'\"|\n"
    run = facts([success(0, params={odd: odd, "epochs": 3}), failure(1, "gpu_oom")])
    summary = json.loads(json.dumps(summarise(run)))
    for trial in all_trials(summary):
        for name in ("curve", "started_at", "ended_at", "truncated"):
            del summary["failed" if trial["kind"] else "front"][0][name]

    write_log("tensorboard", summary, folder=tmp_path)
    write_log("mlflow", summary, folder=tmp_path)

    _, runs = runs_of(tmp_path)
    (name,) = set(runs["trial 0"].data.params) - {"model", "method", "epochs"}
    assert name == "_____2J____"
    assert runs["trial 0"].data.params[name] == "../\\x1b[2J'\"|\\n"
    assert runs["trial 1"].info.status == "FAILED"
    assert events_of(tmp_path, 0).Scalars("final/f1")[0].value == 0.5
