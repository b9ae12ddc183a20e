"""Slurm's commands as small programs on PATH that behave and remember: jobs, states, calls, refusals."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from xautolm_hpc.slurm import Slurm

PROGRAM = """#!{python} -S
import json, os, re, sys, time
state_path = {state_path!r}
state = json.load(open(state_path))
command, options = os.path.basename(sys.argv[0]), dict(a.partition("=")[::2] for a in sys.argv[1:])
state["calls"].append([command, *sys.argv[1:]])
state["environ"][command] = dict(os.environ)
answer = state["answers"].get(command)

def sbatch():
    text = open(sys.argv[-1]).read()
    name = re.search("--job-name=(.*)", text)[1]
    last = int(re.search("--array=0-([0-9]+)", text)[1])
    state["next_id"] += 1
    for index in range(last + 1):
        job = {{"name": name, "state": "PENDING", "in": ["squeue", "sacct"]}}
        state["jobs"][f"{{state['next_id']}}_{{index}}"] = job
    return str(state["next_id"])

def rows(source):
    names = options["--name"].split(",")
    for job_id, job in state["jobs"].items():
        if job["name"] in names and source in job["in"]:
            yield job_id, job

def squeue():
    if "--jobs" in options:
        return "dev|normal|gpu"
    more = {{"node": "", "priority": "9", "reason": "None"}}
    shown = [(i, j["name"], j["state"], *({{**more, **j}}[name] for name in more)) for i, j in rows("squeue")]
    return "\\n".join(map("|".join, shown))

def sacct():
    lines = []
    for i, j in rows("sacct"):
        shown = j.get("accounts", {{}})
        how = [shown.get("state", j["state"]), shown.get("code", "0:0")]
        lines.append("|".join([i, j["name"], *how, "n1", "1700000000", "None"]))
        lines += shown.get("steps", [])
    return "\\n".join(lines)

def scancel():
    for job_id in sys.argv[1:]:
        if job_id in state["jobs"]:
            state["jobs"][job_id]["state"] = "CANCELLED"
    return ""

def other():
    return ""

status, printed, complaint = 0, "", ""
if answer is None or answer.get("then_do"):
    printed = globals().get(command, other)()
if answer is not None:
    status, complaint, printed = answer["status"], answer["stderr"], answer.get("stdout", printed)
json.dump(state, open(state_path + ".new", "w"))
os.rename(state_path + ".new", state_path)
if answer is not None and answer.get("sleep_s"):
    time.sleep(answer["sleep_s"])
if printed:
    print(printed)
if complaint:
    print(complaint, file=sys.stderr)
sys.exit(status)
"""

COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo", "srun")


class FakeSlurm:
    """A Slurm whose commands lie in one folder.

    Args:
        folder: Folder to put commands and state in.
    """

    def __init__(self, folder: Path) -> None:
        self.bin_dir = folder / "slurm-bin"
        self.bin_dir.mkdir()
        self.state_path = folder / "slurm.json"
        self._write({"next_id": 100, "jobs": {}, "answers": {}, "calls": [], "environ": {}})
        text = PROGRAM.format(python=sys.executable, state_path=str(self.state_path))
        for name in COMMANDS:
            (self.bin_dir / name).write_text(text)
            (self.bin_dir / name).chmod(0o700)

    def client(self, *, timeout_s: float = 20.0, **environ: str) -> Slurm:
        """Give the commands as the package uses them."""
        return Slurm({"PATH": f"{self.bin_dir}:/usr/bin:/bin", **environ}, timeout_s=timeout_s)

    def answer(self, command: str, *, status: int = 0, stderr: str = "", **more: Any) -> None:
        """Script a command's answer: ``stdout``, ``sleep_s``, or ``then_do`` to act nevertheless."""
        state = self._read()
        state["answers"][command] = {"status": status, "stderr": stderr, **more}
        self._write(state)

    def behave(self, command: str) -> None:
        """Let a command act by itself again."""
        state = self._read()
        del state["answers"][command]
        self._write(state)

    def set_job(self, job_id: str, **fields: Any) -> None:
        """Change what is known of a job: ``state``, ``reason``, ``priority``, ``node``, ``in``, ``accounts``."""
        state = self._read()
        state["jobs"].setdefault(job_id, {"name": "", "state": "PENDING", "in": ["squeue", "sacct"]}).update(fields)
        self._write(state)

    def calls(self, command: str | None = None) -> list[list[str]]:
        """List the calls so far, of one command or all."""
        return [call for call in self._read()["calls"] if command in (None, call[0])]

    def environ_of(self, command: str) -> dict[str, str]:
        """Tell the environment a command was last called with."""
        found: dict[str, str] = self._read()["environ"][command]
        return found

    def _read(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.state_path.read_text())
        return state

    def _write(self, state: dict[str, Any]) -> None:
        self.state_path.write_text(json.dumps(state))


def write_command(folder: Path, name: str, answers: dict[str, str]) -> None:
    """Write a command that answers by a word among its arguments, and else fails."""
    cases = "".join(f'*" {word} "*) printf %s {shlex.quote(text)}; exit 0;;\n' for word, text in answers.items())
    (folder / name).write_text(f'#!/bin/sh\ncase " $* " in\n{cases}esac\nexit 1\n')
    (folder / name).chmod(0o700)
