"""What is measured of a trial's start and of its memory."""

from xautolm_hpc.train.finetune import peak_bytes
from xautolm_hpc.train.limit.trial_budget import Progress


def test_the_parts_of_loading_are_added_up_in_their_order() -> None:
    progress = Progress()

    for part in ("imports", "data", "imports"):
        with progress.load, progress.loading(part):
            pass

    assert list(progress.load_parts_s) == ["imports", "data"]
    assert sum(progress.load_parts_s.values()) <= progress.load.here_s
    assert progress.load_summary() == "load: 0.00 s (imports 0.00 s, data 0.00 s)\n"


def test_peak_memory_is_what_tensors_held_and_not_what_the_allocator_reserved() -> None:
    statistics = {"allocated_bytes.all.peak": 7, "allocated_bytes.all.current": 3, "reserved_bytes.all.peak": 100}

    assert peak_bytes(statistics) == 7
    assert peak_bytes({}) == 0
