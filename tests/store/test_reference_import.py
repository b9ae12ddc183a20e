"""What XAutoLM's authors released becomes experiences: each trial once, under our names, however often it is read."""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.store.samples import as_text
from xautolm_hpc.catalogue import load_catalogue
from xautolm_hpc.errors import InputError
from xautolm_hpc.records import Experience
from xautolm_hpc.space import build_space
from xautolm_hpc.store import ExperienceStore
from xautolm_hpc.store.exchange.reference_import import (
    ReferenceImport,
    import_xautolm,
    kind_of_error,
    model_id,
    task_name,
)

FEATURES = [11524.0, 6.0, 2.5, 0.08, 0.2, 0.4, 106.9, 58.4, 0.55, 0.22]
QA_FEATURES = [87599.0, 841.9, 320.2, 0.01, 20.1, 21.6, 0.2, 0.03, 0.01, 0.33, 0.05]
FAILED = {"f1": -float("inf"), "evaluation_time": float("inf")}


def record(
    timestamp: str = "2024-11-02 11:20:22",
    *,
    layout: str = "old",
    error: str | None = None,
    metrics: dict[str, Any] | None = None,
    changes: dict[str, Any] | None = None,
    **params: Any,
) -> dict[str, Any]:
    """Make one record as the reference code writes it."""
    method = "PartialFineTuneGenLLMTask" if layout == "qa" else "LoraLLMEmbeddingClassifier"
    model = "TEXT_GEN_Google_Flan_T5_Base" if layout == "qa" else "WORD_EMB_Bert_Base_Uncased"
    settings: dict[str, Any] = {"inner_model": {"annotation": "A", "value": {model: {}}}}
    given = {"batch_size": 8, "weight_decay": 0, "use_mixed_precision": True, **params}
    settings |= {name: {"value": value} for name, value in given.items()}
    found = metrics if metrics is not None else {"f1": None, "accuracy": None, "evaluation_time": None}
    content: dict[str, Any] = {
        "algorithms": [{method: settings}],
        "system_features": [8.0, 16.0, 5.0, 125.5, 0.0],
        "timestamp": timestamp,
        "alias": "liar",
        "error": error,
    }
    if layout == "qa":
        content["task_features"] = {"meta": QA_FEATURES, "semantic": [0.5, -0.5]}
    else:
        content["dataset_features"] = FEATURES
    if layout == "old":
        content |= found
    else:
        content["metrics"] = [{"name": n, "maximize": True, "value": v} for n, v in found.items()]
    return content | (changes or {})


def write(folder: Path, *records: dict[str, Any], alias: str = "liar") -> Path:
    target = folder / alias / "2024-11-02"
    target.mkdir(parents=True, exist_ok=True)
    n = len(list(target.iterdir()))
    for i, content in enumerate(records):
        (target / f"11_20_22-{n + i}.json").write_text(json.dumps(content, indent=4))
    return folder


def imported(folder: Path, store: Path) -> tuple[ReferenceImport, list[Experience]]:
    done = import_xautolm(folder, ExperienceStore(store))
    return done, ExperienceStore(store).read()


OOM = "CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has a total capacity of 24 GiB of which 1 MiB is free"


@pytest.mark.parametrize("layout", ["old", "new"])
def test_two_files_of_one_failure_are_one_trial_with_its_text(tmp_path: Path, layout: str) -> None:
    folder = write(
        tmp_path / "reference",
        record("2024-11-02 11:20:22", layout=layout, error=OOM),
        record("2024-11-02 11:20:24", layout=layout, metrics=FAILED),
    )

    done, found = imported(folder, tmp_path / "store")

    assert (done.n_files, done.n_joined, done.n_trials, done.n_new) == (2, 1, 1, 1)
    outcome = found[0].outcome
    assert (outcome.status, outcome.kind, outcome.message) == ("failed", "gpu_oom", OOM)
    assert (dict(outcome.metrics), outcome.evaluation_time_s) == ({}, None)
    assert found[0].provenance.ended_at == "2024-11-02T11:20:22.000+00:00"


