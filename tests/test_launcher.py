"""A state of a job is read from Slurm's words once, and says the same everywhere."""

import json

import pytest

from xautolm_hpc.launcher import JobState

ALIVE = ["PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED"]
HELD = ["REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT", "EXPEDITING", "RH", "RF", "RD", "SE"]
ON_NODE = ["STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT", "POWER_UP_NODE", "ST", "RS", "SI", "SO", "R", "CG"]
SHORT = {"CD": "COMPLETED", "F": "FAILED", "CA": "CANCELLED", "TO": "TIMEOUT", "DL": "DEADLINE", "NF": "NODE_FAIL"}


@pytest.mark.parametrize("words", [*ALIVE, *HELD, *ON_NODE])
def test_a_job_that_is_held_or_on_a_node_is_alive(words: str) -> None:
    state = JobState.from_slurm(words)

    assert (state.is_alive, state.is_finished, state.failure_kind) == (True, False, None)


@pytest.mark.parametrize("words", HELD)
def test_a_held_job_waits(words: str) -> None:
    assert JobState.from_slurm(words) is JobState.PENDING


@pytest.mark.parametrize(
    ("words", "state"),
    [
        ("CANCELLED by 1000", "CANCELLED"),
        ("CANCELLED+", "CANCELLED"),
        ("completed", "COMPLETED"),
        ("LAUNCH_FAILED", "FAILED"),
        ("RECONFIG_FAIL", "NODE_FAIL"),
        *SHORT.items(),
    ],
)
def test_whatever_follows_the_word_and_short_codes_are_read(words: str, state: str) -> None:
    assert JobState.from_slurm(words) == state
    assert JobState.from_slurm(words).is_finished


@pytest.mark.parametrize("words", ["", "  ", "REVOKED", "UPDATE_DB", "SOMETHING_NEW", "UNKNOWN"])
def test_a_word_that_says_nothing_is_unknown_and_neither_alive_nor_finished(words: str) -> None:
    state = JobState.from_slurm(words)

    assert (state, state.is_alive, state.is_finished) == (JobState.UNKNOWN, False, False)


def test_every_way_to_end_but_success_and_plain_failure_names_its_kind() -> None:
    kinds = {state: state.failure_kind for state in JobState if state.is_finished}

    assert [state for state, kind in kinds.items() if kind is None] == ["COMPLETED", "FAILED"]
    assert [state for state in JobState if state.is_infrastructure] == [
        *("CANCELLED", "TIMEOUT", "DEADLINE", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL")
    ]


def test_a_state_is_its_word_in_files() -> None:
    assert json.dumps({"state": JobState.NODE_FAIL}) == '{"state": "NODE_FAIL"}'
    assert f"{JobState.NODE_FAIL}" == "NODE_FAIL"
