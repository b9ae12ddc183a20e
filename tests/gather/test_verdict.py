"""Every rule of the verdict, a row each."""

from typing import Any

import pytest

from tests.nouns import claim
from xautolm_hpc.gather.traces import Evidence
from xautolm_hpc.gather.verdict import RULES, judge, verdict
from xautolm_hpc.jobdir import Exit, Heartbeat
from xautolm_hpc.launcher import JobSource, JobState, JobStatus

CLAIM = claim(pid=9, claimed_at=100.0)


def ended(returncode: int | None = 1, ended_by: str | None = None, **more: Any) -> Exit:
    return Exit(returncode=returncode, ended_by=ended_by, started_at=100.0, ended_at=160.0, **more)


def evidence(state: str = "COMPLETED", *, reason: str = "", **fields: Any) -> Evidence:
    job = JobStatus(state=JobState(state), reason=reason, source=JobSource.SACCT)
    return Evidence(**{"state": job, "claims": (CLAIM,), **fields})


BEAT = Heartbeat(at=150.0, phase="train", step=40, n_steps=100, train_s=30.0, gpu_energy_j=900.0)

ENDED_LATE = ended(-15, "time_limit")  # after 60 s
USED_UP: dict[str, Any] = {"heartbeats": (BEAT, BEAT), "time_limit_s": 60.0}
NODE_SAYS = "slurmstepd-n1: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-01-02T03:04:05"