@pytest.mark.parametrize(
    ("second", "why"),
    [
        (record("2024-11-02 11:20:25", metrics=FAILED), "three seconds later"),
        (record("2024-11-02 11:20:22", error="another error"), "another text"),
        (record("2024-11-02 11:20:22", metrics=FAILED, batch_size=16), "another configuration"),
        (record("2024-11-02 11:20:22", metrics={"f1": 0.5, "evaluation_time": 1.0}), "a success"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_differs_is_another_trial(tmp_path: Path, second: dict[str, Any], why: str) -> None:
    folder = write(tmp_path / "reference", record("2024-11-02 11:20:22", error=OOM), second)

    done, found = imported(folder, tmp_path / "store")

    assert (done.n_joined, len(found)) == (0, 2), why
    assert len({e.key for e in found}) == 2


def test_one_success_in_two_layouts_is_one_trial(tmp_path: Path) -> None:
    metrics = {"f1": 0.25, "accuracy": 0.5, "evaluation_time": 60.5}
    folder = write(tmp_path / "reference", record(metrics=metrics), record(layout="new", metrics=metrics))

    done, found = imported(folder, tmp_path / "store")

    assert (done.n_joined, len(found)) == (1, 1)
    assert dict(found[0].outcome.metrics) == {"f1": 0.25, "accuracy": 0.5}
    assert found[0].outcome.evaluation_time_s == 60.5


def test_names_and_values_are_those_of_the_preset(tmp_path: Path) -> None:
    folder = write(tmp_path / "reference", record(metrics={"f1": 0.25, "evaluation_time": 1.0}))

    _, found = imported(folder, tmp_path / "store")

    e = found[0]
    assert (e.pipeline.method, e.pipeline.model_id) == ("lora", "bert-base-uncased")
    assert {name: repr(value) for name, value in e.pipeline.params.items()} == {
        "batch_size": "8",
        "weight_decay": "0.0",
        "use_mixed_precision": "True",
        "init_lora_weights": "'none'",
    }
    assert (e.task.name, e.task.kind, e.task.feature_schema) == (
        "liar",
        "text-classification",
        "xautolm-text-classification/1",
    )
    assert e.task.features == tuple(FEATURES)
    assert (e.system.n_cpu_cores, e.system.ram_bytes, e.provenance.site) == (8, int(125.5 * 1024**3), "xautolm")
    assert e.outcome.time_scope.startswith("xautolm: ")


def test_question_answering_has_its_own_scale_schema_and_lost_parameters(tmp_path: Path) -> None:
    metrics = {
        "f1": 89.5,
        "exact_match": 79.0,
        "evaluation_time": 30.0,
        "time_train_mean_seconds": 20.0,
        "time_valid_mean_seconds": 10.0,
    }
    folder = write(
        tmp_path / "reference", record(layout="qa", metrics=metrics), alias="squad_warmstart (a-pos)[x] (seed_7)"
    )
    write(folder, record(layout="qa", metrics={"f1": 0.375, "evaluation_time": 1.0}), alias="drop")
    write(folder, record(layout="qa", metrics=FAILED), alias="drop")

    _, found = imported(folder, tmp_path / "store")

    squad = next(e for e in found if e.task.name == "squad")
    drop = {e.outcome.succeeded: e for e in found if e.task.name == "drop"}
    assert dict(squad.outcome.metrics) == {"f1": pytest.approx(0.895), "exact_match": pytest.approx(0.79)}
    assert (squad.outcome.train_s, squad.outcome.eval_s, squad.outcome.evaluation_time_s) == (20.0, 10.0, 30.0)
    assert (squad.provenance.prior_kind, squad.provenance.seed) == ("xautolm", 7)
    assert (squad.task.feature_schema, squad.task.semantic) == ("xautolm-text-to-text/1", (0.5, -0.5))
    assert dict(drop[True].outcome.metrics) == {"f1": 0.375}
    assert (drop[False].outcome.kind, drop[False].outcome.message) == ("error", None)
    assert squad.pipeline.params["optimizer"] == "unknown"
    assert squad.pipeline.task_kind == squad.task.kind == "text-generation"


def test_the_gpu_of_a_machine_is_learnt_from_its_error_texts(tmp_path: Path) -> None:
    folder = write(tmp_path / "reference", record(error=OOM), record(metrics={"f1": 0.5}, batch_size=2))

    _, found = imported(folder, tmp_path / "store")

    assert {e.system.gpu_memory_bytes for e in found} == {24 * 1024**3}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (OOM, "gpu_oom"),
        ("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory", "host_oom"),
        ("Unable to load weights from pytorch checkpoint file for 'x'", "host_oom"),
        ("Exceeded allowed time for execution. The process was terminated after 5400.0 seconds.", "time_limit"),
        ("Unrecognized configuration class <class 'x'> for this kind of AutoModel", "unsupported"),
        ("Can't load tokenizer for 'mistralai/Mistral-7B-v0.1'. If you were trying", "environment"),
        ("DataLoader worker (pid 7) is killed by signal: Bus error.", "environment"),
        ("mat1 and mat2 shapes cannot be multiplied (2048x1600 and 4800x1)", "error"),
        (None, "error"),
    ],
)
def test_failures_are_classified_from_their_text(text: str | None, kind: str) -> None:
    assert kind_of_error(text) == kind


def test_every_model_of_the_preset_is_found_under_the_reference_codes_name() -> None:
    space = build_space(
        "xautolm", task_kind="text-classification", models=None, methods=None, overrides={}, own_models={}
    )

    def reference_name(name: str) -> str:
        words = name.replace(".", "").replace("/", "_").replace("-", "_").split("_")
        return "_".join(word.capitalize() for word in words)

    for model in space.models:
        assert model_id(f"TEXT_GEN_{reference_name(model.id)}") == model.id
    assert model_id("TEXT_GEN_Meta_Llama_Llama_31_8B_Instruct") == "meta-llama/Llama-3.1-8B-Instruct"
    assert model_id("TEXT_GEN_New_One") == "TEXT_GEN_New_One"


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("ag_news", "ag_news"),
        ("liar_warmstart (f-pos f-neg)[F1+Time] (seed_42)", "liar"),
        ("drop_warmstart (a-pos f-neg)[linear_front]", "drop"),
        ("sst2 knn25", "sst2"),
        ("sst2b", "sst2b"),
        ("tweets_warmstart (x)", "tweets"),
    ],
)
def test_aliases_are_names_of_tasks(alias: str, name: str) -> None:
    assert task_name(alias) == name


