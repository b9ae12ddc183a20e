"""What a worker imports."""

import subprocess
import sys

TRIAL = """
import sys
from xautolm_hpc.train.libraries import leave_out_scipy
leave_out_scipy()
import xautolm_hpc.train.finetune
print("scipy.optimize" in sys.modules)
from transformers.utils import is_scipy_available
import scipy.optimize
print(is_scipy_available(), scipy.optimize.brentq(lambda x: x - 2, 0, 5))
"""
ARRANGED_OTHERWISE = """
from transformers import utils
del utils.is_scipy_available
from xautolm_hpc.train.libraries import leave_out_scipy
leave_out_scipy()
print(hasattr(utils, "is_scipy_available"))
"""


def test_a_trial_imports_no_scipy_and_whatever_needs_it_gets_it() -> None:
    assert _said(TRIAL).splitlines() == ["False", "True 2.0"]


def test_a_transformers_that_is_arranged_otherwise_is_left_as_it_is() -> None:
    assert _said(ARRANGED_OTHERWISE) == "False\n"


def _said(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
