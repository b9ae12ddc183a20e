"""The plan of a search on a terminal: what ``run`` would do first."""

import shlex
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from xautolm_hpc.report.blocks import Section, Table
from xautolm_hpc.report.prior_sections import prior_sections
from xautolm_hpc.report.quantities import UNKNOWN, counted, duration_text, value_text
from xautolm_hpc.report.safe_text import escape_controls
from xautolm_hpc.report.screen import print_section
from xautolm_hpc.report.summary import summarise_prior

Plan = Mapping[str, Any]
GIB, MIB = 2**30, 2**20


def print_plan(plan: Plan, console: Console) -> None:
    """Print a plan.

    Args:
        plan: What ``plan --json`` prints.
        console: Output; batch scripts are neither wrapped nor coloured, so that they can be copied.
    """
    for section in plan_sections(plan):
        print_section(section, console)
    for array in plan["arrays"]:
        answer = f"sbatch --test-only: {array['said']}"
        title = f"Array {array['name']}: {counted(array['n_jobs'], 'job')}"
        print_section(Section(title=title, lines=(answer,)), console)
        console.print(Text(escape_controls(array["script"])), soft_wrap=True)


def plan_sections(plan: Plan) -> list[Section]:
    """Build all sections but the batch scripts, in reading order.

    Args:
        plan: What ``plan --json`` prints.
    """
    return [
        _overview(plan),
        _trials(plan),
        _foreseen(plan),
        _rejections(plan),
        _disk(plan["disk"]),
        *prior_sections(summarise_prior(plan["prior"])),
    ]


def _overview(plan: Plan) -> Section:
    """Build the overview: task, node, job and worker."""
    task, system, job = plan["task"], plan["system"], plan["resources"]
    rows = ", ".join(f"{task[f'n_{name}']:,} {name}" for name in ("train", "dev", "validation", "test"))
    state = "exists: `run` resumes it; this is how it began" if plan["run_exists"] else "not started"
    return Section(
        title=f"Plan of {plan['name']}",
        facts=(
            ("Run folder", f"{plan['run_dir']} ({state})"),
            ("Task", f"{task['name']}, {task['kind']}: {rows}"),
            ("Node", _node_text(system)),
            ("Each job", _job_text(job)),
            ("Worker", shlex.join(plan["worker_command"])),
            ("At once", counted(plan["n_parallel"], "job")),
        ),
        lines=tuple(plan["notes"]),
    )


def _node_text(system: Mapping[str, Any]) -> str:
    """Write what is known of the node that a trial runs on."""
    cores, ram, n_gpus = system["n_cpu_cores"], system["ram_bytes"], system["n_gpus"]
    parts = [
        f"{system['cluster']} at {system['site']}",
        UNKNOWN if cores is None else counted(cores, "core"),
        UNKNOWN if ram is None else f"{ram / GIB:.0f} GiB",
        "no GPU" if not n_gpus else f"{n_gpus} x {system['gpu_name'] or 'GPU of unknown kind'}",
    ]
    return ", ".join(parts)


def _job_text(job: Mapping[str, Any]) -> str:
    nodes = "" if job["n_nodes"] == 1 else f"{job['n_nodes']} nodes, each "
    resources = f"{counted(job['n_cpus'], 'core')}, {counted(job['n_gpus'], 'GPU')}, {job['memory_bytes'] / GIB:g} GiB"
    return f"{nodes}{resources}, at most {duration_text(job['time_limit_s'])}"


def _trials(plan: Plan) -> Section:
    """List the pipelines of the first generation."""
    rows = tuple(
        (
            str(trial["trial"]),
            trial["pipeline"]["model_id"],
            trial["pipeline"]["method"],
            ", ".join(f"{name} {value_text(value)}" for name, value in sorted(trial["pipeline"]["params"].items())),
        )
        for trial in plan["trials"]
    )
    columns = ("Trial", "Model", "Method", "Hyperparameters")
    table = Table(columns, rows, right=frozenset({"Trial"}), wraps=frozenset({"Hyperparameters"}))
    return Section(title="Pipelines of generation 0", table=table)


def _foreseen(plan: Plan) -> Section:
    """List what is foreseen of each of them: memory of what there is, how steps are computed, time."""
    pairs = zip(plan["trials"], plan["foreseen"], strict=True)
    rows = tuple((str(trial["trial"]), *_foreseen_cells(trial, foreseen)) for trial, foreseen in pairs)
    columns = ("Trial", "Memory", "Micro-batch", "Checkpointing", "Steps", "Time", "At least")
    right = frozenset({"Trial", "Memory", "Micro-batch", "Time", "At least"})
    return Section(title="What is foreseen of them", table=Table(columns, rows, right=right))


def _foreseen_cells(trial: Mapping[str, Any], foreseen: Mapping[str, Any]) -> tuple[str, ...]:
    """Write what is foreseen of a trial."""
    available, batch = foreseen["available_bytes"], trial["pipeline"]["params"].get("batch_size", 1)
    there_is = UNKNOWN if available is None else f"{available / GIB:.1f}"
    times = (
        duration_text(foreseen[name]) if foreseen[name] else UNKNOWN for name in ("seconds", "least_s")
    )  # fmt: skip
    return (
        f"{foreseen['memory_bytes'] / GIB:.1f} of {there_is} GiB",
        f"{foreseen['micro_batch']} of {batch}",
        "yes" if foreseen["gradient_checkpointing"] else "no",
        foreseen["step"],
        *times,
    )


def _rejections(plan: Plan) -> Section:
    """Count the draws that each constraint rejected, with one of its reasons."""
    reasons = plan["refusal_reasons"]
    rows = tuple((name, str(count), "".join(reasons.get(name, ())[:1])) for name, count in plan["refusals"].items())
    lines = () if rows else ("No draw was rejected.",)
    columns = ("Constraint", "Draws rejected", "For instance")
    wraps = frozenset({"For instance"})
    table = Table(columns, rows, right=frozenset({"Draws rejected"}), wraps=wraps) if rows else None
    return Section(title="Rejected before submission", lines=lines, table=table)


def _disk(disk: Mapping[str, int]) -> Section:
    """Compare the run's peak disk use with the free space."""
    is_short = disk["peak_bytes"] > disk["free_bytes"]
    parts = {"checkpoints": "checkpoint_bytes", "data": "data_bytes", "records and logs": "files_bytes"}
    shares = ", ".join(f"{name} {disk[key] / MIB:,.1f} MiB" for name, key in parts.items())
    return Section(
        title="Disk",
        facts=(
            ("Peak", f"about {disk['peak_bytes'] / MIB:,.0f} MiB: {shares}"),
            ("Free", f"{disk['free_bytes'] / MIB:,.0f} MiB"),
        ),
        lines=("Too little free space: free some, or give another folder with --runs-dir.",) if is_short else (),
    )
