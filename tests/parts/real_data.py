"""Published data sets, which are not in the repository: of AGR_TEST_DATA, or of ``data`` in a folder beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.parts.documents import ROOT

VARIABLE = "AGR_TEST_DATA"


def real_data(path: str) -> Path:
    """Return a file or folder of the data, such as ``utkface/UTKFace_8k.tar``; skip the test without it.

    Raises:
        AssertionError: If the variable is set and the file is not there.
    """
    folder = os.environ.get(VARIABLE)
    if folder is not None:
        assert Path(folder, path).exists(), f"{VARIABLE}={folder} holds no {path}"
        return Path(folder, path)
    found = sorted(ROOT.parent.glob(f"*/data/{path}"))
    if not found:
        pytest.skip(f"there is no {path}: set {VARIABLE} to the folder that holds it")
    return found[0]
