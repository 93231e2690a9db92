from __future__ import annotations

import sys

import psutil
import pytest
import torch

from agr_core.trainer.memory import give_back_freed_memory, keep_freed_memory

BYTES = 256 << 20


def _resident() -> int:
    resident: int = psutil.Process().memory_info().rss
    return resident


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_stays_until_it_is_given_back() -> None:
    keep_freed_memory()
    give_back_freed_memory()
    before = _resident()
    tensor = torch.ones(BYTES // 4)
    assert _resident() - before > 0.9 * BYTES
    del tensor
    assert _resident() - before > 0.9 * BYTES
    give_back_freed_memory()
    assert _resident() - before < 0.1 * BYTES
