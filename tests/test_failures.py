"""One table says what every failure kind means and what names it."""

import errno

import pytest

from xautolm_hpc.errors import InputError
from xautolm_hpc.failures import (
    ENDED_FROM_OUTSIDE,
    FAILURE_KINDS,
    INFRASTRUCTURE_KINDS,
    NAMED_BY_WRAPPER,
    PIPELINE_KINDS,
    RULES,
    FailureKind,
    FailureOrigin,
    TextSource,
    failure_kind,
    kind_of_exception,
    kind_of_text,
    last_line_with_kind,
    origin_of,
)
from xautolm_hpc.records import canonical_json

TEXTS: dict[str, dict[TextSource, str | None]] = {
    # text -> what it names, by where it was found; the sources differ on purpose
    "CUDA out of memory": {
        TextSource.EXCEPTION: "gpu_oom",
        TextSource.WORKER_LOG: "gpu_oom",
        TextSource.NODE_LOG: None,
        TextSource.REFERENCE: "gpu_oom",
    },
    "No space left on device": {
        TextSource.EXCEPTION: "storage",
        TextSource.WORKER_LOG: "storage",
        TextSource.NODE_LOG: None,
        TextSource.REFERENCE: "storage",
    },
    "GPU has fallen off the bus": {TextSource.EXCEPTION: "gpu_fault", TextSource.WORKER_LOG: "gpu_fault"},
    "No module named 'peft'": {
        TextSource.EXCEPTION: None,
        TextSource.WORKER_LOG: None,
        TextSource.REFERENCE: "environment",
    },
    "*** JOB 7 ON n1 CANCELLED AT x DUE TO PREEMPTION": {
        TextSource.EXCEPTION: None,
        TextSource.WORKER_LOG: "preempted",
        TextSource.NODE_LOG: "preempted",
    },
    "*** JOB 7 ON n1 CANCELLED AT x": {TextSource.WORKER_LOG: None, TextSource.NODE_LOG: "cancelled"},
    "Exceeded job memory limit": {TextSource.WORKER_LOG: None, TextSource.NODE_LOG: "host_oom"},
}
CASES = [(text, source, kind) for text, kinds in TEXTS.items() for source, kind in kinds.items()]


def test_kinds_of_the_pipeline_stand_first_so_that_their_numbers_in_tables_stay() -> None:
    assert FAILURE_KINDS == PIPELINE_KINDS + INFRASTRUCTURE_KINDS
    assert FAILURE_KINDS[:6] == ("gpu_oom", "host_oom", "time_limit", "diverged", "unsupported", "error")


def test_traits_of_kinds() -> None:
    spared = {kind for kind in INFRASTRUCTURE_KINDS if kind.traits.spares_node}
    expected = {kind for kind in FAILURE_KINDS if kind.traits.is_expected}

    assert spared == {"cancelled", "preempted", "wall_limit"}
    assert expected == {"gpu_oom", "host_oom", "time_limit", "diverged"}
    assert all(kind.traits.spares_node for kind in PIPELINE_KINDS)
    assert set(NAMED_BY_WRAPPER) == {
        *("time_limit", "host_oom", "cancelled", "wall_limit", "launch_failure", "environment", "storage")
    }
    assert set(ENDED_FROM_OUTSIDE) == {
        *("host_oom", "node_failure", "preempted", "cancelled", "launch_failure", "wall_limit", "lost")
    }


def test_a_kind_is_its_word_in_files_and_texts() -> None:
    assert canonical_json({"kind": FailureKind.GPU_OOM, "origin": FailureOrigin.PIPELINE}) == (
        '{"kind":"gpu_oom","origin":"pipeline"}'
    )
    assert f"{FailureKind.GPU_OOM}" == "gpu_oom"
    assert failure_kind("gpu_oom") is FailureKind.GPU_OOM


@pytest.mark.parametrize("word", ["tired", None, "GPU_OOM"])
def test_an_unknown_word_is_refused_with_the_valid_ones(word: str | None) -> None:
    with pytest.raises(InputError, match=r"unknown failure kind .*; valid: gpu_oom, host_oom, .*, lost$"):
        origin_of(word)


@pytest.mark.parametrize(("text", "source", "kind"), CASES)
def test_a_text_names_a_kind_where_it_was_found(text: str, source: TextSource, kind: str | None) -> None:
    assert kind_of_text(text, source) == kind


def test_a_rule_that_is_only_for_logs_holds_for_no_exception() -> None:
    assert all(rule.text or TextSource.EXCEPTION in rule.sources for rule in RULES)
    assert kind_of_exception(RuntimeError("Exceeded job memory limit")) is None


def test_the_line_nearest_to_the_end_names_the_kind() -> None:
    lines = ["ImportError: x", "No space left on device", "it ends here"]

    assert last_line_with_kind(lines, TextSource.WORKER_LOG) == ("storage", "No space left on device")
    assert last_line_with_kind(lines[2:], TextSource.WORKER_LOG) is None


def test_a_text_of_an_earlier_rule_beats_the_class_of_a_later_one() -> None:
    assert kind_of_exception(ImportError("libx.so: No space left on device")) is FailureKind.STORAGE
    assert kind_of_exception(ImportError("no such module")) is FailureKind.ENVIRONMENT
    assert kind_of_exception(OSError(errno.ENOMEM, "it failed")) is FailureKind.HOST_OOM
    assert kind_of_exception(RuntimeError("nccl timed out")) is FailureKind.GPU_FAULT
    assert kind_of_exception(ValueError("something new")) is None
