"""Folders and addresses from the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.settings import Settings


def test_a_new_home_is_for_its_owner_alone_and_an_existing_one_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0o022)
    try:
        monkeypatch.setenv("AGR_HOME", str(tmp_path / "new" / "home"))
        assert Settings.from_environment().home.stat().st_mode & 0o777 == 0o700
        shared = tmp_path / "shared"
        shared.mkdir(mode=0o750)
        monkeypatch.setenv("AGR_HOME", str(shared))
        assert Settings.from_environment().home.stat().st_mode & 0o777 == 0o750
    finally:
        os.umask(before)


def test_a_home_that_cannot_be_made_is_no_error_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AGR_HOME", str(tmp_path / "file" / "home"))
    assert Settings.from_environment().home == tmp_path / "file" / "home"
