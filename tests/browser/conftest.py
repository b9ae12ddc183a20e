"""A real Chromium without a window, and the report's page in it."""

import os
import shutil
import tarfile
from collections.abc import Iterator
from hashlib import sha512
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.report.large_run import large_run
from xautolm_hpc.report import write_report

AXE_VERSION = "4.14.1"
AXE_SHA512 = (
    "1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b73"
    "4f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5"
)
AXE_PATH = Path(__file__).resolve().parents[2] / "build" / f"axe-core-{AXE_VERSION}.tgz"
"""The archive of the npm registry, which `make test-browser` puts there."""

N_TRIALS = 200
WIDTH_PX, HEIGHT_PX = 1200, 900


@pytest.fixture(scope="session")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page of a run of many trials."""
    folder = tmp_path_factory.mktemp("report")
    write_report(large_run(N_TRIALS), folder)
    return folder / "report.html"


@pytest.fixture(scope="session")
def chromium() -> Iterator[webdriver.Chrome]:
    """Start Debian's Chromium; root, as in a container, has no sandbox."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    arguments = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", f"--window-size={WIDTH_PX},{HEIGHT_PX}"]
    for argument in [*arguments, *(["--no-sandbox"] if os.geteuid() == 0 else [])]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def page(chromium: webdriver.Chrome, page_path: Path) -> webdriver.Chrome:
    """Open the page anew, with the logs of the page before read and gone."""
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.get("about:blank")
    for kind in ("browser", "performance"):
        chromium.get_log(kind)
    chromium.get(page_path.as_uri())
    return chromium


@pytest.fixture(scope="session")
def axe() -> str:
    """Read the script of axe-core from the archive, whose digest is fixed here."""
    content = AXE_PATH.read_bytes()
    assert sha512(content).hexdigest() == AXE_SHA512
    with tarfile.open(AXE_PATH) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()
