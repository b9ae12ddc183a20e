"""A search whose trials end as a pure function of their pipeline; profile and job check are the real ones."""

import sys
from pathlib import Path

SEARCH = """
name = "stub"
profile = "site.toml"
[task]
name = "made-up"
[data]
path = "rows.jsonl"
[space]
models = ["minilm-l1", "minilm-l2", "minilm-l3", "minilm-l6"]
[search]
objectives = ["f1"]
population = 4
seed = 7
[budget]
generations = 1
[store]
path = "store"
"""

LOCAL = 'worker_python = "./worker"\n[local]\npoll_s = 0.1\n'

WORKER = """#!{python} -S
# Hands everything but trials to the real interpreter; a trial reports progress until `go` is there, then it ends.
import hashlib, json, os, sys, time
if "trial" not in sys.argv:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
began = time.time()
print("trial begins", file=sys.stderr, flush=True)
beat = dict(at=began, phase="train", step=30, n_steps=100, train_s=1.0)
json.dump(beat, open("heartbeat.tmp", "w"))
os.replace("heartbeat.tmp", "heartbeat-0.json")
while not os.path.exists({go!r}):
    time.sleep(0.05)
share = int.from_bytes(hashlib.sha256(open("pipeline.json", "rb").read()).digest()[:4], "big") / 2**32
outcome = dict(status="succeeded", metrics=dict(f1=round(share, 6)), evaluation_time_s=11.0, time_scope="job")
end = dict(
    outcome=outcome, system=None, restart=0, started_at=began, ended_at=time.time(), node=None, lock_hash=None,
    image_digest=None, package_version="stub",
)
json.dump(end, open("outcome.tmp", "w"))
os.link("outcome.tmp", "outcome.json")
"""


def write_stub_search(folder: Path, *, profile: str = LOCAL, text: str = SEARCH, waits: bool = False) -> Path:
    """Write a search, its data, its worker and the profile that names it.

    Args:
        folder: Folder for all of it.
        profile: The cluster profile; its worker is ``./worker``.
        text: The search file.
        waits: Whether trials wait until :func:`let_go`.

    Returns:
        The search file.
    """
    rows = "".join(f'{{"text": "words {n} of text", "label": "{"yes" if n % 3 else "no"}"}}\n' for n in range(120))
    (folder / "rows.jsonl").write_text(rows)
    worker = folder / "worker"
    worker.write_text(WORKER.format(python=sys.executable, go=str(folder / "go")))
    worker.chmod(0o755)
    (folder / "site.toml").write_text(profile)
    (folder / "search.toml").write_text(text)
    if not waits:
        let_go(folder)
    return folder / "search.toml"


def let_go(folder: Path) -> None:
    """Let the trials end."""
    (folder / "go").touch()
