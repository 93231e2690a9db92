"""docs/bring-your-faces.md: its commands run, one after the other, as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agr_core.data.packed.pack import Packed
from orchestrator.cli.main import app

PAGE = Path(__file__).parents[1] / "docs" / "bring-your-faces.md"


def test_the_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) >= 5
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "agr"
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"{command}: {result.output}"
    older = Packed.open(tmp_path / "older")
    assert older.vocabulary.races == ()
    assert Packed.open(tmp_path / "again").digest == older.digest
