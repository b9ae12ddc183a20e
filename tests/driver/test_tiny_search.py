"""The smallest whole search, for real: profile, sampling, jobs, training on a real model, store, report."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.driving import projection
from tests.searching import run_command
from xautolm_hpc.store import ExperienceStore

TINY_PATH = Path(__file__).resolve().parents[2] / "examples" / "tiny.toml"
SECRETS = {
    "HF_TOKEN": "hf_planted4711token",
    "SITE_API_KEY": "planted-key-0815",
    "DB_PASSWORD": "planted-password-1234",
}


@pytest.mark.slow
def test_the_tiny_example_runs_whole_and_leaks_no_secret(tmp_path: Path) -> None:
    # Beside other work of the machine two minutes may be too short for a trial; it would be tried again.
    run = ("run", str(TINY_PATH), "--quiet", "--set", "store.path=store", "--set", "trial.time_limit_min=15")

    first = run_command(tmp_path, *run, environ=SECRETS)
    stored = projection(tmp_path)
    again = run_command(tmp_path, *run, environ=SECRETS)
    views = {
        name: json.loads(run_command(tmp_path, name, "tiny", "--json").stdout)
        for name in ("report", "status", "priors")
    }

    best_trial = views["report"]["best"]["trial"]
    exported = run_command(tmp_path, "export-model", "tiny", str(best_trial), "--to", "exported")

    assert exported.returncode == 0, exported.stderr
    assert len({path.stat().st_mode for path in (tmp_path / "exported").iterdir()}) == 1
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert projection(tmp_path) == stored
    experiences = ExperienceStore(tmp_path / "store").read()
    assert Counter(e.provenance.trial for e in experiences) == dict.fromkeys(range(8), 1)
    assert [e.outcome.message for e in experiences if not e.outcome.succeeded] == []
    assert all(e.provenance.lock_hash and e.outcome.evaluation_time_s for e in experiences)
    best = max(e.outcome.metrics["f1"] for e in experiences)
    assert views["report"]["best"]["metrics"]["f1"] == best
    assert best > views["report"]["majority_f1"] + 0.15
    assert views["status"]["n_succeeded"] == 8
    assert views["priors"]["kind"] == "uniform"
    for path in [*tmp_path.rglob("*"), tmp_path / "said.log"]:
        content = path.read_bytes() if path.is_file() else b""
        assert [name for name, value in SECRETS.items() if value.encode() in content] == [], path
    assert all(value not in first.stdout + first.stderr for value in SECRETS.values())
