"""The node's test of itself."""

from pathlib import Path

import pytest

from xautolm_hpc.durable import read_json
from xautolm_hpc.records import from_json
from xautolm_hpc.train.selftest import CHECK, run_test
from xautolm_hpc.view import Finding


def gpu_finding(folder: Path, *, driver_dir: str | None, n_promised: int = 1) -> Finding:
    """Run the test and return what it says of the GPUs."""
    folder.mkdir()
    run_test(folder, visible_gpus="0", n_promised_gpus=n_promised, driver_dir=driver_dir)
    findings = [from_json(Finding, row, where=CHECK) for row in read_json(folder / CHECK)["findings"]]
    return next(finding for finding in findings if finding.check == "GPUs of the job")


def test_an_image_that_lacks_the_nodes_driver_is_told_the_folder_and_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = "xautolm_hpc.train.selftest.DRIVER_LIBRARIES"
    monkeypatch.setattr(libraries, ("libc.so.6", "libno-such-driver.so.1"))
    part = gpu_finding(tmp_path / "part", driver_dir="/opt/driver")
    monkeypatch.setattr(libraries, ("libc.so.6",))
    whole = gpu_finding(tmp_path / "whole", driver_dir="/opt/driver", n_promised=0)

    assert (part.level, part.found) == (
        "failure",
        "the node has its driver in `/opt/driver`, and the image lacks libno-such-driver.so.1",
    )
    assert part.remedy == 'set driver_path = "/opt/driver" in [container] of the profile'
    assert whole.level == "ok"