def with_params(params: dict[str, Any]) -> str:
    return json.dumps(record(**params))


REFUSED: list[tuple[str, str]] = [
    ("{", "no JSON"),
    ("[]", "no JSON object"),
    (json.dumps(record(changes={"algorithms": []})), "no list of one algorithm"),
    (json.dumps(record(changes={"algorithms": [{"A": {"x": 1}}]})), "parameters are not"),
    (json.dumps(record(changes={"timestamp": "yesterday"})), "is no time"),
    (json.dumps(record("1999-01-01 00:00:00")), "is not in 2024 to"),
    (json.dumps(record(changes={"dataset_features": [1.0]})), "no list of 10 finite numbers"),
    (json.dumps(record(changes={"system_features": [1, 2, 3, 4, 1e300]})), "no list of 5 finite numbers"),
    (json.dumps(record(batch_size=[1])), "no finite number, bool or text"),
    (json.dumps(record(batch_size=10**30)), "no finite number, bool or text"),
    (json.dumps(record(metrics={"f1": "high"})), "metric 'f1' is no number"),
    (json.dumps(record(metrics={"f1": 101.0})), "metric `f1` is out of range"),
    (json.dumps(record(layout="new", changes={"metrics": [1]})), "`metrics` is no list of"),
    (json.dumps({k: v for k, v in record().items() if k not in ("f1", "metrics")}), "no `f1` at the top"),
    ("[" * 10_000, "no JSON"),
    ("[" * 100_000, "no record: it holds 100,000 lists and objects; expected at most 50,000"),
    (json.dumps(record(metrics={"f1": 10**400})), "metric `f1` is out of range"),
    (json.dumps(record(metrics={"f1": 0.5, "time_train_mean_seconds": 10**400})), "is out of range"),
    (json.dumps(record(metrics={"f1": 0.5, "time_train_mean_seconds": 1e13})), "train_s is 10000000000000.0; expected"),
    ('{"f1": ' + "9" * 5000 + "}", "no JSON"),
    (json.dumps(record(changes={"dataset_features": [10**400] * 10})), "no list of 10 finite numbers"),
    (json.dumps(record(changes={"dataset_features": [-5.0] * 10})), "task: n_train is -4; expected a whole number"),
    (json.dumps(record(changes={"system_features": [-1, 2, 3, 4, 0]})), "system: n_cpu_cores is -1; expected"),
    (json.dumps(record(changes={"system_features": [1, 2, 3, 2**50, 0]})), "system: ram_bytes is"),
    (json.dumps(record(inner_model=[["a", "b"]])), "`inner_model` is no text"),
    (json.dumps(record(inner_model={"a": 1, "b": 1})), "with one `inner_model`"),
    (json.dumps(record(batch_size="\ud800")), "params.batch_size is '\\ud800'; expected"),
    (with_params({"\ud800": 1}), "params: a name is '\\ud800'; expected"),
    (json.dumps(record(inner_model=["\ud800"])), "model_id is '\\ud800'; expected"),
    (with_params({"x" * 3_000_000: 1}), "params: a name is 'xxx"),
    (json.dumps(record(batch_size="x" * 3_000_000)), "params.batch_size is 'xxx"),
    (with_params({f"p{i}": 1 for i in range(300)}), "expected at most 256 names"),
    ("\xff", "no JSON: not in UTF-8"),
]


