"""``agr`` itself: its list of commands, what it imports, and completion."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result

import orchestrator.cli
from orchestrator.cli.lazy import COMMANDS, GROUPS, load

BIN = Path(sys.executable).parent

HEAVY = {"agr_core", "boto3", "mlflow", "numpy", "optuna", "pandas", "pydantic", "ray", "ruamel", "torch"}


def test_the_version_is_the_projects(agr: Callable[..., Result]) -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert agr("--version").stdout == f"agr {project['version']}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_listed_with_the_first_paragraph_of_its_help(name: str) -> None:
    command = load(name)
    paragraph = re.sub(r"\s+", " ", (command.help or "").partition("\n\n")[0])
    assert (COMMANDS[name].help, COMMANDS[name].hidden) == (paragraph, command.hidden)


def test_every_command_of_a_module_is_listed() -> None:
    modules = {listed.module for listed in COMMANDS.values()}
    for module in pkgutil.iter_modules(orchestrator.cli.__path__, "orchestrator.cli."):
        register = getattr(importlib.import_module(module.name), "register", None)
        if register is not None:
            assert module.name.rpartition(".")[2] in modules
            register(app := typer.Typer())
            assert typer.main.get_group(app).commands.keys() <= COMMANDS.keys()


def test_the_list_of_commands_imports_no_command_and_nothing_heavy() -> None:
    script = (
        "import json, sys; from typer.testing import CliRunner; from orchestrator.cli.main import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported = set(json.loads(done.stdout))
    commands = {f"orchestrator.cli.{listed.module}" for listed in COMMANDS.values()}
    assert imported & (commands | HEAVY) == set()


def test_the_list_of_commands_is_in_panels_and_short_help_is_help(agr: Callable[..., Result]) -> None:
    text = agr("-h").stdout
    assert text == agr("--help").stdout
    places = [text.index(f"─ {panel} ─") for panel in GROUPS]
    assert places == sorted(places)
    shown = ("─ Start ─", "│ submit ", "─ Watch and control ─", "│ attach ")
    assert [text.index(words) for words in shown] == sorted(text.index(words) for words in shown)
    assert "Example: agr attach quickstart" in agr("attach", "-h").stdout
    assert "Usage" in agr("data", "stats", "-h").stdout


@pytest.mark.parametrize("name", [name for name, listed in COMMANDS.items() if not listed.hidden])
def test_every_help_has_an_example(name: str) -> None:
    command = load(name)
    for each in getattr(command, "commands", {name: command}).values():
        assert re.search(r"Examples?: ", each.help or ""), each.name


def test_a_mistyped_command_is_refused_with_the_nearest(agr: Callable[..., Result]) -> None:
    assert "Did you mean 'leaderboard'?" in agr("leaderbord", code=2).output


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("agr l", ["list", "logs", "leaderboard"]),
        ("agr dri", []),  # hidden
        ("agr data st", ["stats"]),
        ("agr leaderboard --st", ["--storage"]),
    ],
)
def test_the_shell_completes_commands_and_options(typed: str, completed: list[str]) -> None:
    bash = {"_AGR_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    assert complete(bash).split() == completed


def complete(asked: dict[str, str]) -> str:
    """What the script of ``agr --show-completion`` is answered."""
    return subprocess.run([BIN / "agr"], env=os.environ | asked, capture_output=True, text=True, check=True).stdout


def test_the_shell_completes_sweeps_and_trials_and_shows_what_they_are(
    record_sweep: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = record_sweep()
    worse, better = (
        sweep.trial(number, [value], params={"model.name": "resnet10t"}) for number, value in enumerate((9.0, 4.0))
    )
    sweep.end()
    monkeypatch.setenv("AGR_STORAGE", sweep.storage.uri)

    def fish(typed: str, word: str) -> list[list[str]]:
        asked = {"_AGR_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
        lines = complete(asked | {"_TYPER_COMPLETE_ARGS": f"{typed}{word}"}).splitlines()
        return [line.split("\t") for line in lines]

    assert fish("agr status ", "fa") == [[sweep.sweep_id, "completed, best 4"]]
    shown = fish("agr show ", "")
    assert [(trial, words.split()[1]) for trial, words in shown] == [(better, "4"), (worse, "9")]
    assert "resnet10t" in shown[0][1]
    assert [trial for trial, _ in fish("agr show ", f"faces/{worse[:5]}")] == [f"faces/{worse}"]
    monkeypatch.setenv("AGR_STORAGE", "s3://")
    assert fish("agr show ", "") == [[""]]  # nothing, and no message


def test_the_script_for_a_shell_is_shown(agr: Callable[..., Result]) -> None:
    assert "_AGR_COMPLETE" in agr("--show-completion", "bash").stdout


def test_the_schema_goes_to_a_checkouts_file_to_a_given_one_or_to_standard_output(
    agr: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = agr("schema").stdout
    assert json.loads(printed)["title"] == "SweepSpec"
    assert list(tmp_path.iterdir()) == []

    agr("schema", "-o", "mine.json")
    assert Path("mine.json").read_text() == printed

    Path("sweeps").mkdir()
    Path("sweeps/schema.json").write_text("old")
    assert agr("schema").stdout == ""
    assert Path("sweeps/schema.json").read_text() == printed
