"""Four-bit weights where they cannot be had: on a CPU, in a sharded model, without the library."""

import pytest
import torch

from xautolm_hpc.execution import AS_DRAWN, Execution
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.frozen import nf4
from xautolm_hpc.train.frozen.nf4 import check_nf4

CPU = torch.device("cpu")


def test_without_a_gpu_nf4_is_unsupported() -> None:
    with pytest.raises(TrialError, match="quantization = nf4 needs a GPU; this trial runs on cpu") as caught:
        check_nf4(CPU, execution=AS_DRAWN, is_rounded_only=False)

    assert caught.value.kind == "unsupported"


def test_a_sharded_model_is_not_quantised() -> None:
    with pytest.raises(TrialError, match="not for models that are sharded") as caught:
        check_nf4(torch.device("cuda"), execution=Execution(sharded=True), is_rounded_only=False)

    assert caught.value.kind == "unsupported"


def test_without_the_library_nf4_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nf4, "find_spec", lambda name: None)

    with pytest.raises(TrialError, match="needs the package bitsandbytes, which the worker's environment lacks"):
        check_nf4(CPU, execution=AS_DRAWN, is_rounded_only=True)
