"""Every block of the documents has a kind, and what it names exists: commands, options, settings, files.

Nothing is run here: ``test_pages.py`` does that.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main

from agr_core.config import TrialConfig
from orchestrator.cli.main import app
from orchestrator.spec.load import load_sweep, sweep_from_document
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.narrow import assignments, narrowed
from orchestrator.spec.source import parse_value
from tests.parts.documents import NIGHTLY, NOT_RUN, ROOT, Block, all_blocks, documents, inline_commands, simple_commands

BLOCKS = all_blocks()

REQUIRED: dict[str, Any] = {"name": "x", "objective": {"metric": "val/age_mae", "direction": "minimize"}}
RANDOM: dict[str, Any] = {"search": {"algorithm": "random", "trials": 2}}
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")} - {"build"}
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))


def each(*languages: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in languages], ids=str)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_says_what_it_is(block: Block) -> None:
    assert block.language in {"bash", "console", "text", "json", "yaml", "python"}
    if block.language in {"bash", "python"} and block.attributes:
        assert block.title.startswith((NIGHTLY, NOT_RUN)), block.attributes
        assert len(block.title.partition(": ")[2].split()) > 1, "the title gives no reason"
    elif block.language != "console":
        assert block.attributes == ""
        assert not re.search(r"^[\w-]*\$ ", block.text, flags=re.MULTILINE), "a recorded session is ```console"


# --------------------------------------------------------------------------------------------------------------------
# Commands


@each("bash", "console")
def test_the_commands_of_a_block_exist(block: Block) -> None:
    check_script(block.script)


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_in_running_text_exist(document: Path) -> None:
    """There, arguments may be missing: `agr resume` names the command."""
    for words in inline_commands(document):
        try:
            parse_agr(words[1:], given="part")
        except Exception as error:
            raise AssertionError(f"{' '.join(words)}: {error}") from error


@pytest.mark.parametrize(
    "line",
    [
        "agr lisst",
        "agr data unpack faces",
        "agr submit",
        "agr list faces more",
        "agr leaderboard faces --nope",
        "agr leaderboard faces --top ten",
        "cd x && agr stack upp | tail",
        'eval "$(agr stack environment)"',
        "ssh HEAD agr cluster tokens > file",
        "agr submit sweeps/gone.yaml",
        "agr submit sweeps/quickstart.yaml --set serach.trials=8",
        "agr submit faces.yaml --set serach.trials=8",
        "agr submit sweeps/quickstart.yaml --profile gone",
        "agr rerun best --set optimizer.rate=1",
        "agr enqueue faces model.name=resnet19",
        "agr narrow quickstart optimizer.rate='[1, 2]'",
        "agr narrow quickstart optimizer.lr='{loguniform: [1, 2]}'",
        "agr set faces concurency=4",
        "make gone",
        "python -m orchestrator.gone",
    ],
)
def test_a_command_that_does_not_exist_is_noticed(line: str) -> None:
    with pytest.raises(AssertionError):
        check_script(line)


def check_script(script: str) -> None:
    commands = list(simple_commands(script))
    assert commands, "the block has no command"
    for words in commands:
        check_command(words)


def check_command(words: list[str]) -> None:
    match words:
        case ["agr", *arguments]:
            check_agr(arguments)
        case ["make", *rest]:
            assert {word for word in rest if "=" not in word} <= TARGETS, f"make has no target of {rest}"
        case [program, "-m", module, *_] if program.startswith("python"):
            assert importlib.util.find_spec(module) is not None, f"there is no module {module}"
        case _:
            pass
    for word in words:
        path = re.sub(r"^@|^\./", "", word.rpartition("=")[2])
        if path.partition("/")[0] in FOLDERS and "/" in path:
            assert (ROOT / path).exists() or path == "infra/services/.env", f"there is no {path}"


def check_agr(arguments: list[str]) -> None:
    """The command line parses, and each setting is a field of what it changes."""
    try:
        command, parameters = parse_agr(arguments)
        settings = next(filter(None, map(parameters.get, ("settings", "assignments", "overrides"))), [])
        file = ROOT / str(parameters.get("file", ""))
        if command in {"submit", "validate", "plan", "check"} and file.is_file():
            load_sweep(file, profile=parameters.get("profile"), overrides=settings)
        elif command in {"rerun", "enqueue"}:
            sweep_from_document(REQUIRED, overrides=[f"trial.{setting}" for setting in settings])
        elif command == "narrow":
            file = ROOT / f"sweeps/{parameters['sweep']}.yaml"  # the page names a shipped sweep
            narrowed(load_sweep(file).space, assignments(settings, example=""))
        else:
            assert not [setting for setting in settings if re.split("[.=]", setting)[0] not in SweepSpec.model_fields]
    except typer.Exit:  # --version
        pass
    except Exception as error:
        raise AssertionError(f"agr {' '.join(arguments)}: {error}") from error


def parse_agr(arguments: list[str], *, given: str = "all") -> tuple[str, dict[str, Any]]:
    """Parse a command line as ``agr`` does, without running it; return command and parameters.

    Args:
        arguments: The words after ``agr``.
        given: ``part``: arguments may be missing.

    Raises:
        Exception: Typer's own, if there is no such command or option, a value is of another type, or one is missing.
    """
    part = given == "part"
    context = typer.main.get_command(app).make_context("agr", list(arguments), resilient_parsing=part)
    path: list[str] = []
    while hasattr(context.command, "resolve_command"):
        words = [*context._protected_args, *context.args]
        if part and not words:
            break
        name, command, rest = context.command.resolve_command(context, words)
        if command is None:
            raise LookupError(f"agr {' '.join(path)} has no command {words[0]!r}")
        path.append(name)
        context = command.make_context(name, rest, parent=context, resilient_parsing=part)
    return " ".join(path), context.params


# --------------------------------------------------------------------------------------------------------------------
# Sweep files


@each("yaml")
def test_a_sweep_file_is_valid(block: Block, tmp_path: Path) -> None:
    document = parse_value(block.text, file=block.document)
    assert isinstance(document, dict)
    if not document.keys() & SweepSpec.model_fields.keys():  # part of a trial
        assert document.keys() <= TrialConfig.model_fields.keys()
        document = {"trial": document}
    if "extends" in document:
        _check_layers(block, document, tmp_path)
    elif "start" in document.get("search", {}):
        _check_start(document)
    else:
        search = RANDOM if "space" in document else {}
        assert sweep_from_document(REQUIRED | search | document).warnings == ()


def _check_start(document: dict[str, Any]) -> None:
    *written, trial = document["search"]["start"]
    assert re.fullmatch(r"[0-9a-f]{8}", trial), "a trial stands for its configuration, which only a storage knows"
    search = {"search": document["search"] | {"start": written}}
    assert sweep_from_document(REQUIRED | document | search).warnings == ()


def _check_layers(block: Block, document: dict[str, Any], folder: Path) -> None:
    varies = {"space": {"batch_size": {"randint": [8, 64]}, "augment": ["none", "light"]}}
    trial = {"schedule": {"name": "constant", "epochs": 9}}
    (folder / "base.yaml").write_text(json.dumps(REQUIRED | RANDOM | varies | {"trial": trial}))
    (folder / "mine").mkdir()
    (folder / "mine/sweep.yaml").write_text(block.text)
    for profile in (None, *document["profiles"]):
        assert load_sweep(folder / "mine/sweep.yaml", profile=profile).warnings == ()


# --------------------------------------------------------------------------------------------------------------------
# Code


@each("python")
def test_code_is_python_and_imports_what_exists(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            module = importlib.import_module(node.module)
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert not missing, f"{node.module} has no {missing}"
        elif isinstance(node, ast.Import):
            assert all(importlib.util.find_spec(alias.name.partition(".")[0]) for alias in node.names)


@each("json")
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)
