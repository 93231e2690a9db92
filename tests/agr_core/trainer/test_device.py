from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from agr_core.config import ComputeConfig
from agr_core.errors import ConfigError
from agr_core.trainer.device import autocast, choose_device, grad_scaler

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


@no_gpu
def test_auto_is_the_cpu_without_a_gpu() -> None:
    assert choose_device(ComputeConfig(device="auto")) == torch.device("cpu")


@no_gpu
def test_cuda_without_a_gpu_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"compute\.device=cuda.*no GPU.*use auto or cpu"):
        choose_device(ComputeConfig(device="cuda"))


@no_gpu
def test_fp16_where_auto_finds_no_gpu_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"compute\.amp=fp16 needs a GPU.*bf16 or none"):
        choose_device(ComputeConfig(device="auto", amp="fp16"))


def test_fp16_on_the_cpu_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValidationError, match="fp16 needs a GPU; on the CPU use bf16 or none"):
        ComputeConfig(device="cpu", amp="fp16")


@pytest.mark.parametrize(("amp", "dtype"), [("none", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_the_precision_asked_for(amp: str, dtype: torch.dtype) -> None:
    with autocast(ComputeConfig(amp=amp), torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_only_fp16_scales_the_loss() -> None:
    assert not grad_scaler(ComputeConfig(amp="bf16"), torch.device("cpu")).is_enabled()
    assert not grad_scaler(ComputeConfig(amp="none"), torch.device("cpu")).is_enabled()
