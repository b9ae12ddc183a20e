"""What doctor says of the image that workers run in."""

from pathlib import Path
from typing import Any

from tests.doctor.sites import make_site
from tests.sif import write_sif
from xautolm_hpc.doctor import images
from xautolm_hpc.view import Finding

LABELS = {"xautolm.lock.sha256": "ab" * 32, "org.opencontainers.image.version": "1.2.3", "xautolm.torch": "cpu"}


def site_of(folder: Path, *, labels: dict[str, str] = LABELS, **profile: Any) -> Any:
    """Make a site whose profile names an image."""
    path = write_sif(folder / "worker.sif", labels=labels)
    section = {"image": str(path), **profile.pop("container", {})}
    return make_site(folder, worker_python=None, container=section, **profile)


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_without_an_image_nothing_is_said(tmp_path: Path) -> None:
    site = make_site(tmp_path)

    assert [*images.check_image(site), *images.check_binds(site), *images.check_apptainer(site)] == []


def test_a_whole_image_is_ok_and_says_its_version_and_lock(tmp_path: Path) -> None:
    finding = only(images.check_image(site_of(tmp_path)))

    assert finding.level == "ok"
    assert "is whole, for amd64, version 1.2.3, lock abababababab" in finding.found


def test_an_image_that_is_cut_short_and_an_unsigned_one_are_failures(tmp_path: Path) -> None:
    signed = site_of(tmp_path, container={"verify_key": "/nowhere/key.pem", "program": "false"})
    unsigned = only(images.check_image(signed))
    cut = site_of(tmp_path)
    path = tmp_path / "worker.sif"
    path.write_bytes(path.read_bytes()[:-1])

    assert (unsigned.level, "no valid signature of the key" in unsigned.found) == ("failure", True)
    finding = only(images.check_image(cut))
    assert (finding.level, "is cut short" in finding.found) == ("failure", True)


def test_an_image_for_the_cpu_and_jobs_with_gpus_do_not_fit(tmp_path: Path) -> None:
    finding = only(images.check_image(site_of(tmp_path, job={"n_gpus": 2})))
    gpu_image = only(images.check_image(site_of(tmp_path, labels={"xautolm.torch": "cuda"}, job={"n_gpus": 2})))

    assert (finding.level, gpu_image.level) == ("failure", "ok")
    assert "holds torch for the CPU, and jobs ask for 2 GPUs" in finding.found


def test_a_bind_that_is_missing_is_a_failure(tmp_path: Path) -> None:
    good = only(images.check_binds(site_of(tmp_path)))
    bad = only(images.check_binds(site_of(tmp_path, container={"binds": ("/nowhere/x:/x",)})))

    assert (good.level, bad.level) == ("ok", "failure")
    assert "`/nowhere/x`" in bad.found


def test_no_apptainer_here_is_a_failure_only_where_trials_run_here(tmp_path: Path) -> None:
    absent = {"program": "no-such-apptainer"}
    on_slurm = only(images.check_apptainer(site_of(tmp_path, container=absent)))
    here = only(images.check_apptainer(site_of(tmp_path, container=absent, launcher="local")))

    assert (on_slurm.level, here.level) == ("warning", "failure")
    assert "`no-such-apptainer` is not on PATH" in here.found
