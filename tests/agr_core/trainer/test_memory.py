from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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

OF_A_FILE = """
import mmap, sys
import psutil
from agr_core.trainer.memory import held_bytes

BYTES = 128 << 20
with open(sys.argv[1], "wb+") as file:
    file.truncate(BYTES)
    mapped = mmap.mmap(file.fileno(), BYTES)
    before, resident = held_bytes(), psutil.Process().memory_info().rss
    sum(mapped[::4096])
    print((held_bytes() - before) / BYTES, (psutil.Process().memory_info().rss - resident) / BYTES)
    kept = bytearray(BYTES)
    print((held_bytes() - before) / BYTES)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_stays_until_it_is_given_back() -> None:
    # In a process of its own: what other tests have freed in this one would be used again and not be seen.
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    held, freed, given_back = (float(line) for line in done.stdout.split())
    assert held > 0.9
    assert freed > 0.9
    assert given_back < 0.1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="read from /proc")
def test_what_a_process_holds_is_its_own_memory_and_no_file_that_it_maps(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OF_A_FILE, str(tmp_path / "file")], capture_output=True, text=True, check=True
    )
    held_of_file, resident_of_file, held = (float(figure) for figure in done.stdout.split())
    assert resident_of_file > 0.9
    assert held_of_file < 0.1
    assert 0.9 < held < 1.1
