"""The page about clusters, on a private Slurm: its commands run, in their order, for the models that are at hand."""

from pathlib import Path

import pytest

from slurm.dev.private import DevCluster
from tests.guide.pages import CLUSTER, GUIDE_DIR, type_line, typed

pytestmark = pytest.mark.slurm

FINDINGS = 4
ONE_MODEL = """--set 'space.models=["minilm-l1"]'"""
SMALL = {
    "xautolm-hpc plan ": f" {ONE_MODEL}",
    "xautolm-hpc run ": f" --quiet {ONE_MODEL} --set budget.trials=1 --set search.population=1",
}
"""Beginning of a command -> what makes the search small: the page's models would have to be fetched."""


@pytest.mark.timeout(600)
def test_the_commands_of_the_page_run(accounting_cluster: DevCluster, tmp_path: Path) -> None:
    lines = [f"case {number} was handled well,{'good' if number % 2 else 'bad'}" for number in range(200)]
    (tmp_path / "reviews.csv").write_text("\n".join(["comment,verdict", *lines]) + "\n")
    (tmp_path / "cache").mkdir()  # as prefetch makes it
    environ = {"SLURM_CONF": accounting_cluster.environ["SLURM_CONF"], "HF_HOME": str(tmp_path / "cache")}

    for command in typed(GUIDE_DIR / CLUSTER):
        if not command.is_run:
            continue
        more = next((text for beginning, text in SMALL.items() if command.line.startswith(beginning)), "")
        ended = type_line(command.line + more, tmp_path, environ=environ)
        allowed = {0, FINDINGS} if " doctor " in command.line else {0}
        assert ended.returncode in allowed, f"{command}: {ended.returncode}: {ended.stdout[-2000:]}{ended.stderr}"
        if command.line == "xautolm-hpc init --profile":
            _shrink(tmp_path / "cluster.toml")


def _shrink(path: Path) -> None:
    """Ask for what this machine really has, and not for a GPU, which the private Slurm only pretends to have."""
    text = path.read_text()
    for line in text.splitlines():
        if line.startswith(("memory_gb", "n_cpus", "n_gpus", "gres")):
            small = {"memory_gb": "memory_gb = 3", "n_cpus": "n_cpus = 1"}.get(line.split(" ")[0], "")
            text = text.replace(line, small)
    path.write_text(text)
