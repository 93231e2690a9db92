"""Children with limits: what they answer, and how they end when they take too much."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from agr_core.data.confined import ConfinedError, run_confined

MODULE = """
import os, sys, time

def answer():
    sys.stdout.buffer.write(" ".join(sys.argv[1:]).encode() + sys.stdin.buffer.read())

def take_memory():
    bytearray(900 * 2**20)

def never_end():
    time.sleep(60)

def crash():
    os.abort()

def fail():
    raise ValueError("an odd byte")
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Callable[[], None]]:
    """The function of a name."""
    (tmp_path / "confined_work.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda name: getattr(importlib.import_module("confined_work"), name)  # type: ignore[no-any-return]


def test_what_the_child_writes_comes_back(work: Callable[[str], Callable[[], None]], tmp_path: Path) -> None:
    assert run_confined(work("answer"), ["a", "b"], b" and this") == b"a b and this"
    (tmp_path / "data").write_bytes(b" and that")
    with (tmp_path / "data").open("rb") as file:
        assert run_confined(work("answer"), ["c"], file) == b"c and that"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("take_memory", "more than 800 MB of memory"),
        ("never_end", "more than 1 s"),
        ("crash", "its reader crashed, code -6"),
        ("fail", "ValueError: an odd byte"),
    ],
)
def test_a_child_that_fails_or_takes_too_much_is_one_error(
    name: str, reason: str, work: Callable[[str], Callable[[], None]]
) -> None:
    with pytest.raises(ConfinedError, match=reason):
        run_confined(work(name), [], b"", seconds=1)
