from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import psutil, torch
from agr_core.trainer.memory import give_back_freed_memory, keep_freed_memory

BYTES = 256 << 20
resident = lambda: psutil.Process().memory_info().rss
keep_freed_memory()
give_back_freed_memory()
before = resident()
tensor = torch.ones(BYTES // 4)
print((resident() - before) / BYTES)
del tensor
print((resident() - before) / BYTES)
give_back_freed_memory()
print((resident() - before) / BYTES)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_stays_until_it_is_given_back() -> None:
    # In a process of its own: what other tests have freed in this one would be used again and not be seen.
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    held, freed, given_back = (float(line) for line in done.stdout.split())
    assert held > 0.9
    assert freed > 0.9
    assert given_back < 0.1