ROWS = [
    # a job that was cancelled because it waited in vain
    ("given up, held from the start", evidence("CANCELLED", claims=(), given_up="it waited 24 h"), "launch_failure"),
    (
        "given up, put back and held",
        evidence("CANCELLED", exit=ended(85), launch_log=NODE_SAYS + " DUE TO JOB REQUEUE", given_up="it waited 24 h"),
        "launch_failure",
    ),
    # the wrapper's word
    ("the wrapper met a memory limit", evidence(exit=ended(-9, "host_oom")), "host_oom"),
    ("the wrapper met the time limit", evidence(exit=ended(-15, "time_limit")), "time_limit"),
    (
        "the wrapper met the time limit while others had the cores",
        evidence(exit=ENDED_LATE, exits=(ENDED_LATE,), delay_s=6.1),
        "node_busy",
    ),
    (
        "the wrapper met the time limit, little delayed",
        evidence(exit=ENDED_LATE, exits=(ENDED_LATE,), delay_s=5.9),
        "time_limit",
    ),
    ("others had the cores, memory ran out", evidence(exit=ended(-9, "host_oom"), delay_s=50.0), "host_oom"),
    ("the wrapper met the wall limit", evidence(exit=ended(-15, "wall_limit")), "wall_limit"),
    ("the wrapper was told to cancel", evidence(exit=ended(-15, "cancelled")), "cancelled"),
    ("the worker could not be started", evidence(exit=ended(None, "launch_failure")), "launch_failure"),
    ("the worker's interpreter is broken", evidence(exit=ended(None, "environment")), "environment"),
    ("the wrapper's word beats Slurm's", evidence("TIMEOUT", exit=ended(-9, "host_oom")), "host_oom"),
    # Slurm's word
    ("Slurm: memory", evidence("OUT_OF_MEMORY"), "host_oom"),
    ("Slurm: memory, worker killed", evidence("OUT_OF_MEMORY", exit=ended(-9)), "host_oom"),
    ("Slurm: time, budget not used", evidence("TIMEOUT", heartbeats=(BEAT,), time_limit_s=60.0), "wall_limit"),
    ("Slurm: time, budget unknown", evidence("TIMEOUT"), "wall_limit"),
    ("Slurm: time, budget used up", evidence("TIMEOUT", heartbeats=(BEAT, BEAT), time_limit_s=60.0), "time_limit"),
    ("Slurm: time, used up by others", evidence("TIMEOUT", **USED_UP, delay_s=20.0), "node_busy"),
    ("Slurm: deadline", evidence("DEADLINE"), "wall_limit"),
    ("Slurm: cancelled", evidence("CANCELLED"), "cancelled"),
    ("Slurm: cancelled before it started", evidence("CANCELLED", claims=()), "cancelled"),
    ("Slurm: node", evidence("NODE_FAIL"), "node_failure"),
    ("Slurm: boot", evidence("BOOT_FAIL", claims=()), "node_failure"),
    ("Slurm: preempted", evidence("PREEMPTED", exit=ended(-9)), "preempted"),
    # Slurm's node, where nobody else remembers the job
    ("node: time", evidence("UNKNOWN", launch_log=NODE_SAYS + " DUE TO TIME LIMIT ***"), "wall_limit"),
    (
        "node: time, budget used up",
        evidence("UNKNOWN", launch_log=NODE_SAYS + " DUE TO TIME LIMIT", **USED_UP),
        "time_limit",
    ),
    ("node: preempted", evidence("UNKNOWN", launch_log=NODE_SAYS + " DUE TO PREEMPTION ***"), "preempted"),
    ("node: cancelled", evidence("UNKNOWN", launch_log=NODE_SAYS + " ***\nsrun: forcing job termination"), "cancelled"),
    ("node: memory", evidence("UNKNOWN", launch_log="Detected 1 oom-kill event(s) in StepId=7.0."), "host_oom"),
    ("node: program", evidence("UNKNOWN", claims=(), launch_log="error: execve(): no such file"), "launch_failure"),
    # a checkpoint nobody went on from
    ("exit 85 without a requeue", evidence(exit=ended(85)), "preempted"),
    # the log
    ("log: GPU memory", evidence(exit=ended(1), log_tail="torch.OutOfMemoryError: CUDA out of memory."), "gpu_oom"),
    ("log: cuBLAS", evidence(exit=ended(1), log_tail="CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), "gpu_oom"),
    ("log: host memory", evidence(exit=ended(1), log_tail="MemoryError"), "host_oom"),
    ("log: allocator", evidence(exit=ended(1), log_tail="DefaultCPUAllocator: can't allocate memory"), "host_oom"),
    ("log: Slurm's memory", evidence(exit=ended(-9), log_tail="slurmstepd: error: 1 oom_kill event"), "host_oom"),
    ("log: disk", evidence(exit=ended(1), log_tail="OSError: [Errno 28] No space left on device"), "storage"),
    ("log: quota", evidence(exit=ended(1), log_tail="OSError: [Errno 122] Disk quota exceeded"), "storage"),
    ("log: I/O", evidence(exit=ended(1), log_tail="OSError: [Errno 5] Input/output error"), "storage"),
    ("log: NFS", evidence(exit=ended(1), log_tail="OSError: [Errno 116] Stale file handle"), "storage"),
    ("log: NCCL", evidence(exit=ended(-6), log_tail="RuntimeError: NCCL error in: socket"), "gpu_fault"),
    ("log: NCCL class", evidence(exit=ended(1), log_tail="ncclRemoteError: a peer left"), "gpu_fault"),
    ("log: ECC", evidence(exit=ended(1), log_tail="CUDA error: uncorrectable ECC error encountered"), "gpu_fault"),
    ("log: Xid", evidence(exit=ended(-11), log_tail="NVRM: Xid (PCI:0000): 79"), "gpu_fault"),
    ("log: CUDA", evidence(exit=ended(-6), log_tail="CUDA error: unspecified launch failure"), "gpu_fault"),
    ("log: CUDA unknown", evidence(exit=ended(1), log_tail="CUDA error: unknown error"), "gpu_fault"),
    ("log: module", evidence(exit=ended(1), log_tail="ModuleNotFoundError: No module named 'peft'"), "environment"),
    (
        "log: library",
        evidence(exit=ended(1), log_tail="libcudart.so.12: cannot open shared object file"),
        "environment",
    ),
    ("log: driver", evidence(exit=ended(1), log_tail="CUDA driver version is insufficient"), "environment"),
    ("log: no GPU", evidence(exit=ended(1), log_tail="RuntimeError: No CUDA-capable device"), "environment"),
    ("log: cache", evidence(exit=ended(1), log_tail="LocalEntryNotFoundError: offline"), "data_unavailable"),
    ("log: preempted", evidence(log_tail="slurmstepd: *** JOB 7 CANCELLED AT x DUE TO PREEMPTION ***"), "preempted"),
    ("log: node", evidence(log_tail="*** JOB 7 CANCELLED AT x DUE TO NODE FAILURE ***"), "node_failure"),
    ("log: time", evidence(log_tail="*** JOB 7 CANCELLED AT x DUE TO TIME LIMIT ***"), "wall_limit"),
    ("log: the last line counts", evidence(exit=ended(1), log_tail="ImportError: x\nMemoryError"), "host_oom"),
    ("log: silent after status 0", evidence(exit=ended(0), log_tail="ImportError: ignored"), "lost"),
    # no claim
    ("never began, failed", evidence("FAILED", claims=(), reason="no such python"), "launch_failure"),
    ("never began, completed", evidence("COMPLETED", claims=()), "launch_failure"),
    ("never began, unknown", evidence("UNKNOWN", claims=()), "lost"),
    # the exit status
    ("segmentation fault", evidence(exit=ended(-11)), "error"),
    ("abort", evidence(exit=ended(-6)), "error"),
    ("bus error", evidence(exit=ended(-7)), "error"),
    ("segmentation fault inside a container", evidence(exit=ended(139)), "error"),
    ("illegal instruction", evidence(exit=ended(-4)), "environment"),
    ("killed by somebody", evidence(exit=ended(-9)), "lost"),
    ("killed inside a container", evidence(exit=ended(137)), "lost"),
    ("ended by somebody", evidence(exit=ended(-15)), "lost"),
    ("status 1", evidence(exit=ended(1), log_tail="ValueError: shapes differ"), "error"),
    ("status 0 without an outcome", evidence(exit=ended(0)), "lost"),
    # nothing
    ("claimed, no exit file, unknown", evidence("UNKNOWN"), "lost"),
    ("claimed, no exit file, completed", evidence("COMPLETED"), "lost"),
    ("claimed, no exit file, failed", evidence("FAILED"), "lost"),
    # a damaged outcome
    ("damaged outcome", evidence(exit=ended(0), damaged="`outcome.json` is not valid JSON"), "lost"),
    ("damaged outcome beats all", evidence("OUT_OF_MEMORY", damaged="`outcome.json` is torn"), "lost"),
]


@pytest.mark.parametrize(("given", "kind"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_the_kind_of_an_end(given: Evidence, kind: str) -> None:
    assert judge(given)[0] == kind


def test_every_rule_decides_some_row() -> None:
    deciding = {next((rule for rule in RULES if rule(given) is not None), None) for _, given, _ in ROWS}

    assert set(RULES) <= deciding


def test_a_verdict_keeps_time_energy_and_memory_of_all_restarts() -> None:
    requeued = claim(node="n2", restart=1, pid=9, boot_id="c", claimed_at=200.0)
    second = Heartbeat(at=260.0, phase="train", step=70, train_s=20.0, gpu_energy_j=100.0, cpu_energy_j=50.0)
    first_exit, last_exit = ended(85, peak_rss_bytes=500), ended(-9, peak_rss_bytes=300)
    given = evidence(
        "OUT_OF_MEMORY",
        claims=(CLAIM, requeued),
        heartbeats=(BEAT, second),
        exit=last_exit,
        exits=(first_exit, last_exit),
    )

    end = verdict(given, now=999.0)

    outcome = end.outcome
    assert (outcome.kind, outcome.origin, outcome.status) == ("host_oom", "pipeline", "failed")
    assert (outcome.train_s, outcome.n_steps, outcome.peak_rss_bytes) == (50.0, 70, 500)
    assert (outcome.gpu_energy_j, outcome.cpu_energy_j) == (1000.0, 50.0)
    assert (outcome.energy_source, outcome.energy_scope) == ("nvml-counter+rapl", "whole-gpu")
    assert (end.restart, end.node, end.started_at, end.ended_at) == (1, "n2", 100.0, 160.0)


def test_what_a_verdict_cannot_know_is_unknown_not_zero() -> None:
    end = verdict(evidence("UNKNOWN", claims=()), now=999.0)

    assert (end.outcome.train_s, end.outcome.gpu_energy_j, end.outcome.n_steps) == (None, None, None)
    assert (end.outcome.energy_source, end.started_at, end.system, end.node) == ("none", None, None, None)
    assert end.ended_at == 999.0


def test_a_verdicts_message_ends_with_the_logs_last_line() -> None:
    end = verdict(evidence(exit=ended(1), log_tail="Traceback\nValueError: shapes differ"), now=0.0)

    assert end.outcome.message == (
        "the worker ended with status 1 and wrote no outcome\nTraceback\nValueError: shapes differ"
    )
