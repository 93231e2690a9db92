"""The files of reports S0 to S2 without a profile, in small (``tests/parts/shipped.py``); the others beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parts.seeds import NAMES, draw
from tests.parts.shipped import check_as_shipped

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn data, storage and cache for all files."""
    folder = tmp_path_factory.mktemp("shipped")
    draw(folder / "drawn", images=240, size=32, seed=7)
    return folder


@pytest.mark.parametrize("name", [name for name in NAMES if name[:2] in ("s0", "s1", "s2")])
def test_a_file_runs_as_shipped(name: str, room: Path) -> None:
    check_as_shipped(name, room)