@pytest.mark.parametrize(("content", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_what_is_no_record_is_refused_with_its_reason_and_the_rest_is_read(
    tmp_path: Path, content: str, why: str
) -> None:
    folder = write(tmp_path / "reference", record(metrics={"f1": 0.5}))
    (folder / "liar" / "bad.json").write_text(content, encoding="latin-1")

    done, found = imported(folder, tmp_path / "store")

    assert len(found) == 1
    assert [(why in reason, files) for reason, files in done.refused.items()] == [(True, ["liar/bad.json"])]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (os.mkfifo, "it is a pipe, and no regular file"),
        (Path.mkdir, "it is a folder, and no regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device, and no regular file"),
        (lambda path: path.symlink_to("gone"), "it cannot be read: No such file or directory"),
        (lambda path: path.write_bytes(b" " * 5 * 1024**2), "larger than 4 MiB, which no record is"),
    ],
)
def test_what_is_no_file_of_a_record_is_refused_and_the_rest_is_read(
    tmp_path: Path, make: Callable[[Path], Any], why: str
) -> None:
    folder = write(tmp_path / "reference", record(metrics={"f1": 0.5}))
    make(folder / "liar" / "bad.json")

    done, found = imported(folder, tmp_path / "store")

    assert len(found) == 1
    assert done.refused == {why: ["liar/bad.json"]}


def test_an_alias_that_no_digest_can_be_made_of_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "reference", record(metrics={"f1": 0.5}))
    (folder / "bad.json").write_text(json.dumps(record(changes={"alias": "\ud800"})))

    done, found = imported(folder, tmp_path / "store")

    assert len(found) == 1
    assert done.refused == {"`alias` is no text that UTF-8 can encode": ["bad.json"]}


def test_an_error_text_of_any_length_and_content_is_kept_cut(tmp_path: Path) -> None:
    text = "has a total capacity of 1.2.3 GiB " + "has a total capacity of " + "9" * 400 + " GiB " + "x" * 2_000_000
    failure = record(metrics={"f1": float("-inf")}, changes={"error": text})

    done, found = imported(write(tmp_path / "reference", failure), tmp_path / "store")

    assert done.refused == {}
    assert len(found[0].outcome.message or "") < 16_385
    assert "characters left out" in (found[0].outcome.message or "")
    assert ExperienceStore(tmp_path / "store").verify() == []


def test_a_class_that_fine_tunes_nothing_is_refused(tmp_path: Path) -> None:
    content = record(metrics={"f1": 0.5})
    content["algorithms"] = [{"CARPClassifier": content["algorithms"][0]["LoraLLMEmbeddingClassifier"]}]

    done, found = imported(write(tmp_path / "reference", content), tmp_path / "store")

    assert (found, list(done.refused)) == ([], ["class 'CARPClassifier' fine-tunes nothing"])


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere` is no folder; expected XAutoLM's experience store"):
        import_xautolm(tmp_path / "nowhere", ExperienceStore(tmp_path / "store"))
    with pytest.raises(InputError, match=r"holds no .json file"):
        import_xautolm(tmp_path, ExperienceStore(tmp_path / "store"))


def test_the_released_records_import_to_as_many_trials_as_there_were(tmp_path: Path, shared_dir: Path) -> None:
    trials = [json.loads(text) for text in (shared_dir / "peer-records" / "trials.jsonl").read_text().splitlines()]
    folder = shared_dir / "peer-records" / "original"

    first, found = imported(folder, tmp_path / "store")
    digest = ExperienceStore(tmp_path / "store").digest()
    second, again = imported(folder, tmp_path / "store")

    assert (first.n_trials, first.n_new, first.refused, first.unknown_models) == (len(trials), len(trials), {}, ())
    assert (second.n_trials, second.n_new) == (len(trials), 0)
    assert as_text(again) == as_text(found)
    assert ExperienceStore(tmp_path / "store").digest() == digest
    assert ExperienceStore(tmp_path / "store").verify() == []
    expected = Counter((t["task"], t["f1"] is None) for t in trials)
    assert Counter((e.task.name, not e.outcome.succeeded) for e in found) == expected
    assert {e.pipeline.model_id for e in found} <= set(load_catalogue())
    scores = sorted(round(t["f1"] / (100 if t["task"] == "squad" else 1), 9) for t in trials if t["f1"] is not None)
    assert sorted(round(e.outcome.metrics["f1"], 9) for e in found if e.outcome.metrics) == scores
    assert sum(e.outcome.message is not None for e in found) == sum(t["error"] is not None for t in trials)
